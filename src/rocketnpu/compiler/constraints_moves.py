"""What the NPU path asks of operators that move data: predicates as in constraints.py."""

from __future__ import annotations

from rocketnpu.compiler.lowered import cube_side
from rocketnpu.ir import (
    Activation,
    ConcatOptions,
    Graph,
    Operator,
    PadOptions,
    SliceOptions,
    SplitOptions,
)


def has_no_activation(_graph: Graph, op: Operator) -> bool:
    """there is no fused activation"""
    return not isinstance(op.options, ConcatOptions) or op.options.activation is Activation.NONE


def works_along_a_side(graph: Graph, op: Operator) -> bool:
    """the axis is the channel, the width, or the height of one image"""
    assert isinstance(op.options, ConcatOptions | SplitOptions)
    return cube_side(graph.tensors[op.outputs[0]], op.options.axis) is not None


def slices_sides(graph: Graph, op: Operator) -> bool:
    """the slice takes a part of channels, width, or the height of one image, and all of the other dimensions"""
    assert isinstance(op.options, SliceOptions)
    assert op.inputs[0] is not None
    options, data = op.options, graph.tensors[op.inputs[0]]
    return all(
        cube_side(data, axis) is not None or options.sizes[axis] == size
        for axis, size in enumerate(data.shape)
    )


def keeps_channels(graph: Graph, op: Operator) -> bool:
    """the dimension of the channels is not dropped"""
    assert isinstance(op.options, SliceOptions)
    assert op.inputs[0] is not None
    data = graph.tensors[op.inputs[0]]
    return all(cube_side(data, axis) != "channels" for axis in op.options.dropped)


def keeps_channel_count(graph: Graph, op: Operator) -> bool:
    """no channels are added"""
    assert isinstance(op.options, PadOptions)
    output = graph.tensors[op.outputs[0]]
    return all(cube_side(output, axis) != "channels" or pair == (0, 0) for axis, pair in enumerate(op.options.pads))


def pads_sides(graph: Graph, op: Operator) -> bool:
    """channels, width, or the height of one image are padded, and no other dimension"""
    assert isinstance(op.options, PadOptions)
    output = graph.tensors[op.outputs[0]]
    return all(cube_side(output, axis) is not None or pair == (0, 0) for axis, pair in enumerate(op.options.pads))
