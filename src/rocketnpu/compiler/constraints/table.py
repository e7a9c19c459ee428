"""What the NPU path asks of an operator: one documented predicate a constraint, whose docstring is the rule users read.

`check` returns the first rule that an operator breaks. Limits of the chip that depend on the tiling are found while
tiling and raised as ConstraintError, with the same kind of sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from rocketnpu.compiler.constraints.data_movement import (
    chooses_channels,
    grows_by_whole_factors,
    has_constant_shape,
    has_few_phases,
    has_no_activation,
    interpolates_whole_steps,
    keeps_channel_count,
    keeps_channels,
    keeps_order,
    keeps_pixels,
    repeats_pixels,
    steps_evenly,
)
from rocketnpu.compiler.constraints.layers import (
    averages_on_one_grid,
    broadcasts_one_pixel,
    compares_on_one_grid,
    has_clamp_activation,
    has_constant_alpha,
    has_constant_bias,
    has_constant_weights,
    has_matching_inner_size,
    has_symmetric_int8_weights,
    has_variable_operand,
    keeps_sides,
    reduces_sides,
)
from rocketnpu.compiler.constraints.tensors import (
    ELEMENTWISE,
    ConstraintError,
    channels_agree,
    data_inputs,
    data_tensors,
    fits_addresses,
    has_equal_grid,
    has_image_layout,
    has_image_rank,
    has_one_batch,
    has_one_dtype,
    has_variable_data,
    is_analysable,
    is_int8_per_tensor,
    is_not_empty,
    operands,
)
from rocketnpu.ir import BYTE_TYPES, Graph, Operator
from rocketnpu.unary import FUNCTIONS

__all__ = [
    "CONSTRAINTS",
    "ELEMENTWISE",
    "ConstraintError",
    "Predicate",
    "check",
    "data_inputs",
    "has_equal_grid",
    "operands",
    "supported_operators",
]

Predicate: TypeAlias = Callable[[Graph, Operator], bool]

_DATA: tuple[Predicate, ...] = (
    is_analysable,
    is_int8_per_tensor,
    has_variable_data,
    has_one_dtype,
    is_not_empty,
    fits_addresses,
)
_ELEMENTWISE: tuple[Predicate, ...] = (
    is_analysable,
    is_int8_per_tensor,
    has_variable_operand,
    has_one_dtype,
    is_not_empty,
    fits_addresses,
    has_clamp_activation,
    channels_agree,
    broadcasts_one_pixel,
)
_ALIKE: tuple[Predicate, ...] = (*_DATA, channels_agree)
_IMAGE: tuple[Predicate, ...] = (*_DATA, has_image_rank, has_image_layout, has_one_batch)
_CONVOLUTION: tuple[Predicate, ...] = (
    *_IMAGE,
    has_constant_weights,
    has_symmetric_int8_weights,
    has_constant_bias,
    has_clamp_activation,
)

CONSTRAINTS: Mapping[str, tuple[Predicate, ...]] = MappingProxyType(
    {
        "CONV_2D": _CONVOLUTION,
        "DEPTHWISE_CONV_2D": _CONVOLUTION,
        "FULLY_CONNECTED": (
            *_DATA,
            has_constant_weights,
            has_constant_bias,
            has_clamp_activation,
            has_matching_inner_size,
        ),
        "ADD": _ELEMENTWISE,
        "SUB": _ELEMENTWISE,
        "MUL": _ELEMENTWISE,
        "MAXIMUM": (*_ELEMENTWISE, compares_on_one_grid),
        "MINIMUM": (*_ELEMENTWISE, compares_on_one_grid),
        "PRELU": (*_ALIKE, has_constant_alpha),
        "QUANTIZE": (
            is_analysable,
            is_int8_per_tensor,
            has_variable_data,
            is_not_empty,
            fits_addresses,
            channels_agree,
        ),
        **dict.fromkeys(("RELU", "RELU6", "RELU_0_TO_1"), _ALIKE),
        **dict.fromkeys((*FUNCTIONS, "LOOKUP"), _ALIKE),
        "AVERAGE_POOL_2D": (*_IMAGE, averages_on_one_grid, has_clamp_activation),
        "CONCATENATION": (*_ALIKE, has_no_activation),
        "TRANSPOSE_CONV": (
            *_IMAGE,
            has_constant_weights,
            has_symmetric_int8_weights,
            has_constant_bias,
            has_clamp_activation,
        ),
        "RESIZE_NEAREST_NEIGHBOR": (*_IMAGE, has_equal_grid, grows_by_whole_factors, repeats_pixels),
        "RESIZE_BILINEAR": (*_IMAGE, has_equal_grid, interpolates_whole_steps, has_few_phases, steps_evenly),
        "SPACE_TO_DEPTH": (*_IMAGE, has_equal_grid),
        "DEPTH_TO_SPACE": (*_IMAGE, has_equal_grid),
        "SQUEEZE": (*_DATA, has_equal_grid, keeps_pixels),
        "EXPAND_DIMS": (*_DATA, has_equal_grid, keeps_pixels),
        "TRANSPOSE": (*_DATA, has_equal_grid, keeps_order),
        "SPLIT": (*_ALIKE, has_equal_grid),
        "SPLIT_V": (*_ALIKE, has_equal_grid),
        "SLICE": (*_ALIKE, has_equal_grid),
        "STRIDED_SLICE": (*_DATA, has_equal_grid, keeps_channels, channels_agree),
        "GATHER": (*_ALIKE, has_equal_grid, chooses_channels),
        "PAD": (*_ALIKE, has_equal_grid),
        "PADV2": (*_ALIKE, has_equal_grid),
        "MIRROR_PAD": (*_ALIKE, has_equal_grid, keeps_channel_count),
        "MAX_POOL_2D": (*_IMAGE, has_equal_grid, has_clamp_activation),
        "MEAN": (*_DATA, reduces_sides, keeps_sides),
        "RESHAPE": (*_DATA, has_equal_grid, has_constant_shape, keeps_pixels),
    }
)
"""The operators that the NPU path takes, each with its rules in the order in which they are checked."""


def check(graph: Graph, op: Operator) -> None:
    """Raise ConstraintError with the first rule that `op` breaks."""
    if op.opaque is not None:
        raise ConstraintError(op.opaque)
    for name in (*op.inputs, *op.outputs):
        if name is not None and not graph.tensors[name].has_static_shape:
            raise ConstraintError(f"{op.kind} on {name}, whose shape is not known before the run, has no NPU form")
    if op.kind not in CONSTRAINTS:
        raise ConstraintError(op.unsupported or f"{op.kind} has no NPU form")
    for rule in CONSTRAINTS[op.kind]:
        if not rule(graph, op):
            raise ConstraintError(_broken(graph, op, rule))


def _broken(graph: Graph, op: Operator, rule: Predicate) -> str:
    """What is said of a broken rule."""
    if rule is is_analysable:
        return f"{rule.__doc__} ({op.unsupported})"
    if rule is is_int8_per_tensor:
        other = next((tensor.dtype for tensor in data_tensors(graph, op) if tensor.dtype not in BYTE_TYPES), None)
        return f"{rule.__doc__}" if other is None else f"{other} data has no NPU form"
    return f"{rule.__doc__}"


def supported_operators() -> str:
    """The rules above as a Markdown page (docs/operators.md)."""
    lines = [
        "# Operators on the NPU",
        "",
        "Made from the rules' docstrings by `python -m rocketnpu.compiler.constraints.table > docs/operators.md`.",
        "",
        "An operator that breaks a rule runs on the CPU, through LiteRT or ONNX Runtime, and `session.steps`,",
        "`rocketnpu run` and `compile` name the rule. All other operators run on the CPU. Sizes that one task cannot",
        "hold are cut into several; where no cut is possible, the rule that tiling found is named in the same way.",
    ]
    for kind, rules in CONSTRAINTS.items():
        lines += ["", f"## {kind}", "", *(f"- {rule.__doc__}" for rule in rules)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(supported_operators(), end="")
