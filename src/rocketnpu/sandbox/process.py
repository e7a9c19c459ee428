"""A process of its own, and the pipe to it.

The child is a fresh interpreter, so that a program that starts one needs no `if __name__ == "__main__"`. It ends with
its parent, takes no memory that the machine does not have, and what it writes to stderr as it dies is not shown.
A run that takes more than MOST_CPU_SECONDS of the processor ends it.
This guards against crashes, not against a file that takes the child over: both sides trust what the other one sends.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from rocketnpu.errors import DeviceError, Error
from rocketnpu.sandbox import ProcessDiedError, Runs

MOST_CPU_SECONDS = float(os.environ.get("ROCKETNPU_SANDBOX_SECONDS", "20"))
"""Processor time of one run; the first one builds the object too. A loop that never ends takes no more than this."""
_LOOK_SECONDS = 0.5
"""How often the parent looks at the child's processor time."""


class Confined:
    """`factory(*arguments)` in a child process, made there at the first run; both must be picklable.

    Not safe in threads. A run after the child has died starts another one.
    """

    def __init__(self, factory: Callable[..., Runs], *arguments: object) -> None:
        self._recipe = (factory, arguments)
        self._child: _Child | None = None

    def run(self, values: Sequence[Any]) -> list[Any]:
        """What `run` of the object in the child returns, or raises: Error, MemoryError.

        Raises ProcessDiedError when the child dies of it, and DeviceError when there can be none.
        """
        if self._child is None or self._child.owner != os.getpid():  # a fork has no part in its parent's child
            self._child = _Child(self._recipe)
        try:
            failure, result = self._child.ask(values)
        except BaseException:  # also KeyboardInterrupt: an answer that comes later would be taken for the next one's
            self._child.end()
            self._child = None
            raise
        if failure is not None:
            raise failure(result)
        return result


class _Child:
    """The process, and the parent's end of the pipe to it."""

    def __init__(self, recipe: object) -> None:
        self.owner = os.getpid()
        self._pipe, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", f"from rocketnpu.sandbox.process import serve; serve({theirs.fileno()})"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path)},
            )
        self.end = weakref.finalize(self, _end, self.owner, self._process, self._pipe)
        self._pending: object | None = recipe

    def ask(self, values: Sequence[Any]) -> tuple[type[Exception] | None, Any]:
        """What went wrong, and the answer or its text.

        Raises ProcessDiedError when there is none, and DeviceError when the process does not even start.
        """
        if self._pending is not None:
            try:
                self._pipe.send(self._pending)
                self._pipe.recv()
            except (EOFError, OSError):
                how = _how(self._process.wait())
                raise DeviceError(
                    f"no other process can be started for the model with {sys.executable}: {how}"
                ) from None
            self._pending = None
        try:
            self._pipe.send(values)
            begun = self._cpu_seconds()
            while not self._pipe.poll(_LOOK_SECONDS):
                if self._cpu_seconds() - begun > MOST_CPU_SECONDS:
                    raise ProcessDiedError(
                        f"one run took more than {MOST_CPU_SECONDS:g} s of the processor; "
                        "ROCKETNPU_SANDBOX_SECONDS allows more"
                    )
            return self._pipe.recv()
        except (EOFError, OSError):
            raise ProcessDiedError(_how(self._process.wait())) from None

    def _cpu_seconds(self) -> float:
        """Processor time of the child so far (proc(5), fields 14 and 15 of stat); 0 where the system doesn't tell."""
        try:
            text = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()  # the name may hold anything
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _end(owner: int, process: subprocess.Popen[bytes], pipe: Connection) -> None:
    pipe.close()
    if os.getpid() == owner:
        process.kill()
        process.wait()


def _how(code: int) -> str:
    if code >= 0:
        return f"its process ended with code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"its process died of {name}"


def _limit_memory() -> None:
    """Take no more than the machine has, or than this process may have by a limit set before."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    with contextlib.suppress(ValueError, OSError):  # a system that reserves more addresses than that refuses
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def serve(descriptor: int) -> None:
    """The child's side: make the object that the pipe names, and run it until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
    _limit_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    target: Any = None
    with Connection(descriptor) as pipe:
        try:
            factory, arguments = pipe.recv()
            pipe.send("ready")
            while True:
                values = pipe.recv()
                try:
                    target = factory(*arguments) if target is None else target
                    answer = None, target.run(values)
                except Error as error:
                    answer = type(error), str(error)
                except MemoryError as error:
                    answer = MemoryError, str(error)
                except Exception as error:
                    answer = DeviceError, f"{type(error).__name__}: {' '.join(str(error).split())}"
                pipe.send(answer)
        except EOFError:
            return
