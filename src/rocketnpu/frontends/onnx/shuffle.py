"""Channels that change places: Reshape, Transpose, Reshape as ShuffleNet's exporters write it are one GATHER.

The first splits the channels into several dimensions, the second orders these anew, the third joins them. In between
lie tensors of five dimensions, which have no place on the device.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from rocketnpu.ir import GatherOptions, Graph, Operator, Tensor, TransposeOptions

CHANNEL_AXIS = 1
IMAGE_RANK = 4


def fold_shuffles(graph: Graph, keep: Collection[str], names: Collection[str]) -> Graph:
    """The graph with such three operators as one; `keep` names tensors that must stay, `names` those of the file."""
    makers = {operator.name: operator for operator in graph.operators}
    uses = Counter(name for operator in graph.operators for name in operator.inputs)
    uses.update([*graph.outputs, *keep])
    folded: dict[str, Operator] = {}
    gone: dict[str, str] = {}
    for join in graph.operators:
        turn = makers.get(join.inputs[0] or "") if join.kind == "RESHAPE" else None
        split = makers.get(turn.inputs[0] or "") if turn is not None else None
        if turn is None or split is None or uses[turn.name] != 1 or uses[split.name] != 1:
            continue
        indices = _indices(graph, split, turn, join)
        if indices is not None:
            options = GatherOptions(CHANNEL_AXIS, indices)
            folded[join.name] = replace(join, kind="GATHER", inputs=split.inputs[:1], options=options)
            gone.update(dict.fromkeys((split.name, turn.name), join.name))
    operators = tuple(folded.get(operator.name, operator) for operator in graph.operators if operator.name not in gone)
    return replace(
        graph,
        tensors={name: tensor for name, tensor in graph.tensors.items() if name not in gone},
        operators=operators,
        dissolved={**graph.dissolved, **{name: by for name, by in gone.items() if name in names}},
    )


def _indices(graph: Graph, split: Operator, turn: Operator, join: Operator) -> tuple[int, ...] | None:
    """Where each channel comes from; None where the three do something else."""
    if split.kind != "RESHAPE" or not isinstance(turn.options, TransposeOptions) or split.inputs[0] is None:
        return None
    before, apart, after = (graph.tensors[name] for name in (split.inputs[0], split.name, join.name))
    order = turn.options.permutation
    if len(before.shape) != IMAGE_RANK or before.shape != after.shape or order[0] != 0 or before.shape[0] != 1:
        return None
    batch, channels, height, width = before.shape
    sizes = [math.prod(apart.shape[:count]) for count in range(len(order))]
    parts = next((count for count, size in enumerate(sizes) if size == batch * channels and count > 1), 0)
    spatial = apart.shape[parts:]
    if not parts or math.prod(spatial) != height * width or order[parts:] != tuple(range(parts, len(order))):
        return None
    if batch not in (1, apart.shape[0]):
        return None
    tensors = [before, apart, graph.tensors[turn.name], after]
    if len({_stored_as(tensor) for tensor in tensors}) != 1 or before.quantization is None:
        return None
    places = np.arange(channels).reshape(apart.shape[0] // batch, *apart.shape[1:parts]).transpose(order[:parts])
    return tuple(int(place) for place in places.reshape(-1))


def _stored_as(tensor: Tensor) -> tuple[object, ...]:
    grid = tensor.quantization
    values = () if grid is None else (*grid.scales.tolist(), *grid.zero_points.tolist())
    return (tensor.dtype, *values)
