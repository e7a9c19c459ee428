"""Failures on demand: what goes wrong, and at which call or task.

A specification is a list with commas between its parts: `WHAT@WHERE:N`, meaning at the N-th (from 1) event WHERE.

    EINTR@submit:2      the 2nd SUBMIT fails with this errno and does nothing (any errno name; any call below)
    hang@task:5         the 5th task that is kicked never completes
    page-fault@task:5   the 5th task that is kicked meets an address space without mappings
    remove@prep:3       at the 3rd PREP_BO the device disappears: from then on every call fails with ENODEV
    kill@submit:1       at the 1st SUBMIT the server ends at once, without an answer
"""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass

from rocketnpu.errors import Error

HANG, PAGE_FAULT, REMOVE, KILL = "hang", "page-fault", "remove", "kill"
TASK, ANY_CALL, OPEN, MMAP = "task", "call", "open", "mmap"
CALLS = (
    ANY_CALL,
    OPEN,
    MMAP,
    "version",
    "gem_close",
    "create_bo",
    "submit",
    "prep_bo",
    "fini_bo",
    "action",
    "mem_create",
    "mem_map",
    "mem_destroy",
    "mem_sync",
)
"""What calls are named; `call` counts them all."""


@dataclass(frozen=True)
class Fault:
    """`what` (a word above or an errno name) happens at the `number`-th event `where`."""

    what: str
    where: str
    number: int


def parse(text: str) -> tuple[Fault, ...]:
    """The faults of a specification; raises Error for what it does not know."""
    return tuple(_parse(part) for part in text.split(",") if part)


def _parse(part: str) -> Fault:
    what, _, rest = part.partition("@")
    where, _, number = rest.partition(":")
    if not (number.isascii() and number.isdigit() and int(number) >= 1):
        raise Error(f"fault {part!r}: write WHAT@WHERE:N with N from 1, as in EINTR@submit:2")
    on_task = what in (HANG, PAGE_FAULT)
    if not on_task and what not in (REMOVE, KILL) and not isinstance(getattr(errno, what, None), int):
        raise Error(f"fault {part!r}: {what!r} is neither {HANG}, {PAGE_FAULT}, {REMOVE}, {KILL} nor an errno name")
    known = (TASK,) if on_task else CALLS
    if where not in known:
        raise Error(f"fault {part!r}: {what} happens at {', '.join(known)}, not at {where!r}")
    return Fault(what, where, int(number))


class FaultPlan:
    """Counts events and says what is to happen at each."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self._faults = {(fault.where, fault.number): fault.what for fault in faults}
        self._counts: Counter[str] = Counter()

    def next(self, where: str) -> str | None:
        """Count an event; what goes wrong at it."""
        self._counts[where] += 1
        return self._faults.get((where, self._counts[where]))
