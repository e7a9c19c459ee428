"""Decoded tasks with what they keep from run to run: the least recently used are given up where it is too much."""

from __future__ import annotations

from collections import OrderedDict

from rocketnpu.emulator.machine import Task

_MOST_TASKS = 4096
_MOST_BYTES = 384 << 20
"""YOLOv5n at 640x640 needs 357 MB. A task that was given up is made ready again: a larger model takes more time, not
more memory (PP-OCR's detection at 480x640 as much time as with 2 GB)."""


class TaskCache:
    """Tasks by what they were decoded from, the most recently used last."""

    def __init__(self) -> None:
        self._tasks: OrderedDict[object, tuple[Task, int]] = OrderedDict()
        self._kept_bytes = 0

    def find(self, key: object) -> Task | None:
        """The task, which is then the most recently used."""
        known = self._tasks.get(key)
        if known is None:
            return None
        self._tasks.move_to_end(key)
        return known[0]

    def keep(self, key: object, task: Task) -> None:
        """Put a task there, or count again what it keeps; gives up others, never this one."""
        _, before = self._tasks.pop(key, (task, 0))
        self._tasks[key] = task, task.kept_bytes
        self._kept_bytes += task.kept_bytes - before
        while len(self._tasks) > 1 and (len(self._tasks) > _MOST_TASKS or self._kept_bytes > _MOST_BYTES):
            _, (_, size_bytes) = self._tasks.popitem(last=False)
            self._kept_bytes -= size_bytes
