"""Quantizing what the NPU runs: a model is quantized, the compiler says what it leaves to the CPU, that stays float.

Each round leaves more operators float than the one before, so that there is an end. Mostly there are two or three.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rocketnpu.compiler import Options
from rocketnpu.compiler.passes.assign import place
from rocketnpu.compiler.passes.layouts import with_layouts
from rocketnpu.frontends import load_model
from rocketnpu.ir import Graph
from rocketnpu.quantizer.borders import stay_float
from rocketnpu.quantizer.formats import Format
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.vocabulary import vocabulary_of


@dataclass(frozen=True, eq=False)
class Placed:
    """A quantized file, its graph, the float tensors that its int8 ones stand for, and those that stay float."""

    model: bytes
    graph: Graph
    names: Mapping[str, str]
    left: frozenset[str]


def quantize_for_npu(kind: Format, data: bytes, ranges: Mapping[str, Range], refused: Collection[str]) -> Placed:
    """A repaired file quantized so that operators without a form on the NPU are float.

    `refused` names tensors whose operators stay float in any case. Raises ModelError when the quantizer refuses the
    file.
    """
    graph = load_model(data)
    words = vocabulary_of(graph)
    functions = kind.functions(data)
    inside = {name for names in functions for name in names}
    unknown = [op for op in graph.operators if not kind.can_quantize(op.kind) and inside.isdisjoint(op.outputs)]
    found = {*refused, *(name for operator in unknown for name in operator.outputs)}
    made = {name for operator in graph.operators for name in operator.outputs}
    moves = {name for operator in graph.operators if operator.kind in words.moves for name in operator.outputs}
    moved: set[str] = set()
    while True:
        left = stay_float(graph, ranges, found, moved, functions)
        quantized = kind.quantize(data, ranges, left)
        result = load_model(quantized)
        names = kind.float_names(result, ranges)
        on_cpu = made.intersection(_on_cpu(result, names)) - left
        if on_cpu <= moved:
            return Placed(quantized, result, names, left)
        moved |= on_cpu & moves
        found |= on_cpu - moves


def _on_cpu(graph: Graph, names: Mapping[str, str]) -> set[str]:
    """The float tensors whose operators should be int8, but are left to the CPU by the compiler."""
    placed, _ = place(with_layouts(graph), (), Options())
    unplaced = [item.operator for item in placed if item.reason is not None]
    return {names[name] for operator in unplaced for name in operator.outputs if name in names}
