"""Element-wise operators on two tensors."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.compiler.constraints import ConstraintError
from rocketnpu.compiler.lower.grids import (
    activation_bounds,
    scale_of,
    zero_point_of,
)
from rocketnpu.compiler.lowered import (
    Addition,
    Lowered,
    cube_shape,
)
from rocketnpu.ir import (
    ElementwiseOptions,
    Graph,
    Operator,
)


def lower_add(graph: Graph, op: Operator) -> Iterator[Lowered]:
    """ADD."""
    assert isinstance(op.options, ElementwiseOptions)
    tensors = [graph.tensors[name] for name in op.inputs if name is not None]
    # The converter of the second operand has gain at most 1 this way, so that 15 bits hold it.
    first, second = sorted(tensors, key=scale_of, reverse=True)
    output = graph.tensors[op.outputs[0]]
    low, high = activation_bounds(op.options.activation, output)
    # EW_RELU and EW_RELUX both clamp at zero from below.
    if (low > -128 or high < 127) and low != zero_point_of(output):
        raise ConstraintError("the fused activation of an addition changes nothing, or clamps at zero")
    yield Addition(
        first=first.name,
        second=second.name,
        output=output.name,
        shape=cube_shape(output),
        first_scale=scale_of(first),
        second_scale=scale_of(second),
        output_scale=scale_of(output),
        first_zero_point=zero_point_of(first),
        second_zero_point=zero_point_of(second),
        output_zero_point=zero_point_of(output),
        low=low,
        high=high,
        ties_away=graph.format == "tflite",
    )
