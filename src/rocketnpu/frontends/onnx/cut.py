"""Ending an ONNX model at other tensors than its file does: only what computes them stays.

1. A tensor that nodes of the main graph make may be an output, also one between other nodes.
2. Nodes, inputs, constants and functions that the outputs do not need are left out, so that it does not matter what
   they are.
3. The type of a new output is what the file declares, else what inference finds once the sizes are known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.library import library


def end_at(model: Any, outputs: Sequence[str], where: str) -> None:
    """End a model (onnx.ModelProto) at these tensors, in place. Raises ModelError for a name that no node makes."""
    graph = model.graph
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    for name in outputs:
        if name not in makers:
            raise ModelError(_unknown(name, graph, list(makers), where))
    declared = {value.name: value for value in (*graph.value_info, *graph.output)}
    ends = [_copy(declared[name]) if name in declared else _untyped(name) for name in outputs]
    needed = _needed(graph.node, makers, outputs)
    _keep(graph.node, lambda node: not needed.isdisjoint(node.output))
    _keep(graph.input, lambda value: value.name in needed)
    _keep(graph.initializer, lambda tensor: tensor.name in needed)
    _keep(graph.sparse_initializer, lambda sparse: sparse.values.name in needed)
    _keep(graph.value_info, lambda value: value.name in needed and value.name not in outputs)
    del graph.output[:]
    graph.output.extend(ends)
    _drop_functions(model)


def type_outputs(model: Any, where: str) -> None:
    """Rule 3. Raises ModelError for an output whose type no one knows."""
    bare = [value for value in model.graph.output if not value.HasField("type")]
    if not bare:
        return
    inferred = library("onnx").shape_inference.infer_shapes(model).graph
    found = {value.name: value for value in (*inferred.value_info, *inferred.output) if value.HasField("type")}
    for value in bare:
        if value.name not in found:
            raise ModelError(f"{where} can't end at {value.name!r}: its type is not known")
        value.CopyFrom(found[value.name])


def _needed(nodes: Sequence[Any], makers: Mapping[str, int], outputs: Sequence[str]) -> set[str]:
    """The names of all tensors that the outputs need, themselves among them."""
    needed: set[str] = set()
    visited: set[int] = set()
    wanted = list(outputs)
    while wanted:
        name = wanted.pop()
        needed.add(name)
        index = makers.get(name)
        if index is not None and index not in visited:
            visited.add(index)
            wanted += _read_by(nodes[index])
    return needed


def _read_by(node: Any) -> Iterator[str]:
    """The tensors that a node reads, also from inside its nested graphs."""
    yield from (name for name in node.input if name)
    for graph in _nested(node):
        yield from (value.name for value in graph.output)
        for inner in graph.node:
            yield from _read_by(inner)


def _nested(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _drop_functions(model: Any) -> None:
    functions = {(function.domain, function.name): function for function in model.functions}
    used: set[tuple[str, str]] = set()
    wanted = list(_called(model.graph.node))
    while wanted:
        key = wanted.pop()
        if key in functions and key not in used:
            used.add(key)
            wanted += _called(functions[key].node)
    _keep(model.functions, lambda function: (function.domain, function.name) in used)


def _called(nodes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for node in nodes:
        yield node.domain, node.op_type
        for graph in _nested(node):
            yield from _called(graph.node)


def _keep(items: Any, is_kept: Callable[[Any], bool]) -> None:
    """Leave out items of a repeated field."""
    for index in range(len(items) - 1, -1, -1):
        if not is_kept(items[index]):
            del items[index]


def _copy(value: Any) -> Any:
    copied = library("onnx").ValueInfoProto()
    copied.CopyFrom(value)
    return copied


def _untyped(name: str) -> Any:
    return library("onnx").ValueInfoProto(name=name)


def _unknown(name: str, graph: Any, made: Sequence[str], where: str) -> str:
    if any(value.name == name for value in graph.input):
        return f"{where} can't end at {name!r}: it is an input"
    if any(tensor.name == name for tensor in graph.initializer):
        return f"{where} can't end at {name!r}: it is a constant"
    near = get_close_matches(name, made, 3)
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; it ends at {_quoted(graph.output)}"
    return f"{where} has no tensor {name!r}{hint}"


def _quoted(values: Any) -> str:
    return ", ".join(repr(value.name) for value in values)
