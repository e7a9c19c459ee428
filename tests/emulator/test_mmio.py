"""The register file of a core, deferred jobs and resets (hardware/registers.md)."""

from __future__ import annotations

import itertools
import threading

import pytest

from emulator import drivers
from emulator.boards import Board, copy, kick
from emulator.drivers import (
    BASE_ADDRESS,
    INTERRUPT_MASK,
    INTERRUPT_STATUS,
    RAW_STATUS,
    TASK_CON,
    TASK_STATUS,
    rknpu_kick,
    rocket_interrupt,
)
from rocketnpu.errors import DeviceError


def test_a_deferred_job_runs_task_by_task():
    board = Board(deferred=True)
    core = board.hardware.cores[1]
    source, middle, target = board.cube(1), board.cube(None), board.cube(None)
    rknpu_kick(core, board.chain(copy(source, middle), copy(middle, target)))
    assert (core.pending, core.busy, board.levels) == (True, True, [])
    assert not board.copied(source, middle)
    assert core.step()
    assert board.copied(source, middle)
    assert core.read(TASK_STATUS) == 1
    assert not core.step()
    assert board.copied(source, target)
    assert (core.pending, core.busy, board.levels) == (False, False, [(1, True)])
    assert not core.step(), "nothing is left"


def test_another_thread_completes_a_job():
    board = Board(deferred=True)
    core = board.hardware.cores[0]
    done = threading.Event()
    core.on_interrupt = lambda level: done.set() if level else None
    source, target = board.cube(1), board.cube(None)
    kick(core, board.chain(copy(source, target))[0])
    worker = threading.Thread(target=board.hardware.step)
    worker.start()
    assert done.wait(10)
    worker.join(10)
    assert rocket_interrupt(core)
    assert board.copied(source, target)


def test_a_handler_may_start_the_next_task():
    board = Board()
    core = board.hardware.cores[0]
    cubes = [board.cube(1), board.cube(None), board.cube(None), board.cube(None)]
    launches = board.chain(*(copy(a, b) for a, b in itertools.pairwise(cubes)))
    waiting = launches[1:]

    def handler(level: bool) -> None:
        if level:
            assert rocket_interrupt(core)
            if waiting:
                kick(core, waiting.pop(0))

    core.on_interrupt = handler
    kick(core, launches[0])
    assert board.copied(cubes[0], cubes[-1])
    assert not core.busy


def test_a_start_while_a_job_is_pending_is_ignored():
    board = Board(deferred=True)
    core = board.hardware.cores[0]
    source, first, second = board.cube(1), board.cube(None), board.cube(None)
    kick(core, board.chain(copy(source, first))[0])
    kick(core, board.chain(copy(source, second))[0])
    while core.step():
        pass
    assert board.copied(source, first)
    assert not board.copied(source, second)


# Resets


def test_reset_drops_the_pending_job_and_all_registers():
    board = Board(deferred=True)
    core = board.hardware.cores[0]
    source, target = board.cube(1), board.cube(None)
    kick(core, board.chain(copy(source, target))[0])
    core.write(0x9000 + 0x00, 0x12345000)
    core.reset()
    assert not core.step()
    assert not board.copied(source, target)
    assert core.read(BASE_ADDRESS) == core.read(TASK_CON) == core.read(0x9000) == 0
    assert core.read(INTERRUPT_MASK) == 0x1FFFF
    assert core.read(drivers.CNA_S_POINTER) == 0


def test_reset_lowers_the_interrupt_line():
    board = Board()
    core = board.hardware.cores[0]
    kick(core, board.chain(copy(board.cube(1), board.cube(None)))[0])
    core.reset()
    assert board.levels == [(0, True), (0, False)]


# The register file


def test_the_hole_locks_the_soc_up():
    core = Board().hardware.cores[0]
    for offset in (0x2000, 0x2FFC):
        with pytest.raises(DeviceError, match="locks the SoC up"):
            core.read(offset)


@pytest.mark.parametrize("offset", [-4, 2, 0x10000])
def test_offsets_outside_the_window_are_refused(offset: int):
    core = Board().hardware.cores[0]
    with pytest.raises(DeviceError, match="registers are at multiples of 4"):
        core.read(offset)
    with pytest.raises(DeviceError, match="registers are at multiples of 4"):
        core.write(offset, 0)


@pytest.mark.parametrize("value", [-1, 1 << 32])
def test_values_have_32_bits(value: int):
    with pytest.raises(DeviceError, match="no 32-bit value"):
        Board().hardware.cores[0].write(BASE_ADDRESS, value)


def test_unknown_offsets_read_0_and_are_logged(caplog: pytest.LogCaptureFixture):
    core = Board().hardware.cores[0]
    core.write(0x0F00, 5)
    assert core.read(0x0F00) == 0
    assert "write of 0x5 to 0x0f00, where no register is known" in caplog.text
    assert "read of 0x0f00, where no register is known" in caplog.text


def test_read_only_registers_keep_their_value():
    core = Board().hardware.cores[0]
    for offset in (0x0, INTERRUPT_STATUS, RAW_STATUS, TASK_STATUS):
        before = core.read(offset)
        core.write(offset, 0xFFFFFFFF)
        assert core.read(offset) == before


def test_slave_mode_writes_reach_the_group_that_the_pointer_names():
    core = Board().hardware.cores[0]
    core.write(BASE_ADDRESS, 1)
    core.write(0x4004, 0)
    core.write(0x4020, 0x1000)
    core.write(0x4004, 1)
    assert core.read(0x4020) == 0
    core.write(0x4020, 0x2000)
    assert core.read(0x4004) == 1
    core.write(0x4004, 0)
    assert core.read(0x4020) == 0x1000


def test_reset_values_are_those_of_the_tables():
    core = Board().hardware.cores[1]
    assert core.read(0x300C) == 0x07800800
    assert core.read(0x9000) == 0, "SDMA: only core 0 has an IOMMU bank there"
    core.write(0x9000, 0x0FFF)
    assert core.read(0x9000) == 0x0FFF


def test_cores_have_separate_registers():
    first, second, third = Board().hardware.cores
    first.write(TASK_CON, 5)
    second.write(0xA000, 0x1000)
    assert (second.read(TASK_CON), third.read(TASK_CON)) == (0, 0)
    assert (first.read(0xA000), second.read(0xA000), third.read(0xA000)) == (0, 0x1000, 0)
