"""MAX_POOL_2D as element-wise maxima of shifted views (hardware/ppu.md, Alternatives without PPU).

1. A padded pool starts from a copy of its input with -128 around it, which never wins.
2. A maximum of a plane and the same plane d pixels further covers twice the rows, or columns, that its input covers:
   k of them take log2(k) steps, rounded up, between two places in turn. Columns shift through the ends of rows; what
   comes out there is not used.
3. An identity convolution takes every stride-th row and column of that. It is not needed where rows alone are pooled
   at stride 1.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.compiler.constraints.table import operands
from rocketnpu.compiler.constraints.tensors import MAX_DEVICE_BYTES
from rocketnpu.compiler.lower.grids import activation_bounds, pads_before, zero_point_of
from rocketnpu.compiler.lower.moves import LOWEST, identity
from rocketnpu.compiler.lower.padding import pad_in_steps
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, CubeShape, Lowered, Move, cube_shape
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw import limits
from rocketnpu.hw.sizes import align
from rocketnpu.ir import Graph, Operator, PoolOptions


def lower_max_pool(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """MAX_POOL_2D (rules 1 to 3)."""
    found, options = operands(graph, op), op.options
    assert isinstance(options, PoolOptions)
    data, out = cube_shape(found.data), cube_shape(found.output)
    name, target = found.data.name, found.output.name
    top, left = pads_before(options, data, out, (options.filter_h, options.filter_w))
    padded = CubeShape(
        max((out.height - 1) * options.stride_h + options.filter_h, top + data.height),
        max((out.width - 1) * options.stride_w + options.filter_w, left + data.width),
        data.channels,
    )
    if padded != data:
        if padded.pixels * align(padded.channels, ATOM_CHANNELS) > MAX_DEVICE_BYTES:
            raise ConstraintError("with its padding the input takes at most 1 GiB on the device")
        name = f"{target}#padded"
        yield from pad_in_steps(found.data.name, name, data, padded, (top, left), LOWEST)
    shifts = [*_shifts(options.filter_h, padded.width), *_shifts(options.filter_w, 1)]
    low, high = activation_bounds(options.activation, found.output)
    strides = (options.stride_h, options.stride_w)
    picks = strides != (1, 1) or options.filter_w > 1 or (low, high) != (-128, 127) or not shifts
    pixels = padded.pixels
    for step, shift in enumerate(shifts):
        pixels -= shift
        last = step == len(shifts) - 1 and not picks
        result = target if last else f"{target}#{step % 2}"
        yield from _maxima(name, result, padded, out if last else padded, pixels, shift)
        name = result
    if picks:
        zero = zero_point_of(found.output)
        yield identity(name, target, padded, out, zero_point=zero, strides=strides, low=low, high=high)


def _shifts(taps: int, pixels: int) -> list[int]:
    """Rule 2: distances in pixels of the two views of each step, for windows of `taps` places `pixels` apart."""
    covered, shifts = 1, list[int]()
    while covered < taps:
        step = min(covered, taps - covered)
        shifts.append(step * pixels)
        covered += step
    return shifts


def _maxima(source: str, target: str, data: CubeShape, out: CubeShape, pixels: int, shift: int) -> Iterator[Move]:
    """Pixel i of each of the target's planes is the larger one of the source's pixels i and i + shift, i < pixels."""
    rows = pixels // data.width
    whole, rest = (0, rows, data.width), (rows * data.width, 1, pixels - rows * data.width)
    runs = [(0, 1, pixels)] if rest[2] and pixels <= limits.MAX_CUBE else [whole, rest]
    for start, height, width in runs:
        if height * width:
            yield Move(
                first=source,
                second=source,
                output=target,
                input_shape=data,
                output_shape=out,
                height=height,
                width=width,
                channels=data.channels,
                row_step=width,
                first_start=start,
                second_start=start + shift,
                output_start=start,
            )
