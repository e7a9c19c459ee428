"""The vendor's vectors tell a broken rule from a right one: each rule, when broken, leaves the record.

The rules are broken in the programs, where a register or an operand expresses them, or in the device that runs them.
Rounding in the output converter has a control without the emulator, too, in test_formulas.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA
from rocketnpu.rknn import load_rknn, materialise
from rocketnpu.runtime.device import Buffer, Device, Part, Timing

from .patch import body, constant_offset, segment_data, with_register, with_segment
from .record import Tensors, disagreements


def _disagreements(program: rn.Program, name: str, recorded: dict[str, Tensors]) -> list[str]:
    with rn.Session(program, device="emulator") as session:
        return disagreements(name, session.run_isolated(recorded[name]), recorded[name])


def test_the_unbroken_programs_agree(vendor: dict[str, bytes], recorded: dict[str, Tensors]) -> None:
    for name in ("a_layer", "a_channel", "b_channel"):
        assert _disagreements(load_rknn(vendor[name], name), name, recorded) == []


def test_ignoring_the_weight_zero_point_leaves_the_record(
    vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    program = with_register(load_rknn(vendor["a_layer"], "a"), DPU.BS_OW_OP, lambda _: 0)
    assert _disagreements(program, "a_layer", recorded)


def test_a_bs_shift_off_by_one_leaves_the_record(vendor: dict[str, bytes], recorded: dict[str, Tensors]) -> None:
    positive, negative = DPU.BS_MUL_CFG.encode(BS_MUL_SHIFT_VALUE=1), DPU.DATA_FORMAT.encode(BS_MUL_SHIFT_VALUE_NEG=1)
    program = with_register(load_rknn(vendor["a_channel"], "a"), DPU.BS_MUL_CFG, lambda value: value + positive)
    program = with_register(program, DPU.DATA_FORMAT, lambda value: value + negative)
    assert _disagreements(program, "a_channel", recorded)


@pytest.mark.parametrize("name", ["a_layer", "b_channel"])
def test_padding_with_zero_leaves_the_record(name: str, vendor: dict[str, bytes], recorded: dict[str, Tensors]) -> None:
    program = with_register(load_rknn(vendor[name], name), CNA.PAD_CON1, lambda _: 0)
    assert _disagreements(program, name, recorded)


def test_rounding_down_in_the_output_converter_leaves_the_record(
    vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    """Half an output step less in every bias turns rounding to nearest into rounding down."""
    program = load_rknn(vendor["a_layer"], "a")
    values = {command.offset: command.value for command in body(program, 0)}
    shift = DPU.OUT_CVT_SHIFT.field_value(values[DPU.OUT_CVT_SHIFT.offset], "OUT_CVT_SHIFT")
    half_step = round(2 ** (shift - 1) / values[DPU.OUT_CVT_SCALE.offset])
    constants = segment_data(program, "constants")
    channels = recorded["a_layer"]["conv1_relu"].shape[1]
    offset = constant_offset(program, 0, DPU_RDMA.RDMA_BS_BASE_ADDR)
    constants[offset : offset + 4 * channels].view("<i4")[:] -= half_step
    assert _disagreements(with_segment(program, "constants", constants), "a_layer", recorded)


class ForgetfulDevice(Device):
    """Runs each task on a chip whose registers have never been written; memory stays."""

    name = "forgetful"
    cores = 1
    BASE = 0x10000

    def __init__(self, memory_bytes: int) -> None:
        self._memory = np.zeros(memory_bytes, np.uint8)
        self._used = 0

    def allocate(self, size_bytes: int) -> Buffer:
        start, self._used = self._used, self._used + -(-size_bytes // 4096) * 4096
        return Buffer(self.BASE + start, self._memory[start : start + size_bytes])

    def submit(self, parts: Sequence[Part]) -> Timing:
        for launch in (launch for part in parts for chain in part for launch in chain):
            chip = rn.Emulator(self._memory.size)
            chip.map(self.BASE, 0, self._memory.size)
            chip.memory[:] = self._memory
            chip.run(launch.address, 1, body_entries=launch.body_entries)
            self._memory[:] = chip.memory
        return Timing(0.0, 0.0)

    def close(self) -> None:
        pass


def test_registers_cleared_between_tasks_leave_the_record_unless_lists_are_full(
    vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    program = load_rknn(vendor["b_layer"], "b")
    # The table of a LUT load is not a register; its task and the one that uses it stay together.
    without_lut = [step for step in program.steps if step.name != "sigmoid"]
    program = replace(program, steps=tuple(without_lut))
    full = rn.Session(materialise(program), device=ForgetfulDevice(1 << 19)).run_isolated(recorded["b_layer"])
    assert disagreements("b_layer", full, recorded["b_layer"]) == []
    session = rn.Session(program, device=ForgetfulDevice(1 << 19))
    with pytest.raises(rn.DeviceTimeout, match="DPU reads from CORE, which enable mask 0x18 does not start"):
        session.run_isolated(recorded["b_layer"])  # the third list of "resize" does not write FLYING_MODE
