"""From the model's operators to the NPU's own: each becomes one or more forms of `lowered`; a file for each family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

from rocketnpu.compiler.constraints.table import ELEMENTWISE
from rocketnpu.compiler.lower.clamps import with_clamps_apart
from rocketnpu.compiler.lower.concat import lower_concat
from rocketnpu.compiler.lower.convolution import lower_conv, lower_depthwise, lower_fully_connected
from rocketnpu.compiler.lower.elementwise import lower_elementwise
from rocketnpu.compiler.lower.long_rows import with_legal_rows
from rocketnpu.compiler.lower.lookup import lower_lookup, lower_table
from rocketnpu.compiler.lower.max_pool import lower_max_pool
from rocketnpu.compiler.lower.pooling import lower_average_pool, lower_mean
from rocketnpu.compiler.lower.resize import (
    lower_bilinear,
    lower_depth_to_space,
    lower_nearest,
    lower_space_to_depth,
)
from rocketnpu.compiler.lower.shape import lower_reshape
from rocketnpu.compiler.lower.slices import lower_gather, lower_pad, lower_slice, lower_split
from rocketnpu.compiler.lower.transpose_conv import lower_transpose_conv
from rocketnpu.compiler.lower.unary import CLAMPS, lower_clamp, lower_prelu, lower_quantize
from rocketnpu.compiler.npu_ops import Lowered
from rocketnpu.ir import Graph, Operator
from rocketnpu.unary import FUNCTIONS

__all__ = ["lower"]


def lower(graph: Graph, op: Operator) -> tuple[Lowered, ...]:
    """The NPU form of an operator that has passed `constraints.check`; ConstraintError if its sizes rule it out."""
    return tuple(with_legal_rows(with_clamps_apart(LOWERINGS[op.kind](graph, op))))


LOWERINGS: Mapping[str, Callable[[Graph, Operator], Iterator[Lowered]]] = MappingProxyType(
    {
        "CONV_2D": lower_conv,
        "DEPTHWISE_CONV_2D": lower_depthwise,
        "FULLY_CONNECTED": lower_fully_connected,
        **dict.fromkeys(ELEMENTWISE, lower_elementwise),
        "AVERAGE_POOL_2D": lower_average_pool,
        "CONCATENATION": lower_concat,
        "RESIZE_NEAREST_NEIGHBOR": lower_nearest,
        "RESIZE_BILINEAR": lower_bilinear,
        "SPACE_TO_DEPTH": lower_space_to_depth,
        "DEPTH_TO_SPACE": lower_depth_to_space,
        "SQUEEZE": lower_reshape,
        "EXPAND_DIMS": lower_reshape,
        "TRANSPOSE": lower_reshape,
        "TRANSPOSE_CONV": lower_transpose_conv,
        "SPLIT": lower_split,
        "SPLIT_V": lower_split,
        "SLICE": lower_slice,
        "STRIDED_SLICE": lower_slice,
        "GATHER": lower_gather,
        "PAD": lower_pad,
        "PADV2": lower_pad,
        "MIRROR_PAD": lower_pad,
        "MAX_POOL_2D": lower_max_pool,
        "MEAN": lower_mean,
        "PRELU": lower_prelu,
        "QUANTIZE": lower_quantize,
        **dict.fromkeys(CLAMPS, lower_clamp),
        **dict.fromkeys(FUNCTIONS, lower_lookup),
        "LOOKUP": lower_table,
        "RESHAPE": lower_reshape,
    }
)
