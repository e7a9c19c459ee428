"""MAX_POOL_2D, AVERAGE_POOL_2D and MEAN as one pool of the PPU, for the driver that sees its end (hardware/ppu.md).

1. The unit keeps the grid and clamps nothing, so that both grids are equal and no activation is fused.
2. Maxima are exact on silicon, padding included.
3. An average divides by the whole window and has its own rule for ties. It is taken only if every sum that int8 values
   can have gives the byte of the model's reference, by the measured rule and by the product of reciprocals that the
   rule comes from. Windows of an odd number of values have no ties and pass; 2 x 2 passes for ONNX with an even zero
   point, and never for TFLite, which rounds ties away from zero.
4. Averages of more than 25 values are left to the other form: for 7 x 7 the unit's rounding is not measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.constraints.layers import reduced_shape
from rocketnpu.compiler.constraints.table import has_equal_grid, operands
from rocketnpu.compiler.lower.grids import SIGN_FLIP, activation_bounds, pads_before, zero_point_of
from rocketnpu.compiler.npu_ops import Pool, PoolMethod, cube_shape
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw import arithmetic, limits
from rocketnpu.ir import Graph, Operator, Options, PoolOptions

POOLS = frozenset({"AVERAGE_POOL_2D", "MAX_POOL_2D", "MEAN"})
"""Operators that the PPU may compute."""

MOST_AVERAGED = 25
"""Rule 4 (hardware/ppu.md, Arithmetic)."""


def lower_on_pooling_unit(graph: Graph, op: Operator) -> Iterator[Pool]:
    """The pool of an operator that has passed `constraints.check`; ConstraintError if a rule above rules it out."""
    found = operands(graph, op)
    data, out = cube_shape(found.data), cube_shape(found.output)
    if op.kind == "MEAN":
        out = reduced_shape(found.data, op)  # also without dimensions for height and width
        if out.channels != data.channels:
            raise ConstraintError("the pooling unit works on each channel by itself")
    if not has_equal_grid(graph, op):
        raise ConstraintError("the pooling unit keeps the grid")
    kernel_h, kernel_w, strides, pads = _window(op.options, (data.height // out.height, data.width // out.width))
    if isinstance(op.options, PoolOptions):
        if activation_bounds(op.options.activation, found.output) != (-128, 127):
            raise ConstraintError("the pooling unit has no activation")
        pads = pads_before(op.options, data, out, (kernel_h, kernel_w))
    # A single window has no stride; one as large as the window lets no line of the unit's buffer serve two windows.
    stride_h = kernel_h if out.height == 1 else strides[0]
    stride_w = kernel_w if out.width == 1 else strides[1]
    if max(kernel_h, kernel_w, stride_h, stride_w) > limits.MAX_POOL_WINDOW:
        raise ConstraintError(f"the pooling unit has windows and strides of at most {limits.MAX_POOL_WINDOW}")
    method = PoolMethod.MAX if op.kind == "MAX_POOL_2D" else PoolMethod.AVERAGE
    pool = Pool(
        method,
        found.data.name,
        found.output.name,
        data,
        out,
        kernel_h,
        kernel_w,
        stride_h,
        stride_w,
        *pads,
    )
    if method is PoolMethod.AVERAGE:
        inside = _fits(out.height, stride_h, kernel_h, data.height) and _fits(out.width, stride_w, kernel_w, data.width)
        if any(pads) or not inside:
            raise ConstraintError("the pooling unit divides by the whole window, padding included")
        unsigned = found.data.dtype == np.uint8
        if not averages_exactly(kernel_h, kernel_w, graph.format, zero_point_of(found.data), unsigned=unsigned):
            raise ConstraintError("the pooling unit's average of such a window is not the reference's for every sum")
    yield pool


def averages_exactly(kernel_h: int, kernel_w: int, form: str, zero_point: int, *, unsigned: bool) -> bool:
    """Rules 3 and 4 for a window; `zero_point` is the device's, `form` the model's format."""
    taps = kernel_h * kernel_w
    if taps > MOST_AVERAGED:
        return False
    sums = np.arange(-128 * taps, 127 * taps + 1)
    measured = arithmetic.average_pool(sums, kernel_w, kernel_h)
    reciprocals = arithmetic.pool_reciprocal(kernel_w) * arithmetic.pool_reciprocal(kernel_h)
    product = arithmetic.round_half_even(sums * reciprocals, 2 * arithmetic.POOL_RECIPROCAL_BITS)
    reference = _reference(sums, taps, form, zero_point, unsigned=unsigned)
    return np.array_equal(measured, reference) and np.array_equal(product, reference)


def _reference(sums: NDArray[np.int64], taps: int, form: str, zero_point: int, *, unsigned: bool) -> NDArray[np.int64]:
    """What the model's reference makes of a sum of the device's bytes.

    TFLite averages the stored numbers, ties away from zero, of which uint8 ones are positive; ONNX real ones, ties to
    even.
    """
    if form != "tflite":
        return np.rint((sums - taps * zero_point) / taps).astype(np.int64) + zero_point
    flip = SIGN_FLIP if unsigned else 0
    stored = sums + taps * flip
    return np.sign(stored) * ((2 * np.abs(stored) + taps) // (2 * taps)) - flip


def _window(options: Options | None, whole: tuple[int, int]) -> tuple[int, int, tuple[int, int], tuple[int, int]]:
    """Kernel height and width, strides, and no padding; a mean covers `whole` rows and columns."""
    if isinstance(options, PoolOptions):
        return options.filter_h, options.filter_w, (options.stride_h, options.stride_w), (0, 0)
    return *whole, (1, 1), (0, 0)


def _fits(windows: int, stride: int, kernel: int, size: int) -> bool:
    """Whether all windows along an axis lie inside the input."""
    return (windows - 1) * stride + kernel <= size
