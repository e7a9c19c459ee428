"""What goes wrong on boards is said in one clear line, and the next inference is right."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import rocketnpu as rn
from drivers.boards import DRIVERS, Case, Interposed, open_board
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import DPU
from rocketnpu.program.model import COMMANDS, Segment
from rocketnpu.virtual import VirtualKernel
from support.models import ModelBuilder

HANG = "hang@task:2"
WATCHDOG_MS = 600
"""Bounds what rknpu's submits ask for; a little above the 500 ms by which a rocket job is told to have timed out."""


def failing(name: str, number: int, times: int = 1) -> Callable[[str, ctypes.Structure], None]:
    """Let the first calls of that name fail."""
    left = [times]

    def before(called: str, _: ctypes.Structure) -> None:
        if called == name and left[0]:
            left[0] -= 1
            raise OSError(number, os.strerror(number))

    return before


@pytest.mark.parametrize("fault", [HANG, "page-fault@task:2"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_task_that_hangs_is_a_timeout_and_the_next_inference_is_right(driver: str, fault: str, case: Case) -> None:
    with (
        VirtualKernel(driver, faults=fault, watchdog_ms=WATCHDOG_MS) as kernel,
        rn.Session(case.program, device=open_board(kernel)) as session,
    ):
        with pytest.raises(rn.DeviceTimeout, match=r"3 tasks \(conv_2d \.\.\. add\).*CNA, CORE, DPU, DPU_RDMA"):
            session.run(case.inputs[0])
        case.check(session.run(case.inputs[1]), 1)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_hang_of_the_emulated_chip_says_which_rule_the_task_breaks(driver: str, case: Case) -> None:
    writes_as_depthwise = regcmd.write(DPU.BS_OW_CFG, DPU.BS_OW_CFG.encode(SIZE_E_0=3, SIZE_E_1=3, SIZE_E_2=3))

    def broken(segment: Segment) -> Segment:
        if segment.name != COMMANDS:
            return segment
        words = np.frombuffer(segment.data, "<u8").copy()
        where = [
            index
            for index, word in enumerate(words.tolist())
            if word >> 48 == DPU.target and word & 0xFFFF == DPU.BS_OW_CFG.offset
        ]
        words[where[0]] = writes_as_depthwise
        return replace(segment, data=words.tobytes())

    program = replace(case.program, segments=tuple(map(broken, case.program.segments)))
    with (
        VirtualKernel(driver, watchdog_ms=WATCHDOG_MS) as kernel,
        rn.Session(program, device=open_board(kernel)) as session,
        pytest.raises(rn.DeviceTimeout, match=r"core 0, task 0: the task never completes: .*SIZE_E"),
    ):
        session.run(case.inputs[0])


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_submitted_frame_raises_its_timeout_when_waited_for(driver: str, case: Case) -> None:
    with (
        VirtualKernel(driver, faults=HANG, watchdog_ms=WATCHDOG_MS) as kernel,
        rn.Session(case.program, device=open_board(kernel)) as session,
    ):
        frame = session.submit(case.inputs[0])
        with pytest.raises(rn.DeviceTimeout, match="wait again"):
            frame.wait(0.01)
        with pytest.raises(rn.DeviceTimeout, match="3 tasks"):
            frame.wait()
        case.check(session.submit(case.inputs[1]).wait(), 1)


def test_rocket_waits_for_a_job_it_gave_up_on_before_the_host_writes_again(case: Case) -> None:
    with (
        VirtualKernel("rocket", faults=HANG) as kernel,
        rn.Session(case.program, device=open_board(kernel, wait_seconds=0.1)) as session,
    ):
        with pytest.raises(rn.DeviceTimeout, match=r"not done after 0\.1 s \(ETIMEDOUT\), 3 tasks"):
            session.run(case.inputs[0])
        with pytest.raises(rn.DeviceTimeout, match="not done"):
            session.run(case.inputs[1])  # still hanging: the inputs must not be overwritten
        while kernel.counters.get("timeouts", 0) == 0:
            pass
        case.check(session.run(case.inputs[1]), 1)


@pytest.mark.parametrize("name", ["SUBMIT", "PREP_BO", "FINI_BO", "CREATE_BO", "MEM_CREATE", "MEM_SYNC"])
@pytest.mark.parametrize("number", [errno.EINTR, errno.EAGAIN])
def test_interrupted_and_postponed_requests_are_repeated(
    kernel: VirtualKernel, case: Case, name: str, number: int
) -> None:
    with rn.Session(case.program, device=open_board(Interposed(kernel, failing(name, number, 3)))) as session:
        case.check(session.run(case.inputs[0]))


def test_a_request_that_is_postponed_for_ever_is_an_error(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(Interposed(kernel, failing("SUBMIT", errno.EAGAIN, 1_000_000)))
    with (
        rn.Session(case.program, device=device) as session,
        pytest.raises(rn.DeviceError, match=r"SUBMIT \(3 tasks .*\) failed with EAGAIN .*; the driver stayed busy"),
    ):
        session.run(case.inputs[0])


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EBUSY, "another process"),
        (errno.ENODEV, "the device has gone"),
        (errno.EINVAL, "check its version"),
        (errno.ENOMEM, "no memory left"),
        (errno.EIO, "did not answer"),
    ],
)
def test_errors_of_a_submit_name_errno_job_and_advice_and_pass(
    kernel: VirtualKernel, case: Case, number: int, advice: str
) -> None:
    device = open_board(Interposed(kernel, failing("SUBMIT", number)))
    with rn.Session(case.program, device=device) as session:
        with pytest.raises(rn.DeviceError, match=rf"SUBMIT \(3 tasks .*{errno.errorcode[number]}.*{advice}"):
            session.run(case.inputs[0])
        case.check(session.run(case.inputs[0]))


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_device_that_disappears_is_said_to_have_gone(driver: str, case: Case) -> None:
    with (
        VirtualKernel(driver, faults="remove@submit:2") as kernel,
        rn.Session(case.program, device=open_board(kernel)) as session,
    ):
        case.check(session.run(case.inputs[0]))
        for _ in range(2):
            with pytest.raises(rn.DeviceError, match=r"ENODEV .*the device has gone"):
                session.run(case.inputs[0])


@pytest.mark.parametrize(("driver", "create"), [("rocket", "create_bo"), ("rknpu", "mem_create")])
def test_no_memory_for_a_program_is_an_error_that_leaks_nothing(driver: str, create: str, case: Case) -> None:
    with VirtualKernel(driver, faults=f"ENOMEM@{create}:3") as kernel:
        device = open_board(kernel)
        with pytest.raises(rn.DeviceError, match=r"no memory for \d+ bytes \(ENOMEM\)"):
            rn.Session(case.program, device=device)
        device.close()
        del device
        gc.collect()
        assert (kernel.counters["files"], kernel.counters["buffers"]) == (0, 0)


@pytest.mark.parametrize(("driver", "create"), [("rocket", "CREATE_BO"), ("rknpu", "MEM_CREATE")])
def test_without_memory_for_more_frames_those_that_fit_are_used(driver: str, create: str, case: Case) -> None:
    with VirtualKernel(driver) as kernel:
        created: list[str] = []

        def before(name: str, _: ctypes.Structure) -> None:
            if name == create:
                created.append(name)
                if len(created) > 8:
                    raise OSError(errno.ENOMEM, "")

        with rn.Session(case.program, device=open_board(Interposed(kernel, before))) as session:
            case.check(session.run(case.inputs[0]))
            frames = [session.submit(case.inputs[number % 3]) for number in range(5)]
            for number, frame in enumerate(frames):
                case.check(frame.wait(), number % 3)


@pytest.mark.parametrize(("driver", "create"), [("rocket", "create_bo"), ("rknpu", "mem_create")])
def test_free_memory_of_closed_sessions_is_given_up_before_none_is_left(driver: str, create: str, case: Case) -> None:
    larger = Case.of(rn.compile(case_model(48)), count=1)
    buffers = len(case.program.segments) + 1 + (driver == "rknpu")  # a page at address 0; rknpu's task array
    with VirtualKernel(driver, faults=f"ENOMEM@{create}:{buffers + 1}") as kernel:
        device = open_board(kernel)
        with rn.Session(case.program, device=device) as session:
            session.run(case.inputs[0])
        with rn.Session(larger.program, device=device) as session:
            larger.check(session.run(larger.inputs[0]))


def case_model(size: int) -> bytes:
    """A convolution of a size x size image."""
    model = ModelBuilder(seed=2)
    return model.build(model.conv2d(model.input((1, size, size, 64)), 64, kernel=3))


def test_addresses_beyond_32_bits_are_refused(case: Case) -> None:
    class Far(Interposed):
        def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
            result = super().ioctl(fd, request, argument)
            if hasattr(argument, "dma_addr"):
                argument.dma_addr += 1 << 32
            return result

    with VirtualKernel("rknpu") as kernel, pytest.raises(rn.DeviceError, match="registers hold 32 bits"):
        rn.Session(case.program, device=open_board(Far(kernel, lambda *_: None)))


def test_a_submit_that_ends_early_is_an_error(case: Case) -> None:
    class Early(Interposed):
        def ioctl(self, fd: int, request: int, argument: ctypes.Structure) -> int:
            result = super().ioctl(fd, request, argument)
            if hasattr(argument, "task_counter"):
                argument.task_counter -= 1
            return result

    with (
        VirtualKernel("rknpu") as kernel,
        rn.Session(case.program, device=open_board(Early(kernel, lambda *_: None))) as session,
        pytest.raises(rn.DeviceError, match="ended after 2 of 3 tasks"),
    ):
        session.run(case.inputs[0])


@pytest.mark.parametrize(("driver", "call"), [("rocket", "PREP_BO"), ("rknpu", "SUBMIT")])
def test_ctrl_c_while_waiting_leaves_the_session_usable(driver: str, call: str, case: Case) -> None:
    pressed: list[str] = []

    def before(name: str, _: ctypes.Structure) -> None:
        if name == call and not pressed:
            pressed.append(name)
            raise KeyboardInterrupt

    with (
        VirtualKernel(driver) as kernel,
        rn.Session(case.program, device=open_board(Interposed(kernel, before))) as session,
    ):
        with pytest.raises(KeyboardInterrupt):
            session.run(case.inputs[0])
        case.check(session.run(case.inputs[1]), 1)


def test_a_closed_device_and_a_closed_session_say_so(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(kernel)
    session = rn.Session(case.program, device=device)
    device.close()
    with pytest.raises(rn.DeviceError, match="is closed"):
        session.run(case.inputs[0])
    session.close()
    with pytest.raises(rn.DeviceError, match="the session is closed"):
        session.submit(case.inputs[0])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_to_make_its_own_session(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(kernel)
    with rn.Session(case.program, device=device) as session:
        case.check(session.run(case.inputs[0]))
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            answers: list[str] = []
            for action in (
                lambda: session.run(case.inputs[0]),
                lambda: device.allocate(1),
                session.close,
                device.close,
            ):
                try:
                    action()
                except rn.DeviceError as error:
                    answers.append(str(error))
            os.write(writer, "\n".join(answers).encode())
            os._exit(0)
        os.waitpid(child, 0)
        lines = os.read(reader, 10_000).decode().splitlines()
        os.close(reader)
        os.close(writer)
        assert len(lines) == 2, lines
        assert all("fork" in line and "child" in line for line in lines), lines
        case.check(session.run(case.inputs[1]), 1)


EXIT_SCRIPT = """
import os
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])  # the emulator's own helpers end with the interpreter
import numpy as np, rocketnpu as rn
from rocketnpu.demo import model
from rocketnpu.runtime.devices import open_device
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import DPU
from rocketnpu.program.model import COMMANDS, Segment
from rocketnpu.virtual import VirtualKernel
program = rn.compile(model())
session = rn.Session(program, device=open_device({driver!r}, program, VirtualKernel({driver!r})))
frame = session.submit(np.zeros((1, 32, 32, 1), np.int8))
print("submitted")
"""


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_interpreter_ends_quietly_with_a_frame_under_way(driver: str) -> None:
    script = EXIT_SCRIPT.format(driver=driver)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "submitted\n", "")
