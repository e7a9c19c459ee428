"""Jobs that never complete, as on silicon (hardware/regcmd.md, What makes a job time out)."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from emulator import drivers
from emulator.boards import BASE, CUBE_BYTES, SIZE, Board, PagedBoard, copy, kick
from emulator.drivers import (
    ALL,
    BASE_ADDRESS,
    COMMAND,
    FAULT_DONE,
    INT_CLEAR,
    INT_STATUS,
    INTERRUPT_MASK,
    OPERATION_ENABLE,
    PAGE_FAULT_ADDR,
    RAW_STATUS,
    REGISTER_AMOUNTS,
    STATUS,
    TASK_CON,
    TASK_DMA_BASE_ADDR,
    attach,
    rknpu_kick,
    rocket_interrupt,
    rocket_kick,
)
from emulator.guest import PAGE, Region
from emulator.npu_programs import Conv, Writes, changed, pool
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA


def hanging_tasks() -> dict[str, tuple[Writes, int]]:
    source, target = BASE + 0x8000, BASE + 0x9000
    good, mask = copy(source, target)
    return {
        "stream_pointer": (
            {CNA.S_POINTER: 0x0E, CORE.S_POINTER: 0x0E, **Conv(4, 4, 32, 32, 4, 4, source, source, target).writes()},
            regcmd.CONVOLUTION_MASK,
        ),
        "combine_in_flying_task": (changed(good, DPU_RDMA.RDMA_FEATURE_MODE_CFG, COMB_USE=1), mask),
        "pool_with_a_convolution_s_mask": (
            pool((4, 4), (4, 4), 32, source, target, method=1, kernel=(1, 1))[0],
            regcmd.CONVOLUTION_MASK,
        ),
        "channels_end_inside_a_group": (
            Conv(4, 4, 32, 32, 4, 4, source, source, target).writes()
            | {CORE.DATAOUT_SIZE_1: 15, DPU.DATA_CUBE_CHANNEL: 0x000F000F, DPU.WDMA_SIZE_0: 15},
            regcmd.CONVOLUTION_MASK,
        ),
    }


@pytest.mark.parametrize("name", hanging_tasks())
def test_what_hangs_on_silicon_never_completes_until_a_reset(name: str, caplog: pytest.LogCaptureFixture):
    board = Board()
    core = board.hardware.cores[0]
    with caplog.at_level(logging.DEBUG, "rocketnpu.emulator"):
        kick(core, board.chain(hanging_tasks()[name])[0])
    assert [record.levelname for record in caplog.records] == ["DEBUG"], caplog.text
    assert "core 0 hangs: core 0, task 0: the task never completes" in caplog.text
    assert (core.busy, core.read(RAW_STATUS), board.levels) == (True, 0, [])
    source, target = board.cube(1), board.cube(None)
    kick(core, board.chain(copy(source, target))[0])
    assert not board.copied(source, target), "a hanging core takes no job"
    core.reset()
    kick(core, board.chain(copy(source, target))[0])
    assert board.copied(source, target)
    assert rocket_interrupt(core)


def test_a_list_cut_short_never_starts(caplog: pytest.LogCaptureFixture):
    board = Board()
    core = board.hardware.cores[0]
    launch = board.chain(copy(board.cube(1), board.cube(None)))[0]
    with caplog.at_level(logging.DEBUG, "rocketnpu.emulator"):
        rocket_kick(core, launch.address, launch.body_entries)
    assert core.busy
    assert "hold no enable entry" in caplog.text


@pytest.mark.parametrize(("number", "pointer"), [(1, 0x0E), (2, 0x1000000E), (0, 0x1000000E), (1, None)])
def test_a_start_needs_s_pointer_with_the_core_s_number(
    number: int, pointer: int | None, caplog: pytest.LogCaptureFixture
):
    board = Board()
    core = board.hardware.cores[number]
    launch = board.chain(copy(board.cube(1), board.cube(None)))[0]
    core.write(BASE_ADDRESS, 1)
    if pointer is not None:
        core.write(drivers.CNA_S_POINTER, pointer)
        core.write(drivers.CORE_S_POINTER, pointer)
    core.write(BASE_ADDRESS, launch.address)
    core.write(REGISTER_AMOUNTS, (launch.body_entries + 5) // 2 - 1)
    core.write(TASK_CON, 0x7001)
    with caplog.at_level(logging.DEBUG, "rocketnpu.emulator"):
        core.write(OPERATION_ENABLE, 1)
    assert core.busy
    assert board.levels == []
    assert f"needs {0x0E + 0x10000000 * number:#x}" in caplog.text


def test_a_state_of_unknown_effect_is_told_from_a_known_hang(caplog: pytest.LogCaptureFixture):
    board = Board()
    core = board.hardware.cores[0]
    writes, mask = copy(board.cube(1), board.cube(None))
    with caplog.at_level(logging.DEBUG, "rocketnpu.emulator"):
        kick(core, board.chain((changed(writes, DPU.FEATURE_MODE_CFG, OUTPUT_MODE=1), mask))[0])
    assert core.busy
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize(
    ("offset", "value", "reason"),
    [(BASE_ADDRESS, 1, "slave mode"), (TASK_CON, 0x7000, "TASK_NUMBER 0"), (TASK_DMA_BASE_ADDR, 0x1000, "only 0")],
)
def test_states_that_run_nothing(offset: int, value: int, reason: str, caplog: pytest.LogCaptureFixture):
    board = Board()
    core = board.hardware.cores[0]
    source, target = board.cube(1), board.cube(None)
    launch = board.chain(copy(source, target))[0]
    kick(core, launch)
    rocket_interrupt(core)
    board.at(target, CUBE_BYTES)[:] = 0
    board.levels.clear()
    core.write(offset, value)
    with caplog.at_level(logging.DEBUG, "rocketnpu.emulator"):
        core.write(OPERATION_ENABLE, 1)
    assert reason in caplog.text
    assert not board.at(target, CUBE_BYTES).any()
    assert board.levels == []


def test_writing_0_to_operation_enable_does_not_stop_a_running_job():
    board = Board(deferred=True)
    core = board.hardware.cores[0]
    source, target = board.cube(1), board.cube(None)
    rknpu_kick(core, board.chain(copy(source, target)))
    assert core.read(OPERATION_ENABLE) == 0
    core.step()
    assert board.copied(source, target)


# The IOMMU behind a core


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("write", [False, True])
def test_a_page_fault_stops_the_job_and_raises_the_core_s_line(number: int, write: bool):
    board = PagedBoard(number)
    core, bank = board.core, board.bank
    board.guest.map(board.SOURCE if write else board.TARGET, PAGE)
    board.run()
    assert board.levels == [True]
    assert core.read(RAW_STATUS) == 0, "the job is not done"
    assert not rocket_interrupt(core), "the NPU's handler passes it on"
    assert core.read(bank + INT_STATUS) == 1
    assert core.read(bank + STATUS) & 0b100011 == (0b100011 if write else 0b000011)
    assert core.read(bank + PAGE_FAULT_ADDR) == (board.TARGET if write else board.SOURCE)
    core.write(bank + COMMAND, drivers.ZAP)
    core.write(bank + COMMAND, FAULT_DONE)
    core.write(bank + INT_CLEAR, 1)
    assert board.levels == [True, False]
    assert core.busy, "the job is lost until the watchdog resets the core"
    core.reset()
    attach(core, board.guest.directory)
    pages = board.guest.map(board.TARGET if write else board.SOURCE, PAGE)
    board.run()
    assert rocket_interrupt(core)
    assert len(pages) == 1


def test_an_unmapped_list_faults_at_its_address():
    board = PagedBoard(1)
    rocket_kick(board.core, 0x5000_0000, board.entries)
    assert board.core.read(board.bank + PAGE_FAULT_ADDR) == 0x5000_0000


def test_a_forgotten_zap_uses_the_old_page():
    board = PagedBoard(0)
    source, old = Region(board.guest, board.SOURCE, CUBE_BYTES), Region(board.guest, board.TARGET, CUBE_BYTES)
    source.store(np.full(CUBE_BYTES, 7, np.uint8))
    board.run()
    assert rocket_interrupt(board.core)
    new = Region(board.guest, board.TARGET, CUBE_BYTES)
    source.store(np.full(CUBE_BYTES, 9, np.uint8))
    board.run()
    assert rocket_interrupt(board.core)
    assert (old.load()[0], new.load()[0]) == (9, 0)
    for bank in drivers.BANKS[0]:
        board.core.write(bank + drivers.ZAP_ONE_LINE, board.TARGET)
    board.run()
    assert rocket_interrupt(board.core)
    assert new.load()[0] == 9


@pytest.mark.parametrize("write", [False, True])
def test_an_address_beyond_memory_is_a_dma_error(write: bool):
    board = Board()
    core = board.hardware.cores[0]
    core.write(INTERRUPT_MASK, ALL)
    inside, outside = board.cube(1), BASE + SIZE
    launch = board.chain(copy(inside, outside) if write else copy(outside, inside))[0]
    kick(core, launch)
    assert core.busy
    assert core.read(RAW_STATUS) == (1 << 13 if write else 1 << 12)
    core.write(INTERRUPT_MASK, ALL)
    assert board.levels == [(0, True)]
