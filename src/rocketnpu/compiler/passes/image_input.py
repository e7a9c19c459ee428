"""A pass over placed operators: the model's input image stays dense where only convolutions read it.

1. An input of 1 to 4 channels that only direct convolutions over all its channels read is stored as dense pixels,
   which the chip's image mode takes (hardware/layouts.md, First layer): the host need not spread it to 16 channels.
2. If one of its readers cannot be tiled that way, it stays a feature cube for all of them.
3. A QUANTIZE that only flips the sign gives the same bytes another name: its readers count as the image's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.options import Options
from rocketnpu.compiler.passes.assign import Placed, PlannedAlias, PlannedConvolution
from rocketnpu.compiler.tiling.convolution import tile
from rocketnpu.hw.limits import MAX_IMAGE_CHANNELS
from rocketnpu.ir import Graph


def with_image_inputs(graph: Graph, placed: Sequence[Placed], options: Options) -> tuple[Placed, ...]:
    """The same operators, with dense inputs where both rules allow it."""
    result = list(placed)
    for name in graph.inputs:
        for index, item in (_dense_readers(graph, placed, name, options) or {}).items():
            result[index] = item
    return tuple(result)


def _dense_readers(graph: Graph, placed: Sequence[Placed], name: str, options: Options) -> dict[int, Placed] | None:
    """The readers of an image, and of its aliases (rule 3), as readers of dense pixels; None if one cannot be that."""
    if name in graph.outputs:
        return None
    found: dict[int, Placed] = {}
    for index, item in enumerate(placed):
        if name not in item.operator.inputs or not item.plan:
            continue
        if item.operator.kind == "QUANTIZE" and isinstance(item.plan[0], PlannedAlias):
            behind = _dense_readers(graph, placed, item.operator.outputs[0], options)
        else:
            dense = _reading_image(item, name, options)
            behind = None if dense is None else {index: dense}
        if behind is None:
            return None
        found |= behind
    return found


def _reading_image(item: Placed, name: str, options: Options) -> Placed | None:
    """The operator with `name` as a dense image, None if it cannot read it so."""
    if len(item.plan) != 1 or not isinstance(item.plan[0], PlannedConvolution):
        return None
    plan = item.plan[0]
    conv = plan.form
    reads_all = conv.input_channels == conv.input_shape.channels <= MAX_IMAGE_CHANNELS
    if (
        conv.input != name
        or conv.depthwise
        or not reads_all
        or min(conv.input_shape.height, conv.input_shape.width) == 1
    ):
        return None
    dense = replace(conv, image_input=True)
    try:
        return replace(item, plan=(replace(plan, form=dense, tiles=tile(dense, options.optimize)),))
    except ConstraintError:
        return None
