"""CONCATENATION as copies of its parts to their places; passes/concat_in_place.py makes some of them unnecessary.

1. A part on another grid than the output is rescaled first.
2. Along the channels, a part that starts and ends on whole planes (or ends with the output) is copied to its planes.
   Parts that share planes each go through a convolution that spreads their channels, with -128 in all others; the
   largest of each channel is then the part's.
3. Along the width each part is a range of every output row, along the height a range of rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate

import numpy as np

from rocketnpu.compiler.lower.grids import scale_of, zero_point_of
from rocketnpu.compiler.lower.moves import LOWEST, selection
from rocketnpu.compiler.npu_ops import (
    ATOM_CHANNELS,
    CubeShape,
    Lowered,
    Move,
    Rescale,
    cube_shape,
    cube_side,
)
from rocketnpu.ir import ConcatOptions, Graph, Operator, Tensor


def lower_concat(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """CONCATENATION (rules 1 to 3)."""
    assert isinstance(op.options, ConcatOptions)
    output = graph.tensors[op.outputs[0]]
    sources: list[str] = []
    shapes: list[CubeShape] = []
    for index, name in enumerate(op.inputs):
        assert name is not None
        part = graph.tensors[name]
        shapes.append(cube_shape(part))
        sources.append(name)
        if not _on_one_grid(part, output):
            sources[-1] = f"{output.name}#{index}"
            zeros = zero_point_of(part), zero_point_of(output)
            gain, ties_away = scale_of(part) / scale_of(output), graph.format == "tflite"
            yield Rescale(name, sources[-1], shapes[-1], gain, *zeros, ties_away=ties_away)
    side = cube_side(output, op.options.axis)
    if side == "channels":
        yield from _along_channels(sources, shapes, output.name, cube_shape(output))
    else:
        yield from _in_the_raster(sources, shapes, output.name, cube_shape(output), down=side == "height")


def _in_the_raster(
    sources: Sequence[str], shapes: Sequence[CubeShape], target: str, out: CubeShape, *, down: bool
) -> Iterator[Move]:
    """Rule 3."""
    starts = accumulate((shape.pixels if down else shape.width for shape in shapes), initial=0)
    for source, shape, start in zip(sources, shapes, starts, strict=False):
        yield _copy(source, shape, target, out, start)


def _along_channels(
    sources: Sequence[str], shapes: Sequence[CubeShape], target: str, out: CubeShape
) -> Iterator[Lowered]:
    """Rule 2, for runs of parts that start and end on whole planes."""
    starts = list(accumulate((shape.channels for shape in shapes), initial=0))
    cuts = [index for index, start in enumerate(starts[:-1]) if start % ATOM_CHANNELS == 0]
    for first, last in zip(cuts, [*cuts[1:], len(sources)], strict=True):
        place = starts[first] // ATOM_CHANNELS * out.pixels
        if last - first == 1:
            yield _copy(sources[first], shapes[first], target, out, place)
            continue
        run = CubeShape(out.height, out.width, starts[last] - starts[first])
        merged = ""
        for index in range(first, last):
            spread = f"{target}#{index} spread"
            channels = np.arange(run.channels) - (starts[index] - starts[first])
            channels[channels >= shapes[index].channels] = -1
            yield selection(sources[index], spread, shapes[index], run, channels=channels, zero_point=LOWEST)
            if not merged:
                merged = spread
                continue
            ends = index == last - 1
            result = target if ends else f"{target}#{index} merged"
            yield Move(
                first=merged,
                second=spread,
                output=result,
                input_shape=run,
                output_shape=out if ends else run,
                height=run.height,
                width=run.width,
                channels=run.channels,
                row_step=run.width,
                output_start=place if ends else 0,
            )
            merged = result


def _copy(source: str, shape: CubeShape, target: str, out: CubeShape, start: int) -> Move:
    return Move(
        first=source,
        second=None,
        output=target,
        input_shape=shape,
        output_shape=out,
        height=shape.height,
        width=shape.width,
        channels=shape.channels,
        row_step=out.width,
        output_start=start,
    )


def _on_one_grid(part: Tensor, output: Tensor) -> bool:
    return (scale_of(part), zero_point_of(part)) == (scale_of(output), zero_point_of(output))
