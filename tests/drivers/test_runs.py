"""Programs on both drivers answer what the emulator answers, with few kernel transitions."""

from __future__ import annotations

import ctypes
import gc
import time
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import rocketnpu as rn
from drivers.boards import Case, Counted, Interposed, open_board
from rocketnpu.demo import model
from rocketnpu.runtime.devices import open_device
from rocketnpu.uapi import rocket
from rocketnpu.virtual import VirtualKernel
from support.models import ModelBuilder

PPU_INTERRUPTS = 0xC00

TRANSITIONS = 6
"""The most ioctls that a warm inference on one core may take."""


def test_a_session_on_a_board_answers_like_the_emulator(kernel: VirtualKernel, case: Case) -> None:
    with rn.Session(case.program, device=open_board(kernel)) as session:
        for number, inputs in enumerate(case.inputs):
            case.check(session.run(inputs), number)
    assert kernel.messages == []


def test_fetched_and_isolated_tensors_are_the_emulators(kernel: VirtualKernel, case: Case) -> None:
    x = case.inputs[0]
    with rn.Session(case.program, device="emulator") as session:
        expected = session.run(x, fetch="all")
        isolated = session.run_isolated({**x, **expected})
    with rn.Session(case.program, device=open_board(kernel)) as session:
        for name, values in session.run(x, fetch="all").items():
            assert (values == expected[name]).all(), name
        for name, values in session.run_isolated({**x, **expected}).items():
            assert (values == isolated[name]).all(), name


def test_a_warm_inference_takes_at_most_six_kernel_transitions(kernel: VirtualKernel, case: Case) -> None:
    counted = Counted(kernel)
    with rn.Session(case.program, device=open_board(counted)) as session:
        session.run(case.inputs[0])
        counted.calls.clear()
        case.check(session.run(case.inputs[1]), 1)
        assert counted.calls.total() <= TRANSITIONS, counted.calls
        assert counted.calls["SUBMIT"] == 1


def test_a_model_with_layers_on_the_cpu_runs_on_boards(kernel: VirtualKernel) -> None:
    demo = Case.of(rn.compile(model()), count=2)
    with rn.Session(demo.program, device=open_board(kernel)) as session:
        for number, inputs in enumerate(demo.inputs):
            demo.check(session.run(inputs), number)


@pytest.mark.slow
def test_a_warm_mobilenet_inference_takes_at_most_six_kernel_transitions(kernel: VirtualKernel, shared: Path) -> None:
    mobilenet = Case.of(rn.compile(shared / "models" / "mobilenet_v1_1.0_224_quant.tflite"), count=1)
    counted = Counted(kernel)
    with rn.Session(mobilenet.program, device=open_board(counted)) as session:
        session.run(mobilenet.inputs[0])
        counted.calls.clear()
        mobilenet.check(session.run(mobilenet.inputs[0]))
        assert counted.calls.total() <= TRANSITIONS, counted.calls


def test_submitted_frames_use_a_descriptor_for_each_of_three_cores(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(kernel)
    with rn.Session(case.program, device=device) as session:
        frames = [session.submit(case.inputs[number % 3]) for number in range(12)]
        for number, frame in enumerate(frames):
            case.check(frame.wait(30), number % 3)
            assert frame.done
        assert kernel.counters["files"] == 3
    assert kernel.counters["files"] == 1, "the siblings close with the session, the device stays its owner's"
    device.close()


def test_frames_submitted_to_the_emulator_take_turns(case: Case) -> None:
    with rn.Session(case.program, device="emulator") as session:
        for number, frame in enumerate([session.submit(x) for x in case.inputs]):
            case.check(frame.wait(30), number)


def test_three_frames_are_under_way_at_the_same_time(kernel: VirtualKernel, case: Case) -> None:
    submitted: list[str] = []

    def before(name: str, _: ctypes.Structure) -> None:
        if name == "SUBMIT":
            submitted.append(name)
            deadline = time.monotonic() + 10
            while len(submitted) < 3 and time.monotonic() < deadline:
                time.sleep(0.001)

    with rn.Session(case.program, device=open_board(Interposed(kernel, before))) as session:
        frames = [session.submit(x) for x in case.inputs]
        for number, frame in enumerate(frames):
            case.check(frame.wait(30), number)
            assert len(submitted) == 3, "a frame was done before the others were submitted"


def test_a_submitted_frame_keeps_its_inputs(kernel: VirtualKernel, case: Case) -> None:
    with rn.Session(case.program, device=open_board(kernel)) as session:
        inputs = {name: values.copy() for name, values in case.inputs[0].items()}
        frame = session.submit(inputs)
        for values in inputs.values():
            values[...] = 0
        case.check(frame.wait(30))


def test_threads_may_share_a_session(kernel: VirtualKernel, case: Case) -> None:
    failures: list[object] = []

    def work(number: int) -> None:
        try:
            for _ in range(3):
                case.check(session.run(case.inputs[number]), number)
        except Exception as error:
            failures.append(error)

    with rn.Session(case.program, device=open_board(kernel)) as session:
        threads = [Thread(target=work, args=(number % 3,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_the_kernel_gets_everything_back(kernel: VirtualKernel, case: Case) -> None:
    with rn.Session(case.program, device=open_device("auto", case.program, kernel)) as session:
        session.submit(case.inputs[0]).wait(30)
        session.run(case.inputs[1])
        device = session.device
    device.close()
    del session, device
    gc.collect()
    left = {name: kernel.counters[name] for name in ("files", "buffers", "mappings")}
    assert left == {"files": 0, "buffers": 0, "mappings": 0}


def test_a_forgotten_session_gives_everything_back_too(kernel: VirtualKernel, case: Case) -> None:
    session = rn.Session(case.program, device=open_board(kernel))
    session.run(case.inputs[0])
    del session
    gc.collect()
    assert kernel.counters["files"] == 0


def test_a_session_reuses_the_memory_of_an_earlier_one_on_its_device(kernel: VirtualKernel, case: Case) -> None:
    device = open_board(kernel)
    for _ in range(3):
        with rn.Session(case.program, device=device) as session:
            case.check(session.run(case.inputs[0]))
        buffers = kernel.counters.get("create_bo", 0) or kernel.counters["mem_create"]
        destroyed = kernel.counters.get("mem_destroy", 0)  # rknpu's task arrays, which are not kept for reuse
        assert buffers - destroyed == len(case.program.segments) + 1, "and a page that keeps address 0 free"


def test_rocket_jobs_are_what_the_driver_wants(case: Case) -> None:
    jobs: list[tuple[list[int], list[int], list[int]]] = []

    def before(name: str, argument: Any) -> None:
        if name == "SUBMIT":
            job = rocket.Job.from_address(argument.jobs)
            jobs.append(
                (
                    [task.regcmd_count for task in (rocket.Task * job.task_count).from_address(job.tasks)],
                    list((ctypes.c_uint32 * job.in_bo_handle_count).from_address(job.in_bo_handles)),
                    list((ctypes.c_uint32 * job.out_bo_handle_count).from_address(job.out_bo_handles)),
                )
            )

    with (
        VirtualKernel("rocket") as kernel,
        rn.Session(case.program, device=open_board(Interposed(kernel, before))) as session,
    ):
        case.check(session.run(case.inputs[0]))
    ((entries, inputs, outputs),) = jobs
    assert entries == [task.body_entries + 4 for task in case.program.tasks]
    assert len(set(inputs + outputs)) == len(inputs + outputs), "a handle in both lists makes the job fail"
    # Lists and constants are read, activations written.
    writable = [number for number, segment in enumerate(case.program.segments) if segment.data is None]
    assert (len(inputs), len(outputs)) == (len(case.program.segments) - len(writable), len(writable))


def vendor_case(shared: Path, name: str, cores: int) -> Case:
    return Case.of(rn.load(shared / "vectors" / "vendor" / f"{name}.rknn"), count=1, cores=cores)


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("name", ["a_layer", "b_channel"])
def test_vendor_programs_run_on_rknpu_on_any_number_of_cores(shared: Path, name: str, cores: int) -> None:
    case = vendor_case(shared, name, cores)
    with VirtualKernel("rknpu") as kernel:
        with rn.Session(case.program, device=open_board(kernel), cores=cores) as session:
            case.check(session.run(case.inputs[0]))
        assert kernel.messages == []


def test_rocket_runs_pools_only_on_kernels_that_see_their_end(shared: Path) -> None:
    case = vendor_case(shared, "b_layer", 1)
    with VirtualKernel("rocket") as kernel:
        with pytest.raises(rn.DeviceError, match="runs on the pooling unit alone"):
            rn.Session(case.program, device=open_board(kernel))
        # This kernel does not: its watchdog ends the pool, which is the time that the refusal saves.
        session = rn.Session(case.program, device=open_board(kernel, accepts_pools=True))
        with session, pytest.raises(rn.DeviceTimeout, match="watchdog"):
            session.run(case.inputs[0])


@pytest.mark.parametrize(("target", "driver"), [("rknpu", "rocket"), ("rocket", "rknpu")])
def test_a_program_for_another_driver_is_refused(case: Case, target: Any, driver: str) -> None:
    program = replace(case.program, target=target)
    with VirtualKernel(driver) as kernel:
        with pytest.raises(rn.DeviceError) as caught:
            rn.Session(program, device=open_board(kernel))
        assert f"is a program for {target}, this is {driver}" in str(caught.value)
        assert f"target='{driver}'" in str(caught.value)
    with rn.Session(program, device="emulator") as session:
        case.check(session.run(case.inputs[0]))


@pytest.mark.parametrize("driver", ["rocket", "rknpu"])
def test_a_model_is_compiled_for_the_driver_that_runs_it(driver: str) -> None:
    model = ModelBuilder(seed=2)
    data = model.build(model.conv2d(model.input((1, 8, 8, 8)), 16))
    with VirtualKernel(driver) as kernel, rn.Session(data, device=open_board(kernel)) as session:
        assert session.program.target == driver
        session.run(model.random_inputs())


@pytest.mark.parametrize("name", ["a_layer", "a2_channel"])
def test_rocket_runs_vendor_programs_whose_pools_only_join_cores(shared: Path, name: str) -> None:
    """The vendor ends the parts of a convolution on several cores with pools of one pixel, those on one core not."""
    case = vendor_case(shared, name, 1)
    with VirtualKernel("rocket") as kernel:
        with rn.Session(case.program, device=open_board(kernel)) as session:
            case.check(session.run(case.inputs[0]))
        assert kernel.messages == []


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_pools_of_our_programs_run_on_rknpu_and_not_on_rocket(cores: int) -> None:
    """Between convolutions, in one chain with them, and at its end."""
    model = ModelBuilder(seed=3)
    x = model.conv2d(model.input((1, 40, 40, 8)), 64)
    x = model.conv2d(model.max_pool(x, 3, 2, "SAME"), 96)
    data = model.build(model.max_pool(x, 5, 1, "SAME"))
    case = Case.of(rn.compile(data, target="rknpu", cores=cores), cores=cores)
    assert sum(task.interrupt_mask == PPU_INTERRUPTS for task in case.program.tasks) == 3
    with VirtualKernel("rknpu") as kernel:
        with rn.Session(case.program, device=open_board(kernel), cores=cores) as session:
            for number, inputs in enumerate(case.inputs):
                case.check(session.run(inputs), number)
        assert kernel.messages == []
    with VirtualKernel("rocket") as kernel, pytest.raises(rn.DeviceError, match="runs on the pooling unit alone"):
        rn.Session(case.program, device=open_board(kernel))


def test_rocket_runs_programs_for_several_cores_on_one_for_each_frame(kernel: VirtualKernel) -> None:
    """Lists for one core are part of every program; those for more are rknpu's."""
    model = ModelBuilder(seed=5)
    case = Case.of(rn.compile(model.build(model.conv2d(model.input((1, 40, 40, 32)), 96)), cores=3))
    assert any(len(part) == 3 for step in case.program.steps for part in getattr(step, "tasks", {})[3])
    with rn.Session(case.program, device=open_board(kernel)) as session:
        for number, frame in enumerate([session.submit(inputs) for inputs in case.inputs]):
            case.check(frame.wait(30), number)


def test_one_frame_on_several_cores_is_refused_by_rocket(case: Case) -> None:
    with VirtualKernel("rocket") as kernel, pytest.raises(rn.DeviceError, match="up to 1 core; 3 were asked for"):
        rn.Session(case.program, device=open_board(kernel), cores=3)
