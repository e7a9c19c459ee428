"""TFLite models with the sizes and outputs that the caller gives, as a file of their own.

1. `outputs` ends the model: operators that they don't need are left out, so that it does not matter what they are.
   Operators that share state with needed ones stay.
2. `input_shapes` gives inputs other sizes, of the same number of dimensions. All other shapes follow, as in LiteRT.
3. `dims` names sizes, which TFLite files do not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches

from rocketnpu.errors import ModelError
from rocketnpu.frontends.opening import Opening, Shape
from rocketnpu.frontends.tflite.extract import INITIALISER, extract_piece
from rocketnpu.frontends.tflite.reader import load_tflite
from rocketnpu.ir import Graph, Operator

LISTED = 5
"""How many names an error lists."""


def open_tflite(model: bytes, where: str, opening: Opening) -> Graph:
    """The graph of a TFLite file as `opening` wants it; `where` is what errors call the file.

    Raises ModelError for a file that is malformed, and for an `opening` that does not fit it.
    """
    graph = load_tflite(model, where)
    if opening.dims:
        raise ModelError(
            f"{where} names no sizes, as TFLite files don't: give shapes with input_shapes (--input-shape)"
        )
    if opening.outputs:
        graph = load_tflite(_ended(graph, opening.outputs, where), where)
    if opening.input_shapes:
        graph = load_tflite(_sized(graph, opening.input_shapes, where), where)
    return graph


def _ended(graph: Graph, outputs: Sequence[str], where: str) -> bytes:
    """A file of the operators that these outputs need (rule 1)."""
    makers = {name: op for op in graph.operators for name in op.outputs}
    for name in outputs:
        if name not in makers:
            known = get_close_matches(name, makers, LISTED) or list(makers)[-LISTED:]
            raise ModelError(f"{where} has no operator that makes {name!r}; there are {', '.join(map(repr, known))}")
    needed = _needed(graph, [makers[name] for name in outputs], makers)
    read = {name for op in needed for name in op.inputs}
    inputs = [name for name in graph.inputs if name in read]
    return extract_piece(graph, [op.index for op in needed], inputs, outputs)


def _needed(graph: Graph, ends: Sequence[Operator], makers: Mapping[str, Operator]) -> list[Operator]:
    """The operators that these need, themselves among them."""
    found: dict[int, Operator] = {}
    left = list(ends)
    while left:
        op = left.pop()
        if op.index in found:
            continue
        found[op.index] = op
        left += [makers[name] for name in op.inputs if name is not None and name in makers]
        if op.shares:
            left += [other for other in graph.operators if other.shares & op.shares and other.kind != INITIALISER]
    return [found[index] for index in sorted(found)]


def _sized(graph: Graph, shapes: Mapping[str, Shape], where: str) -> bytes:
    """The same file with other shapes of its inputs (rule 2)."""
    tensors = dict(graph.tensors)
    for name, shape in shapes.items():
        if name not in graph.inputs:
            raise ModelError(f"{where} has no input {name!r}; its inputs are {', '.join(map(repr, graph.inputs))}")
        rank = len(tensors[name].shape)
        if len(shape) != rank:
            raise ModelError(f"input {name!r} of {where} has {rank} dimensions; the shape {shape} has {len(shape)}")
        tensors[name] = replace(tensors[name], shape=shape)
    operators = [op.index for op in graph.operators if op.kind != INITIALISER or op.shares]
    return extract_piece(replace(graph, tensors=tensors), operators, graph.inputs, graph.outputs)
