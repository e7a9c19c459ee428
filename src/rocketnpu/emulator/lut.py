"""The DPU's lookup tables: uploads through LUT_ACCESS, and the settings of a task that uses them.

Source: hardware/dpu.md, LUT. Only the vendor's geometry is known: two tables of 513 entries, steps of 32 over +-16384.
"""

from __future__ import annotations

import numpy as np

from rocketnpu.emulator.state import TaskState
from rocketnpu.errors import DeviceError
from rocketnpu.hw.arithmetic import LUT_ENTRIES, LUT_LIMIT, LUT_STEP_SHIFT, LookupTable, Slope
from rocketnpu.hw.registers import DPU


class LutMemory:
    """The two tables, LE (negative index) and LO; `version` changes with every upload."""

    def __init__(self) -> None:
        self.tables = np.zeros((2, LUT_ENTRIES), np.int16)
        self.version = 0

    def upload(self, config: int, data: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> None:
        """Write entries as LUT_ACCESS_CFG = `config` directs; raises DeviceError past the end of a table."""
        fields = DPU.LUT_ACCESS_CFG.decode(config)
        if not fields["LUT_ACCESS_TYPE"] or not data.size:
            return
        first = fields["LUT_ADDR"]
        if first + data.size > LUT_ENTRIES:
            raise DeviceError(f"{DPU.LUT_ACCESS_DATA}: entry {first + data.size - 1} of a table of {LUT_ENTRIES}")
        self.tables[fields["LUT_TABLE_ID"], first : first + data.size] = data
        self.version += 1


def table_of(state: TaskState, memory: LutMemory) -> LookupTable:
    """The lookup that a task's registers describe; raises DeviceError for any geometry but the vendor's."""
    why = "only the vendor's table geometry is known"
    for register, field, expected in (
        (DPU.LUT_CFG, "LUT_HYBRID_PRIORITY", 1),
        (DPU.LUT_CFG, "LUT_OFLOW_PRIORITY", 1),
        (DPU.LUT_CFG, "LUT_UFLOW_PRIORITY", 0),
        (DPU.LUT_CFG, "LUT_LO_LE_MUX", 2),
        (DPU.LUT_INFO, "LUT_LO_INDEX_SELECT", LUT_STEP_SHIFT),
        (DPU.LUT_INFO, "LUT_LE_INDEX_SELECT", LUT_STEP_SHIFT),
        (DPU.LUT_LE_START, "LUT_LE_START", -LUT_LIMIT),
        (DPU.LUT_LE_END, "LUT_LE_END", 0),
        (DPU.LUT_LO_START, "LUT_LO_START", 0),
        (DPU.LUT_LO_END, "LUT_LO_END", LUT_LIMIT),
    ):
        state.expect(register, field, expected, why)
    low, high = DPU.LUT_LE_SLOPE_SCALE, DPU.LUT_LO_SLOPE_SCALE
    return LookupTable(
        le=memory.tables[0].copy(),
        lo=memory.tables[1].copy(),
        underflow=Slope(
            state.value(low, "LUT_LE_SLOPE_UFLOW_SCALE"),
            state.value(DPU.LUT_LE_SLOPE_SHIFT, "LUT_LE_SLOPE_UFLOW_SHIFT"),
        ),
        overflow=Slope(
            state.value(high, "LUT_LO_SLOPE_OFLOW_SCALE"),
            state.value(DPU.LUT_LO_SLOPE_SHIFT, "LUT_LO_SLOPE_OFLOW_SHIFT"),
        ),
    )
