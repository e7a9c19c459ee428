"""Operations on one or two cubes, element by element, with real numbers behind them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops.cube import CubeShape


class Operation(Enum):
    """What an element-wise form does with two real numbers."""

    SUM = "sum"
    PRODUCT = "product"
    MAXIMUM = "maximum"
    MINIMUM = "minimum"


@dataclass(frozen=True, eq=False)
class Elementwise:
    """Two cubes of one shape, element by element: clamp(round((s1*(q1-z1) op s2*(q2-z2)) / so) + zo).

    Ties round away from zero as in TFLite, or to even as in ONNX. A difference is a sum with a negative second scale.
    The second operand is `second`, or the int8 `constant` (height, width, channels) where that is None.
    """

    operation: Operation
    first: str
    second: str | None
    output: str
    shape: CubeShape
    first_scale: float
    second_scale: float
    output_scale: float
    first_zero_point: int
    second_zero_point: int
    output_zero_point: int
    low: int = -128
    high: int = 127
    ties_away: bool = True
    constant: NDArray[np.int8] | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first,) if self.second is None else (self.first, self.second)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of both operands."""
        return self.shape

    @property
    def output_shape(self) -> CubeShape:
        """Shape of the result."""
        return self.shape


@dataclass(frozen=True)
class WideSum:
    """The saturated sum of two int32 cubes; `output_shape` counts their bytes as channels."""

    first: str
    second: str
    output: str
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first, self.second)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of both operands."""
        return self.output_shape


@dataclass(frozen=True)
class Rescale:
    """A cube on another grid: clamp(round(gain * (q - zi)) + zo).

    The clamp below is at -128 or at zo. Ties round away from zero as in TFLite, or to even as in ONNX.
    """

    input: str
    output: str
    output_shape: CubeShape
    gain: float
    input_zero_point: int
    output_zero_point: int
    low: int = -128
    high: int = 127
    ties_away: bool = True

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the tensor read."""
        return self.output_shape
