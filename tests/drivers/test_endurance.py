"""Many inferences on one virtual kernel: answers stay right, nothing grows, and jobs queue behind one another."""

from __future__ import annotations

import ctypes
import errno
import gc
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import rocketnpu as rn
from drivers.boards import DRIVERS, Case, Interposed, open_board
from rocketnpu.virtual import VirtualKernel

ROOT = Path(__file__).parents[2]
INFERENCES, GENERATIONS = 160, 4


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
@pytest.mark.parametrize("driver", DRIVERS)
def test_threads_and_processes_get_right_answers_and_nothing_grows(driver: str, case: Case, tmp_path: Path) -> None:
    case.program.save(tmp_path / "program.rnpu")
    command = [sys.executable, "-m", "benchmarks.kernel_endurance", str(tmp_path / "program.rnpu"), "--driver", driver]
    command += ["--inferences", str(INFERENCES), "--generations", str(GENERATIONS)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{INFERENCES} of {INFERENCES} right" in ended.stdout, ended.stdout


def test_a_second_frame_of_a_descriptor_is_submitted_while_the_first_one_runs(
    kernel: VirtualKernel, case: Case
) -> None:
    wait = "PREP_BO" if "accel" in kernel.system.tree.node else "SUBMIT"
    both = threading.Barrier(2)
    warm = threading.Event()

    def before(name: str, _: ctypes.Structure) -> None:
        if warm.is_set() and name == wait:
            both.wait(10)  # breaks, and so fails, unless two threads get here at the same time

    device = open_board(Interposed(kernel, before), siblings=0)
    with rn.Session(case.program, device=device) as session:
        for frame in [session.submit(x) for x in case.inputs[:2]] * 2:
            frame.wait()
        warm.set()
        frames = [session.submit(x) for x in case.inputs[:2]]
        for number, frame in enumerate(frames):
            case.check(frame.wait(30), number)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_hang_with_a_frame_queued_behind_it_is_a_timeout_and_the_next_frames_are_right(
    driver: str, case: Case
) -> None:
    tasks = len(case.program.tasks)
    with (
        VirtualKernel(driver, faults=f"hang@task:{4 * tasks + 1}", watchdog_ms=600) as kernel,
        rn.Session(case.program, device=open_board(kernel, siblings=0)) as session,
    ):
        for _ in range(2):  # then both lanes' jobs are known to be quick
            for frame in [session.submit(x) for x in case.inputs[:2]]:
                frame.wait()
        frames = [session.submit(x) for x in case.inputs[:2]]
        timeouts = 0
        for number, frame in enumerate(frames):
            try:
                case.check(frame.wait(30), number)
            except rn.DeviceTimeout:
                timeouts += 1
        assert timeouts >= 1
        for number, frame in enumerate([session.submit(x) for x in case.inputs]):
            case.check(frame.wait(30), number)


@pytest.mark.parametrize(
    ("driver", "fault"),
    [("rocket", "ENOMEM@mmap:3"), ("rocket", "ENOMEM@create_bo:3"), ("rknpu", "ENOMEM@mem_map:3")],
)
def test_a_session_that_cannot_be_made_gives_back_what_it_had(driver: str, fault: str, case: Case) -> None:
    with VirtualKernel(driver, memory_bytes=1 << 24, faults=fault) as kernel:
        device = open_board(kernel)
        with pytest.raises(rn.DeviceError, match="ENOMEM"):
            rn.Session(case.program, device=device)
        with pytest.raises(rn.DeviceError, match="no memory"):
            device.allocate(1 << 24)  # what is kept for reuse is given up first
        assert kernel.counters["buffers"] == 1, "the page that keeps address 0 free"
        device.close()


def test_a_buffer_that_the_kernel_does_not_take_back_keeps_no_other(case: Case) -> None:
    with VirtualKernel("rknpu", memory_bytes=1 << 24, faults="EBUSY@mem_destroy:1") as kernel:
        device = open_board(kernel)
        session = rn.Session(case.program, device=device)
        case.check(session.run(case.inputs[0]))
        with pytest.raises(rn.DeviceError, match=r"MEM_DESTROY failed with EBUSY"):
            session.close()
        del session
        gc.collect()  # arrays of mapped memory keep its buffers
        with pytest.raises(rn.DeviceError, match="no memory"):
            device.allocate(1 << 24)
        assert kernel.counters["buffers"] == 2, "the page that keeps address 0 free, and the one that was refused"
        device.close()


def test_a_device_that_stays_open_keeps_nothing_of_closed_sessions(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(kernel)
    for _ in range(2):
        with rn.Session(case.program, device=device) as session:
            for frame in [session.submit(x) for x in case.inputs]:
                frame.wait()
    del session, frame
    gc.collect()
    with pytest.raises(rn.DeviceError, match="no memory"):
        device.allocate(kernel.system.board.pages.bytes.size)  # what is kept for reuse is given up first
    assert (kernel.counters["buffers"], kernel.counters["mappings"]) == (1, 1), "the page that keeps address 0 free"
    device.close()


def test_memory_of_a_job_that_has_not_ended_is_not_given_back(case: Case) -> None:
    with VirtualKernel("rocket", faults="hang@task:1") as kernel:
        device = open_board(kernel, wait_seconds=0.1)
        session = rn.Session(case.program, device=device)
        with pytest.raises(rn.DeviceTimeout, match="not done after"):
            session.run(case.inputs[0])
        with pytest.raises(rn.DeviceTimeout, match="not done after"):
            session.close()
        with rn.Session(case.program, device=device) as other:  # in other memory
            while kernel.counters.get("timeouts", 0) == 0:
                pass
            case.check(other.run(case.inputs[1]), 1)
        device.close()


def test_written_memory_is_flushed_by_the_next_submission_if_the_first_could_not(
    kernel: VirtualKernel, case: Case
) -> None:
    flush = "FINI_BO" if "accel" in kernel.system.tree.node else "MEM_SYNC"
    ranges: list[bytes] = []

    def before(name: str, argument: ctypes.Structure) -> None:
        if name == flush:
            ranges.append(bytes(argument))
            if len(ranges) == 1:
                raise OSError(errno.EIO, "")

    with rn.Session(case.program, device=open_board(Interposed(kernel, before))) as session:
        with pytest.raises(rn.DeviceError, match=flush):
            session.run(case.inputs[0])
        case.check(session.run(case.inputs[1]), 1)
    assert ranges[0] in ranges[1:]
