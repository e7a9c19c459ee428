"""Command lists, chaining, completion and register persistence (hardware/regcmd.md)."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from rocketnpu.emulator import Emulator
from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, PC, PPU

from .npu_programs import BASE, Board, Writes, body, changed, flying, pool, rdma_writes, without

ONE = 16
"""Bytes of the 1x1x16 cubes that these tests copy."""


def _copy(source: int, target: int, add: int = 0) -> tuple[Writes, int]:
    """Copy one atom, adding `add` in BS."""
    writes, mask = flying(1, 1, 16, source, target)
    return writes | {DPU.BS_CFG: 0x20050, DPU.BS_ALU_CFG: add}, mask


def _atoms(board: Board, count: int) -> list[int]:
    return [board.reserve(ONE) for _ in range(count)]


def _value(board: Board, address: int) -> int:
    data = board.bytes_at(address, ONE).view(np.int8)
    assert len(set(data.tolist())) == 1
    return int(data[0])


def test_a_chain_hands_each_result_to_the_next_task() -> None:
    board = Board()
    atoms = _atoms(board, 4)
    result = board.run(*(_copy(a, b, add=k + 1) for k, (a, b) in enumerate(itertools.pairwise(atoms))))
    assert [_value(board, atom) for atom in atoms] == [0, 1, 3, 6]
    assert result.cores[0].tasks_done == 3


def test_only_the_task_count_stops_a_chain() -> None:
    board = Board()
    atoms = _atoms(board, 4)
    address = board.chain(*(_copy(atoms[0], atom, add=5) for atom in atoms[1:]))
    assert board.chip.run(address, 2).cores[0].tasks_done == 2
    assert [_value(board, atom) for atom in atoms] == [0, 5, 5, 0]


def test_a_chain_without_a_next_list_never_completes() -> None:
    board = Board()
    atoms = _atoms(board, 2)
    address = board.chain(_copy(*atoms, add=1))
    with pytest.raises(DeviceTimeout, match=r"core 0, task 1: .* after 1 of 2 tasks"):
        board.chip.run(address, 2)
    assert _value(board, atoms[1]) == 1


def test_a_list_cut_before_its_enable_entry_never_starts() -> None:
    board = Board()
    atoms = _atoms(board, 2)
    task = _copy(*atoms, add=1)
    address = board.chain(task)
    entries = len(body(task[0]))
    with pytest.raises(DeviceTimeout, match="no enable entry"):
        board.chip.run(address, 1, body_entries=entries - 4)
    assert _value(board, atoms[1]) == 0
    board.chip.run(address, 1, body_entries=entries + 6)  # zero entries behind the trailer are harmless
    assert _value(board, atoms[1]) == 1


def test_the_first_list_may_be_at_the_end_of_its_mapping() -> None:
    chip = Emulator(1 << 16)
    board = Board(chip=Emulator(1 << 22))
    atoms = _atoms(board, 2)
    writes, mask = _copy(*atoms, add=3)
    entries = body(writes)
    entries += [regcmd.EMPTY] * (len(entries) % 2)  # lists are fetched in pairs
    words = np.array([*entries, *regcmd.trailer(0, 0, mask)], "<u8")
    start = board.chip.memory.size - words.nbytes
    board.bytes_at(BASE + start, words.nbytes)[:] = words.view(np.uint8)
    board.chip.run(BASE + start, 1)
    assert _value(board, atoms[1]) == 3
    with pytest.raises(DeviceError, match=r"PC command fetch: read of 8 bytes .* is not mapped"):
        chip.run(0x1000, 1)


def test_registers_not_written_keep_the_value_of_two_tasks_before() -> None:
    """Tasks 0 and 1 add 1 and 10; a delta list that only moves the target then adds 1, not 10, and the next 10."""
    board = Board()
    source, *targets = _atoms(board, 5)
    full = [_copy(source, target, add) for target, add in zip(targets, (1, 10), strict=False)]
    deltas = [
        ({DPU.S_POINTER: 0x0E, DPU_RDMA.RDMA_S_POINTER: 0x0E, DPU.DST_BASE_ADDR: target}, regcmd.DPU_MASK)
        for target in targets[2:]
    ]
    board.run(*full, *deltas)
    assert [_value(board, target) for target in targets] == [1, 10, 1, 10]


def test_groups_persist_from_run_to_run() -> None:
    board = Board()
    source, *targets = _atoms(board, 4)
    board.run(_copy(source, targets[0], 1), _copy(source, targets[1], 10))
    board.run(({DPU.S_POINTER: 0x0E, DPU.DST_BASE_ADDR: targets[2]}, regcmd.DPU_MASK))
    assert _value(board, targets[2]) == 1


def test_clearing_both_pointers_without_ping_pong_stays_in_the_first_group() -> None:
    """S_POINTER 0x30, as the vendor writes after a lookup upload: the next list inherits from the task before."""
    board = Board()
    source, *targets = _atoms(board, 4)
    cleared = {DPU.S_POINTER: 0x30, DPU_RDMA.RDMA_S_POINTER: 0x30}
    board.run(
        _copy(source, targets[0], 1),
        (_copy(source, targets[1], 10)[0] | cleared, regcmd.DPU_MASK),
        (cleared | {DPU.DST_BASE_ADDR: targets[2]}, regcmd.DPU_MASK),
    )
    assert [_value(board, target) for target in targets] == [1, 10, 10]


def test_the_pointer_bit_is_ignored_while_ping_pong_is_on() -> None:
    board = Board()
    source, *targets = _atoms(board, 4)
    first, second, third = (_copy(source, target, add) for target, add in zip(targets, (1, 10, 100), strict=True))
    with_bit = {DPU.S_POINTER: 0x0F, DPU_RDMA.RDMA_S_POINTER: 0x0F}
    board.run(first, (second[0] | with_bit, second[1]), (third[0] | with_bit, third[1]))
    assert [_value(board, target) for target in targets[:2]] == [1, 10]
    delta = {DPU.S_POINTER: 0x0E, DPU_RDMA.RDMA_S_POINTER: 0x0E, DPU.DST_BASE_ADDR: targets[0]}
    board.run((delta, regcmd.DPU_MASK))
    assert _value(board, targets[0]) == 10, "two tasks back is the second one"


def test_interrupts_alternate_between_the_groups() -> None:
    board = Board()
    atoms = _atoms(board, 2)
    raised = [board.run(_copy(*atoms)).cores[0].interrupts for _ in range(3)]
    assert raised == [1 << 8, 1 << 9, 1 << 8]


def test_a_pool_raises_only_ppu_bits_and_a_dpu_mask_never_sees_it() -> None:
    board = Board()
    source, target = board.place(np.full(64, 7, np.int8)), board.reserve(16)
    task = pool((2, 2), (1, 1), 16, source, target, method=1, kernel=(2, 2), stride=(2, 2))
    assert board.run(task).cores[0].interrupts == 1 << 10
    board.bytes_at(target, 16)[:] = 0
    with pytest.raises(DeviceTimeout, match="masked by 0x300"):
        board.chip.run(board.chain(task), 1, interrupt_mask=0x300)
    assert (board.bytes_at(target, 16) == 7).all(), "the data is valid all the same"


def test_cores_run_in_lockstep_task_by_task() -> None:
    """Core 1 reads in its second task what core 0 writes in its first, and core 0 in its third what core 1 wrote."""
    board = Board()
    a, b, c, d, scratch = _atoms(board, 5)
    idle = _copy(scratch, scratch)
    zero = board.chain(_copy(a, b, 1), idle, _copy(c, d, 4))
    one = board.chain(idle, _copy(b, c, 2))
    result = board.chip.run((zero, one), (3, 2), cores=(0, 1))
    assert [_value(board, atom) for atom in (a, b, c, d)] == [0, 1, 3, 7]
    assert [(core.core, core.tasks_done) for core in result.cores] == [(0, 3), (1, 2)]


def test_cores_have_their_own_register_groups() -> None:
    board = Board()
    source, *targets = _atoms(board, 4)
    address = board.chain(_copy(source, targets[0], 1))
    delta = board.chain(({DPU.S_POINTER: 0x0E, DPU.DST_BASE_ADDR: targets[1]}, regcmd.DPU_MASK))
    board.chip.run(address, 1, cores=(2,))
    with pytest.raises(DeviceError, match="core 1, task 0"):
        board.chip.run(delta, 1, cores=(1,))


def _entries(*words: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return np.array([*words, *regcmd.trailer(0, 0, regcmd.DPU_MASK)], "<u8")


BAD_ENTRIES = {
    "target of another block": (regcmd.encode(regcmd.Command(0x0201, DPU.BS_CFG.offset, 1)), "no register at offset"),
    "unknown target": (regcmd.encode(regcmd.Command(0x0333, 0x4040, 1)), "0x0333"),
    "no register there": (regcmd.encode(regcmd.Command(0x1001, 0x4FFC, 1)), "no register at offset 0x4ffc"),
    "interrupt mask by stream": (regcmd.encode(regcmd.Command(0x0101, PC.INTERRUPT_MASK.offset, 1)), "0x0020"),
    "table data alone": (regcmd.write(DPU.LUT_ACCESS_DATA, 1), "LUT_ACCESS_DATA without"),
}


@pytest.mark.parametrize(("word", "names"), BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_entries_that_no_source_explains_are_refused(word: int, names: str) -> None:
    board = Board()
    with pytest.raises(DeviceError, match=f"core 0, task 0: entry 0: .*{names}"):
        board.chip.run(board.place(_entries(word)), 1)


def test_an_enable_entry_needs_its_marker() -> None:
    board = Board()
    base, amounts, _, enable = regcmd.trailer(0, 0, regcmd.DPU_MASK)
    with pytest.raises(DeviceError, match="marker"):
        board.chip.run(board.place(np.array([base, amounts, 0, enable], "<u8")), 1)


HANGS = {
    "driver's pointer of CNA": {CNA.S_POINTER: 0x0E},
    "driver's pointer of CORE": {CORE.S_POINTER: 0x0E},
    "pool registers, not started": {PPU.DATA_CUBE_IN_WIDTH: 1},
    "both operands from one cube": {DPU_RDMA.RDMA_FEATURE_MODE_CFG: 0x7901},
    "reader off": {DPU_RDMA.RDMA_FEATURE_MODE_CFG: 0x7811},
}


@pytest.mark.parametrize("extra", HANGS.values(), ids=HANGS)
def test_what_hangs_on_silicon_times_out_here(extra: Writes) -> None:
    board = Board()
    atoms = _atoms(board, 2)
    writes, mask = _copy(*atoms, add=1)
    with pytest.raises(DeviceTimeout, match="core 0, task 0: the task never completes"):
        board.run((writes | extra, mask))
    assert _value(board, atoms[1]) == 0


def test_a_pool_list_started_as_a_convolution_times_out() -> None:
    board = Board()
    writes, _ = pool((2, 2), (1, 1), 16, BASE, BASE + 64, method=1, kernel=(2, 2), stride=(2, 2))
    with pytest.raises(DeviceTimeout):
        board.run((writes, regcmd.CONVOLUTION_MASK))


def test_operand_registers_without_their_reader_time_out() -> None:
    board = Board()
    with pytest.raises(DeviceTimeout, match="DPU_RDMA"):
        board.run((rdma_writes(1, 1, 16), regcmd.enable_mask((CNA, CORE, DPU))))


def _upload(entries: np.ndarray[tuple[int], np.dtype[np.int64]], access: int) -> list[int]:
    """Words that write both tables, or only seem to when `access` is 0."""
    words: list[int] = []
    for table, part in ((0, entries[:513]), (1, entries[512:])):
        config = DPU.LUT_ACCESS_CFG.encode(LUT_ACCESS_TYPE=access, LUT_TABLE_ID=table)
        words.append(regcmd.write(DPU.LUT_ACCESS_CFG, config))
        words += [regcmd.write(DPU.LUT_ACCESS_DATA, int(value) & 0xFFFF) for value in part]
    return words


def test_a_lookup_upload_counts_only_while_its_access_type_is_write() -> None:
    """The uploaded table doubles its index; entries of access type 0 must not disturb it (hardware/dpu.md, LUT)."""
    board = Board()
    source, target = board.place(np.arange(-8, 8, dtype=np.int8)), board.reserve(16)
    writes, mask = flying(1, 1, 16, source, target)
    writes |= {
        DPU.EW_CFG: 0x302,
        DPU.LUT_CFG: 0x68,
        DPU.LUT_INFO: 0x50500,
        DPU.LUT_LE_START: 0xFFFFC000,
        DPU.LUT_LO_END: 16384,
    }
    doubled = np.clip(np.arange(-512, 513) * 64, -32768, 32767)
    rest = body(without(writes, [DPU.LUT_ACCESS_CFG, DPU.LUT_ACCESS_DATA]))
    for words in ([*_upload(doubled, 1), *rest], [*_upload(0 * doubled, 0), *rest]):
        listing = np.array([*words, *regcmd.trailer(0, 0, mask)], "<u8")
        board.chip.run(board.place(listing), 1, body_entries=len(words))
        np.testing.assert_array_equal(board.bytes_at(target, 16).view(np.int8), np.arange(-16, 16, 2))


@pytest.mark.parametrize("code", range(4))
def test_a_state_outside_the_rules_is_refused_before_memory_changes(code: int) -> None:
    board = Board()
    atoms = _atoms(board, 2)
    writes, mask = _copy(*atoms, add=1)
    bad = [
        changed(writes, DPU.FEATURE_MODE_CFG, TP_EN=1),
        changed(writes, DPU.BS_CFG, BS_ALU_ALGO=3),
        writes | {DPU.UNKNOWN_40C4: 1},
        changed(writes, DPU.DATA_FORMAT, OUT_PRECISION=3),
    ][code]
    with pytest.raises(DeviceError, match="core 0, task 0: "):
        board.run((bad, mask))
    assert _value(board, atoms[1]) == 0


def test_bad_run_arguments_are_named() -> None:
    chip = Emulator(64)
    for arguments, names in (
        ({"cores": (3,)}, "cores"),
        ({"cores": (0, 0)}, "cores"),
        ({"count": 0}, "1..4095"),
        ({"count": 4096}, "1..4095"),
        ({"address": (0, 0)}, "address has 2 values"),
    ):
        with pytest.raises(DeviceError, match=names):
            chip.run(**({"address": 0, "count": 1} | arguments))
    for mapping in ((0, 0, 65), (0, -1, 4), (0, 60, 8), ((1 << 32) - 1, 0, 2), (-4, 0, 4), (0, 0, 0)):
        with pytest.raises(DeviceError, match="cannot map"):
            chip.map(*mapping)
