"""The DPU on fp16 data: what is known of it, which is pass-through, ReLU and conversion of the fp32 accumulator.

hardware/dpu.md describes the integer stages; of the float ones only this subset is established (vendor fp16
convolutions, hardware/convolution.md). Everything else is refused.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.faults import unsupported
from rocketnpu.emulator.precision import DTYPES, precision
from rocketnpu.emulator.state import TaskState
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.hw.codes import FP16, FP32
from rocketnpu.hw.registers import DPU

Array: TypeAlias = NDArray[Any]


class FloatPipeline:
    """ReLU where a stage enables it, then fp16 (rounded to nearest even) or fp32."""

    def __init__(self, state: TaskState) -> None:
        """Raises DeviceError for settings whose effect on floats is not known."""
        self._relu = any(_stage_has_relu(state, name) for name in ("BS", "BN"))
        state.expect(DPU.EW_CFG, "EW_BYPASS", 1, "element-wise floats are not modelled")
        code = precision(state, DPU.DATA_FORMAT, "OUT_PRECISION", (FP16, FP32))
        state.expect(DPU.OUT_CVT_SCALE, "FP32TOFP16_EN", int(code == FP16), "OUT_PRECISION says otherwise")
        state.expect(DPU.OUT_CVT_OFFSET, "OUT_CVT_OFFSET", 0, "output conversion of floats is not modelled")
        state.expect(DPU.OUT_CVT_SHIFT, "OUT_CVT_SHIFT", 0, "output conversion of floats is not modelled")
        if state.value(DPU.OUT_CVT_SCALE, "OUT_CVT_SCALE") not in (0, 1):
            state.expect(DPU.OUT_CVT_SCALE, "OUT_CVT_SCALE", 1, "output conversion of floats is not modelled")
        self._dtype = DTYPES[code]

    def run(self, values: Array, operand: Array | None, workspace: Workspace) -> Array:  # noqa: ARG002
        """Output elements [pixels, channels] of fp32 `values`."""
        with np.errstate(over="ignore"):
            return (np.maximum(values, 0) if self._relu else values).astype(self._dtype)


def _stage_has_relu(state: TaskState, name: str) -> bool:
    cfg = DPU[f"{name}_CFG"]
    if state.flag(cfg, f"{name}_BYPASS"):
        return False
    for part in ("ALU", "MUL"):
        if not state.flag(cfg, f"{name}_{part}_BYPASS"):
            raise unsupported(cfg, f"{name}_{part}_BYPASS", 0, "float operands are not modelled")
    if state.flag(cfg, f"{name}_RELU_BYPASS"):
        return False
    state.expect(cfg, f"{name}_RELUX_EN", 0, "a float ceiling is not modelled")
    return True
