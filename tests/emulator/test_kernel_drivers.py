"""The register sequences of the kernel drivers on the emulated windows (hardware/regcmd.md)."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

import rocketnpu as rn
from emulator.boards import CHANNELS, CUBE_BYTES, EDGE, Board, copy, kick
from emulator.drivers import (
    ALL,
    DPU_DONE,
    INTERRUPT_CLEAR,
    INTERRUPT_MASK,
    INTERRUPT_STATUS,
    PPU_DONE,
    RAW_STATUS,
    TASK_CON,
    TASK_STATUS,
    MmioDevice,
    rknpu_interrupt,
    rknpu_kick,
    rocket_interrupt,
)
from emulator.npu_programs import pool
from support.models import ModelBuilder


def test_probe_reads_the_version_of_real_boards():
    for core in Board().hardware.cores:
        assert core.read(0x0) + (core.read(0x4) & 0xFFFF) == 0x46495245


@pytest.mark.parametrize("number", [0, 1, 2])
def test_rocket_runs_one_task_per_kick(number: int):
    board = Board()
    core = board.hardware.cores[number]
    source, middle, target = board.cube(1), board.cube(None), board.cube(None)
    for launch, copied_to in zip(
        board.chain(copy(source, middle), copy(middle, target)), (middle, target), strict=True
    ):
        kick(core, launch)
        assert board.levels == [(number, True)]
        assert board.copied(source, copied_to)
        assert rocket_interrupt(core)
        assert board.levels == [(number, True), (number, False)]
        assert core.read(RAW_STATUS) == 0
        board.levels.clear()


def test_rocket_runs_only_the_first_task_of_a_chain():
    board = Board()
    source, middle, target = board.cube(1), board.cube(None), board.cube(None)
    kick(board.hardware.cores[0], board.chain(copy(source, middle), copy(middle, target))[0])
    assert board.copied(source, middle)
    assert not board.at(target, CUBE_BYTES).any()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_rknpu_runs_a_chain_with_one_interrupt(number: int):
    board = Board()
    core = board.hardware.cores[number]
    cubes = [board.cube(1), board.cube(None), board.cube(None), board.cube(None)]
    launches = board.chain(*(copy(a, b) for a, b in itertools.pairwise(cubes)))
    rknpu_kick(core, launches)
    assert board.levels == [(number, True)]
    assert board.copied(cubes[0], cubes[-1])
    assert rknpu_interrupt(core, DPU_DONE)
    assert board.levels == [(number, True), (number, False)]


def test_completion_alternates_between_the_bits_of_the_two_groups():
    board = Board()
    core = board.hardware.cores[0]
    source, target = board.cube(1), board.cube(None)
    seen: list[int] = []
    for _ in range(4):
        kick(core, board.chain(copy(source, target))[0])
        seen.append(core.read(RAW_STATUS))
        rocket_interrupt(core)
    assert seen == [1 << 8, 1 << 9, 1 << 8, 1 << 9]


def test_a_pool_completes_on_the_ppu_bit_which_rocket_masks():
    board = Board()
    core = board.hardware.cores[0]
    source, target = board.cube(3), board.cube(None)
    launch = board.chain(pool((EDGE, EDGE), (EDGE, EDGE), CHANNELS, source, target, method=1, kernel=(1, 1)))[0]
    kick(core, launch)
    assert board.copied(source, target), "the data is valid"
    assert (core.read(RAW_STATUS), core.read(INTERRUPT_STATUS), board.levels) == (1 << 10, 0, [])
    assert not rocket_interrupt(core)
    core.write(INTERRUPT_MASK, PPU_DONE)
    assert board.levels == [(0, True)]
    core.write(INTERRUPT_CLEAR, ALL)
    rknpu_kick(core, [launch])
    assert rknpu_interrupt(core, PPU_DONE)


def test_task_status_reads_as_on_silicon_when_the_job_is_done():
    board = Board()
    core = board.hardware.cores[0]
    kick(core, board.chain(copy(board.cube(1), board.cube(None)))[0])
    assert core.read(TASK_STATUS) == 0xF000
    core.write(TASK_CON, 0x2000)
    assert core.read(TASK_STATUS) == 0


def small_model() -> tuple[bytes, list[np.ndarray]]:
    builder = ModelBuilder(seed=5)
    x = builder.input((1, 14, 14, 24))
    y = builder.conv2d(x, 40, kernel=3)
    y = builder.add(y, builder.conv2d(y, 40, kernel=1))
    y = builder.depthwise(y, kernel=3, stride=2)
    return builder.build(y), builder.random_inputs()


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize("driver", ["rocket", "rknpu"])
def test_a_compiled_model_on_scattered_pages_gives_the_bytes_of_the_bare_chip(driver: str, deferred: bool):
    model, inputs = small_model()
    program = rn.compile(model)
    assert {step.place for step in program.steps} == {"npu"}
    with rn.Session(program, device="emulator", fetch="all") as session:
        expected = session.run(inputs)
    device = MmioDevice(driver, 1 << 21, deferred=deferred)
    with rn.Session(program, device=device, fetch="all") as session:
        found = session.run(inputs)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("cores", [1, 2, 3])
def test_a_vendor_program_runs_on_scattered_pages_of_several_cores(cores: int, shared: Path):
    program = rn.load(shared / "vectors/vendor/b_channel.rknn")
    recorded = dict(np.load(shared / "vectors/vendor/b_channel.tensors.npz"))
    with rn.Session(program, device="emulator", cores=cores) as session:
        expected = session.run_isolated(recorded)
    with rn.Session(program, device=MmioDevice("rknpu", 1 << 22, deferred=True), cores=cores) as session:
        found = session.run_isolated(recorded)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)
