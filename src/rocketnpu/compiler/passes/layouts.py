"""A pass over the graph: which dimension of each tensor lies in the lanes of the device's atoms, as its channels.

On the device every tensor is pixels of channels, whatever its rank. Most operators leave free which dimension is the
channel, but all tensors of one operator must agree. A reshape or a transposition between two that agree moves no byte.

1. Convolutions, pools and resizes have their channels where the model's format has them: dimension 1 in ONNX, the last
   one in TFLite. Fully connected layers have them last.
2. From these tensors the choice spreads through operators that treat all dimensions alike, and through those that give
   elements another shape, as far as they keep the channel's dimension whole. The nearest one wins.
3. An average over dimension 1 or the last one decides for the other. Tensors of one or two dimensions have their
   channels last. Of what is left, tensors of four dimensions in ONNX models have them in dimension 1, all others last.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import prod

from rocketnpu.compiler.constraints.table import ELEMENTWISE, data_inputs
from rocketnpu.compiler.constraints.tensors import IMAGE_OPERATORS, RESHAPES, image_layout
from rocketnpu.ir import Graph, Operator, ReduceOptions, SliceOptions, TransposeOptions
from rocketnpu.unary import FUNCTIONS

SPREADING = ELEMENTWISE | {
    *FUNCTIONS,
    "CONCATENATION",
    "GATHER",
    "LOOKUP",
    "MIRROR_PAD",
    "PAD",
    "PADV2",
    "PRELU",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "RELU_0_TO_1",
    "SPLIT",
    "SPLIT_V",
}
"""Operators of rule 2 whose results have the dimensions of their operands."""

FIRST = 1
"""The channels' dimension of NCHW."""


def with_layouts(graph: Graph) -> Graph:
    """The graph with a layout for each of its tensors that is computed."""
    search = _Search(graph)
    search.spread(_fixed(graph))
    for seed in (*_averaged(graph), *_flat(graph), *_others(graph)):
        search.spread([seed])
    tensors = dict(graph.tensors)
    for name, axis in search.axes.items():
        tensors[name] = replace(tensors[name], layout="NHWC" if axis == search.last(name) else "NCHW")
    return replace(graph, tensors=tensors)


def _fixed(graph: Graph) -> Iterator[tuple[str, int]]:
    """Rule 1."""
    for op in graph.operators:
        names = (*data_inputs(op), *op.outputs)
        if op.kind == "FULLY_CONNECTED":
            yield from ((name, len(graph.tensors[name].shape) - 1) for name in names)
        elif op.kind in IMAGE_OPERATORS:
            for name in names:
                yield name, FIRST if image_layout(graph) == "NCHW" else len(graph.tensors[name].shape) - 1


def _averaged(graph: Graph) -> Iterator[tuple[str, int]]:
    """Averages of rule 3."""
    for op in graph.operators:
        if not isinstance(op.options, ReduceOptions) or not op.inputs or op.inputs[0] is None:
            continue
        last = len(graph.tensors[op.inputs[0]].shape) - 1
        kept = [axis for axis in (FIRST, last) if axis not in op.options.axes]
        if len(kept) == 1:
            yield op.inputs[0], kept[0]


def _flat(graph: Graph) -> Iterator[tuple[str, int]]:
    """Tensors of one or two dimensions (rule 3)."""
    yield from ((name, len(tensor.shape) - 1) for name, tensor in graph.tensors.items() if len(tensor.shape) in (1, 2))


def _others(graph: Graph) -> Iterator[tuple[str, int]]:
    """What is left (rule 3)."""
    names = (name for op in graph.operators for name in (*op.inputs, *op.outputs) if name is not None)
    for name in dict.fromkeys((*graph.inputs, *names)):
        rank = len(graph.tensors[name].shape)
        yield name, FIRST if rank == 4 and graph.format == "onnx" else rank - 1


@dataclass(frozen=True, eq=False)
class _Search:
    """`axes` holds the channel's dimension of each tensor that has one already."""

    graph: Graph
    axes: dict[str, int] = field(default_factory=dict[str, int])
    neighbours: Mapping[str, list[Operator]] = field(init=False)

    def __post_init__(self) -> None:
        neighbours: dict[str, list[Operator]] = {}
        for op in self.graph.operators:
            for name in dict.fromkeys((*data_inputs(op), *op.outputs)):
                neighbours.setdefault(name, []).append(op)
        object.__setattr__(self, "neighbours", neighbours)

    def last(self, name: str) -> int:
        """The last dimension of a tensor."""
        return len(self.graph.tensors[name].shape) - 1

    def spread(self, seeds: Iterable[tuple[str, int]]) -> None:
        """Rule 2, from seeds that have no channels yet."""
        found = deque(seed for seed in seeds if self._takes(*seed))
        while found:
            name, axis = found.popleft()
            for op in self.neighbours.get(name, ()):
                found.extend(item for item in _followed(self.graph, op, name, axis) if self._takes(*item))

    def _takes(self, name: str, axis: int) -> bool:
        """Give a tensor its channels, if they may be there and it has none yet."""
        is_possible = axis >= 0 and axis in (FIRST, self.last(name))
        if not is_possible or name in self.axes or self.graph.tensors[name].data is not None:
            return False
        self.axes[name] = axis
        return True


def _followed(graph: Graph, op: Operator, name: str, axis: int) -> Iterator[tuple[str, int]]:
    """The other tensors of an operator, each with its channels' dimension if that of `name` is `axis`."""
    inputs, forward = data_inputs(op), name not in op.outputs
    others = [other for other in dict.fromkeys((*inputs, *op.outputs)) if other != name]
    shape = graph.tensors[name].shape
    if op.kind in SPREADING:
        for other in others:
            yield other, axis + len(graph.tensors[other].shape) - len(shape)
        return
    for other in others:
        to = graph.tensors[other].shape
        match op.options:
            case TransposeOptions(permutation):
                found = permutation.index(axis) if forward else permutation[axis]
                source, result = (axis, found) if forward else (found, axis)
                if _keeps_the_rest(graph, op, permutation, source, result):
                    yield other, found
            case SliceOptions(dropped=dropped):
                yield from _past_dropped(other, axis, dropped, len(shape) if forward else len(to), forward=forward)
            case ReduceOptions(axes, keep_dims):
                dropped = () if keep_dims else axes
                yield from _past_dropped(other, axis, dropped, len(shape) if forward else len(to), forward=forward)
            case _ if op.kind in RESHAPES:
                last = len(to) - 1
                wanted = (last, FIRST) if axis == len(shape) - 1 else (FIRST, last)
                yield from ((other, found) for found in wanted if _is_kept(shape, axis, to, found))
            case _:
                return


def _keeps_the_rest(graph: Graph, op: Operator, permutation: tuple[int, ...], source: int, result: int) -> bool:
    """Whether the other dimensions than the channel's stay in their order."""
    shape = graph.tensors[op.inputs[0] or ""].shape
    rest = [axis for index, axis in enumerate(permutation) if index != result and shape[axis] != 1 and axis != source]
    return rest == sorted(rest)


def _past_dropped(
    other: str, axis: int, dropped: tuple[int, ...], rank: int, *, forward: bool
) -> Iterator[tuple[str, int]]:
    """The dimension `axis` on the other side of an operator that drops some of `rank` dimensions."""
    left = [index for index in range(rank) if index not in dropped]
    if forward and axis in left:
        yield other, left.index(axis)
    elif not forward and axis < len(left):
        yield other, left[axis]


def _is_kept(before: tuple[int, ...], axis: int, after: tuple[int, ...], found: int) -> bool:
    """Whether a reshape makes of dimension `axis` the whole dimension `found`."""
    if not 0 <= found < len(after):
        return False
    return after[found] == before[axis] and prod(after[:found]) == prod(before[:axis])
