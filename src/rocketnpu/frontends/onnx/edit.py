"""Changing the nodes of an onnx.ModelProto: what several rewrites need."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any


def tensor_names(model: Any) -> set[str]:
    """The names of all tensors."""
    graph = model.graph
    made = {name for node in graph.node for name in (*node.input, *node.output)}
    return made | {value.name for value in (*graph.initializer, *graph.input, *graph.output)}


def new_name(wanted: str, taken: set[str]) -> str:
    """`wanted`, or that with a number, as no tensor is called; it counts as taken from now on."""
    name, number = wanted, 1
    while name in taken:
        name, number = f"{wanted}_{number}", number + 1
    taken.add(name)
    return name


def replace_nodes(model: Any, nodes: Collection[Any]) -> None:
    """Make `nodes` the model's, in this order."""
    kept: list[Any] = [copy.deepcopy(node) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(kept)
