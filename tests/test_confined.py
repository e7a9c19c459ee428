"""A process of its own: what comes back, and what happens when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from rocketnpu.errors import DeviceError, ModelError
from rocketnpu.sandbox import ProcessDiedError, process
from rocketnpu.sandbox.process import Confined


class Worker:
    """What the tests run in a child."""

    def __init__(self, offset: int) -> None:
        if offset < 0:
            raise ModelError("the offset is negative")
        self.offset = offset

    def run(self, values: Sequence[Any]) -> list[Any]:
        """The first value says what to do."""
        match values[0] if isinstance(values[0], str) else None:
            case "die":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "leave":
                os._exit(3)
            case "fail":
                raise DeviceError("it fails")
            case "stumble":
                raise KeyError("unexpected")
            case "eat":
                return [np.ones(1 << 60, np.uint8)]
            case "pid":
                return [os.getpid(), os.getppid()]
            case "sleep":
                time.sleep(values[1])
            case "loop":
                while True:
                    pass
            case _:
                return [value + self.offset for value in values]
        return []


def test_arrays_go_there_and_come_back() -> None:
    found = Confined(Worker, 3).run([np.arange(5, dtype=np.int8)])
    assert [(array.dtype, array.tolist()) for array in found] == [(np.int8, [3, 4, 5, 6, 7])]


def test_it_is_another_process_and_stays_the_same_one() -> None:
    worker = Confined(Worker, 0)
    first, second = worker.run(["pid"]), worker.run(["pid"])
    assert first == second
    assert first[0] != os.getpid()
    assert first[1] == os.getpid()


@pytest.mark.parametrize(("order", "how"), [("die", "its process died of SIGSEGV"), ("leave", "ended with code 3")])
def test_its_death_is_an_exception_and_the_next_run_has_a_new_process(order: str, how: str) -> None:
    worker = Confined(Worker, 1)
    with pytest.raises(ProcessDiedError, match=how):
        worker.run([order])
    assert worker.run([1]) == [2]


@pytest.mark.parametrize(
    ("order", "kind", "message"),
    [
        ("fail", DeviceError, "^it fails$"),
        ("stumble", DeviceError, "^KeyError: 'unexpected'$"),
        ("eat", MemoryError, "allocate"),
    ],
)
def test_what_is_raised_there_is_raised_here(order: str, kind: type[Exception], message: str) -> None:
    worker = Confined(Worker, 1)
    with pytest.raises(kind, match=message):
        worker.run([order])
    assert worker.run([1]) == [2]


def test_what_cannot_be_made_is_said_at_each_run() -> None:
    worker = Confined(Worker, -1)
    for _ in range(2):
        with pytest.raises(ModelError, match="the offset is negative"):
            worker.run([1])


def test_a_process_that_does_not_start_is_not_taken_for_one_that_died(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(
        DeviceError, match=r"^no other process can be started .* with /bin/false: .* ended with code 1$"
    ):
        Confined(Worker, 0).run([1])


def test_an_interrupted_run_leaves_no_answer_behind() -> None:
    worker = Confined(Worker, 1)
    worker.run([0])
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            worker.run(["sleep", 60])
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert worker.run([1]) == [2]


def test_a_run_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "MOST_CPU_SECONDS", 0.3)
    worker = Confined(Worker, 1)
    with pytest.raises(ProcessDiedError, match=r"more than 0\.3 s of the processor; ROCKETNPU_SANDBOX_SECONDS"):
        worker.run(["loop"])
    monkeypatch.setattr(process, "MOST_CPU_SECONDS", 20)
    assert worker.run([1]) == [2]


def test_a_limit_of_memory_set_before_holds_in_the_child() -> None:
    script = (
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 34, 1 << 34))\n"
        "from rocketnpu.sandbox.process import Confined\n"
        "from rocketnpu.cpu.litert.engine import Engine\n"
        "try: Confined(Engine, b'', 'plain', 1, None, True).run([])\n"
        "except Exception as error: print(type(error).__name__)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (found.stdout, found.stderr) == ("ModelError\n", "")


def test_the_process_ends_with_the_object() -> None:
    worker = Confined(Worker, 0)
    (pid, _) = worker.run(["pid"])
    del worker
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_script_without_a_main_guard_can_start_one_and_it_ends_with_the_script() -> None:
    script = (
        "from rocketnpu.sandbox.process import Confined\n"
        "from rocketnpu.cpu.litert.engine import Engine\n"
        "worker = Confined(Engine, b'', 'plain', 1, None, True)\n"
        "try: worker.run([])\n"
        "except Exception as error: print(type(error).__name__, worker._child._process.pid)\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    name, pid = found.stdout.split()
    assert (name, found.stderr) == ("ModelError", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
