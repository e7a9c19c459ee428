"""Element types by the precision codes of CNA, CORE, DPU and DPU_RDMA (hardware/registers.md)."""

from __future__ import annotations

from typing import Any

import numpy as np

from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.state import TaskState
from rocketnpu.hw.codes import FP16, FP32, INT8, INT16, INT32
from rocketnpu.hw.registers import Register

DTYPES: dict[int, np.dtype[Any]] = {
    INT8: np.dtype(np.int8),
    INT16: np.dtype("<i2"),
    FP16: np.dtype("<f2"),
    INT32: np.dtype("<i4"),
    FP32: np.dtype("<f4"),
}


def precision(state: TaskState, register: Register, field: str, allowed: tuple[int, ...]) -> int:
    """A precision field; raises DeviceError for a code that the unit is not known to take."""
    code = state.value(register, field)
    if code not in allowed:
        raise unsupported(register, field, code, f"supported codes are {', '.join(map(str, allowed))}")
    return code
