"""Register values of a lookup: a task loads the table, another sends a cube through it (hardware/dpu.md, LUT).

The 256 inputs land exactly on every fourth entry: BN multiplies by 128, entries are 32 apart. Entries halfway to the
next input hold the same result, so that no interpolation, and no rounding of one, takes part. Both tables hold the
result of input 0 where they meet. Entries are result + 129, which OUT_CVT takes off again: the chip is known to
misread an entry 0 in its fp16 mode.

Evidence: the vendor's programs for sigmoid, tanh and swish: the load, the settings of the lookup, BN's multiplier as
the index, and S_POINTER 0x30 in the task after a load (theirs looks up behind a convolution, or in a task as here).
Table positions between entries were not measured on silicon; these tables do not use them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.emit.command_list import S_POINTER_CLEARED, Address, TaskRegisters
from rocketnpu.compiler.emit.flying import flying_task
from rocketnpu.compiler.npu_ops import CubeShape, Lookup, TableLoad
from rocketnpu.compiler.tiling.areas import Area
from rocketnpu.hw.arithmetic import LUT_ENTRIES, LUT_LIMIT, LUT_STEP_SHIFT
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU

INDEX_STEP = 128
"""Index units between two int8 inputs: 256 of them fill -LUT_LIMIT..LUT_LIMIT."""
INDEX_SHIFT = 7
"""The smallest shift that the vendor uses for the index."""
ENTRIES_PER_INPUT = INDEX_STEP >> LUT_STEP_SHIFT
ENTRY_OFFSET = 129
"""Keeps entries at 1 or more."""
TABLE_LE, TABLE_LO = 0, 1
LO_IS_POSITIVE = 2
"""LUT_LO_LE_MUX: LE below 0, LO above."""


def emit_table_load(form: TableLoad, scratch: Address, core: int) -> TaskRegisters:
    """The task that loads a core's table; it copies the core's 16 bytes of `scratch` onto themselves."""
    own = scratch + core * ATOM_BYTES
    task = flying_task(form.output, CubeShape(1, 1, 1), own, own)
    entries = table_entries(form.table)
    for number, part in ((TABLE_LE, entries[:LUT_ENTRIES]), (TABLE_LO, entries[-LUT_ENTRIES:])):
        task.append(DPU.LUT_ACCESS_CFG, LUT_ACCESS_TYPE=1, LUT_TABLE_ID=number)
        for entry in part.tolist():
            task.append(DPU.LUT_ACCESS_DATA, LUT_ACCESS_DATA=entry)
    return task


def table_entries(table: NDArray[np.int8]) -> NDArray[np.int64]:
    """Both tables as one, int64 (1025,), LE and LO sharing the entry at index 0; `table` int8 (256,)."""
    position = np.arange(2 * LUT_ENTRIES - 1)
    nearest = np.minimum((position + ENTRIES_PER_INPUT // 2) // ENTRIES_PER_INPUT, table.size - 1)
    return table[nearest].astype(np.int64) + ENTRY_OFFSET


def emit_lookup(form: Lookup, source: Address, output: Address, area: Area) -> TaskRegisters:
    """The task that sends an area of a cube through the table loaded before it."""
    task = flying_task(form.output, form.output_shape, source, output, area)
    task.s_pointer = S_POINTER_CLEARED
    task.set(DPU.DATA_FORMAT, BN_MUL_SHIFT_VALUE_NEG=INDEX_SHIFT)
    task.set(DPU.BN_CFG, BN_RELU_BYPASS=1, BN_ALU_BYPASS=1)
    task.set(DPU.BN_MUL_CFG, BN_MUL_OPERAND=INDEX_STEP << INDEX_SHIFT, BN_MUL_SHIFT_VALUE=INDEX_SHIFT)
    task.set(DPU.EW_CFG, EW_RELU_BYPASS=1, EW_OP_CVT_BYPASS=1, EW_OP_BYPASS=1)
    task.set(DPU.OUT_CVT_OFFSET, OUT_CVT_OFFSET=-ENTRY_OFFSET)
    task.set(DPU.LUT_CFG, LUT_HYBRID_PRIORITY=1, LUT_OFLOW_PRIORITY=1, LUT_LO_LE_MUX=LO_IS_POSITIVE)
    task.set(DPU.LUT_INFO, LUT_LO_INDEX_SELECT=LUT_STEP_SHIFT, LUT_LE_INDEX_SELECT=LUT_STEP_SHIFT)
    task.set(DPU.LUT_LE_START, LUT_LE_START=-LUT_LIMIT)
    task.set(DPU.LUT_LO_END, LUT_LO_END=LUT_LIMIT)
    return task
