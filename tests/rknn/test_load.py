"""The vendor's programs as Programs: addresses, tasks, and what a hostile file cannot make of them."""

from __future__ import annotations

import struct

import pytest

from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, DPU, PC, register_of
from rocketnpu.program.model import COMMANDS
from rocketnpu.rknn import load_rknn
from rocketnpu.rknn.container import TASK_RECORD, parse_container

from .conftest import NAMES
from .patch import body, segment_data


@pytest.mark.parametrize("name", NAMES)
def test_a_stored_address_is_the_offset_inside_its_tensor(name: str, vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor[name], name)
    words = segment_data(program, COMMANDS).view("<u8")
    inside = {entry.cube.offset_bytes for entry in program.tensors if entry.cube is not None}
    first_input = next(r for r in program.relocations if r.segment == "arena")
    assert first_input.addend_bytes in inside
    for relocation in program.relocations:
        command = regcmd.decode(int(words[relocation.word]))
        register = register_of(command.target, command.offset)
        if relocation.segment == COMMANDS:
            assert (register, command.value) == (PC.BASE_ADDRESS, relocation.addend_bytes)
        if relocation.segment == "constants":
            assert register is not DPU.DST_BASE_ADDR


def test_the_row_pitch_of_a_dense_image_is_what_the_tasks_program(vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor["b_channel"], "b")
    cube = program.tensors[0].cube
    assert cube is not None
    assert cube.dense
    values = {command.offset: command.value for command in body(program, 0)}
    assert cube.row_pitch_pixels == values[CNA.DMA_CON1.offset] == 64


def _table_position(data: bytes) -> int:
    """Where the task table lies in the file."""
    records = parse_container(data).records
    first = records[0]
    start = TASK_RECORD.pack(
        0, first.node, first.enable_mask, first.interrupt_mask, 0x1FFFF, 0, first.body_entries, 0, 0
    )
    position = data.find(start)
    assert position > 0
    return position


@pytest.mark.parametrize(
    ("record", "field", "value", "message"),
    [
        (0, 1, 2, "name another node"),
        (0, 1, 99, "node index 99"),
        (0, 2, 0x1F, "does not enable blocks 0x1f"),
        (0, 6, 120, "trailer|enable"),
        (1, 6, 1 << 20, "does not fit"),
        (2, 8, 8 * 296, "does not lead to task 2"),
    ],
)
def test_task_records_that_disagree_with_the_program_are_refused(
    record: int, field: int, value: int, message: str, vendor: dict[str, bytes]
) -> None:
    data = bytearray(vendor["a_channel"])
    start = _table_position(bytes(data)) + record * TASK_RECORD.size
    fields = list(TASK_RECORD.unpack_from(data, start))
    fields[field] = value
    TASK_RECORD.pack_into(data, start, *fields)
    with pytest.raises(ModelError, match=message):
        load_rknn(bytes(data), "a")


def test_an_address_outside_its_tensor_is_refused(vendor: dict[str, bytes]) -> None:
    data = vendor["a_channel"]
    # The second core of two starts at row 15 of x: byte 0x1e00.
    pair = struct.pack("<Q", 0x13E << 32 | 0x1E00)
    command = struct.pack("<Q", regcmd.write(CNA.FEATURE_DATA_ADDR, 0x1E00))
    assert data.count(command) == 1
    moved = data.replace(pair, struct.pack("<Q", 0x13E << 32 | 0x8000))
    moved = moved.replace(command, struct.pack("<Q", regcmd.write(CNA.FEATURE_DATA_ADDR, 0x8000)))
    with pytest.raises(ModelError, match="addresses byte 32768 of tensor 'x', which has 32768"):
        load_rknn(moved, "a")


@pytest.mark.parametrize(("name", "target"), [("a_layer", "any"), ("a2_channel", "any"), ("b_layer", "rknpu")])
def test_a_program_with_pools_alone_is_for_rknpu(name: str, target: str, vendor: dict[str, bytes]) -> None:
    assert load_rknn(vendor[name], name).target == target
