"""Which operators of a model stay float: those that the NPU does not run, and those that int8 only makes worse.

1. Operators that are refused: by the compiler, by the quantizer, or by the user. A function of one tensor stays float
   as a whole.
2. Behind the last layer with weights: an operator that would put its operand on a grid more than twice as coarse, and
   what follows. Anchors that are added to a detector's boxes span the whole picture, a concatenation of unlike heads
   has the range of the widest. Other operators there, such as a lookup of scores, lose little.
3. Behind an operator that stays float, or moves elements on the CPU: an island that computes too little to be worth the
   crossing. Each element that goes to the NPU or comes back has to be worth MACS_PER_CROSSING.
4. Operators that only move elements, which only float operators read, or nobody; and sums that only float operators
   read: the residual stream of a transformer, between normalizations.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np

from rocketnpu.ir import Graph, Operator
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.vocabulary import is_layer, macs_of, vocabulary_of

MACS_PER_CROSSING = 2
"""Float multiply-accumulates for an element. A layer of fewer is bound by memory, and the crossing is one more pass
over the same elements. An estimate, not measured."""

COARSER = 2.0
"""How much coarser than its operand's a grid may be for rule 2: one bit."""


@dataclass(frozen=True, eq=False)
class _Net:
    """A float graph, with who makes and who reads each tensor. Constants are left out."""

    graph: Graph
    makers: Mapping[str, Operator]
    readers: Mapping[str, Sequence[Operator]]

    def operands(self, operator: Operator) -> list[str]:
        """The variable tensors that an operator reads."""
        return [name for name in operator.inputs if name and self.graph.tensors[name].data is None]

    def before(self, operator: Operator) -> list[Operator]:
        """The operators that make what an operator reads."""
        return [self.makers[name] for name in self.operands(operator) if name in self.makers]

    def after(self, operator: Operator) -> list[Operator]:
        """The operators that read what an operator makes."""
        return [reader for name in operator.outputs for reader in self.readers.get(name, ())]

    def elements(self, names: Iterable[str]) -> int:
        """How many elements these tensors have together."""
        return sum(math.prod(self.graph.tensors[name].shape) for name in names)


def stay_float(
    graph: Graph,
    ranges: Mapping[str, Range],
    refused: Collection[str],
    moved: Collection[str],
    functions: Sequence[Collection[str]],
) -> frozenset[str]:
    """The tensors whose operators stay float.

    `graph` is the float model's and `ranges` are those of its tensors. `refused` names tensors of rule 1, `moved` those
    that are made by moving elements on the CPU, `functions` the tensors inside each function of one tensor, its result
    included.
    """
    net = _net(graph)
    left = set(refused).union(*(names for names in functions if not set(refused).isdisjoint(names)))
    left.update(
        name for operator in graph.operators if not left.isdisjoint(operator.outputs) for name in operator.outputs
    )
    left |= _coarse_tail(net, ranges, left)
    left |= _poor_islands(net, left.union(moved))
    return frozenset(_cheap_ends(net, left))


def _net(graph: Graph) -> _Net:
    readers: dict[str, list[Operator]] = {}
    for operator in graph.operators:
        for name in operator.inputs:
            readers.setdefault(name or "", []).append(operator)
    makers = {name: operator for operator in graph.operators for name in operator.outputs}
    return _Net(graph, makers, readers)


def behind_layers(graph: Graph) -> frozenset[str]:
    """The tensors from which no layer with weights is reached."""
    net = _net(graph)
    tail = _tail(net)
    names = [name for operator in graph.operators for name in operator.outputs]
    return frozenset(name for name in names if all(reader.name in tail for reader in net.readers.get(name, ())))


def _tail(net: _Net) -> set[str]:
    """The operators that are no layer with weights and lead to none, by name."""
    found: set[str] = set()
    for operator in reversed(net.graph.operators):
        if not is_layer(net.graph, operator) and all(other.name in found for other in net.after(operator)):
            found.add(operator.name)
    return found


def _coarse_tail(net: _Net, ranges: Mapping[str, Range], left: Set[str]) -> set[str]:
    """Rule 2."""
    graph = net.graph
    tail = _tail(net)
    found: set[str] = set()
    for operator in graph.operators:
        if operator.name not in tail:
            continue
        follows = any(not found.isdisjoint(other.outputs) for other in net.before(operator))
        if follows or (left.isdisjoint(operator.outputs) and _coarsening(net, ranges, operator) > COARSER):
            found.update(operator.outputs)
    return found


def _coarsening(net: _Net, ranges: Mapping[str, Range], operator: Operator) -> float:
    """How much coarser than that of its operands an operator's grid is, at the element where it is worst."""
    words, tensors = vocabulary_of(net.graph), net.graph.tensors
    operands = [name for name in net.operands(operator) if name in ranges]
    result = ranges.get(operator.outputs[0])
    if result is None or not operands:
        return 1.0
    widths = [ranges[name].width for name in operands if ranges[name].width > 0]
    constants = [tensors[name].data for name in operator.inputs if name and name not in net.operands(operator)]
    large = [values for values in constants if values is not None and values.size > 1]
    if operator.kind in words.joins or (operator.kind in words.sums and large):
        return result.width / min(widths, default=math.inf)
    if operator.kind in words.products and large:
        factors = np.abs(large[0][large[0] != 0])
        return result.width / (min(widths, default=math.inf) * float(factors.min(initial=math.inf)))
    return 1.0


def _poor_islands(net: _Net, on_cpu: Set[str]) -> set[str]:
    """Rule 3. `on_cpu` has what is made there, in float or by moving bytes."""
    behind: dict[str, Operator] = {}
    for operator in net.graph.operators:
        if on_cpu.isdisjoint(operator.outputs) and any(
            other.name in behind or not on_cpu.isdisjoint(other.outputs) for other in net.before(operator)
        ):
            behind[operator.name] = operator
    poor: set[str] = set()
    seen: set[str] = set()
    for name in behind:
        if name not in seen:
            island = _island(net, behind, name)
            seen.update(operator.name for operator in island)
            if not _is_worth_it(net, island, on_cpu):
                poor.update(output for operator in island for output in operator.outputs)
    return poor


def _island(net: _Net, behind: Mapping[str, Operator], name: str) -> list[Operator]:
    """The operators that hang together with one of them."""
    found: dict[str, Operator] = {}
    waiting = [behind[name]]
    while waiting:
        operator = waiting.pop()
        if operator.name in behind and operator.name not in found:
            found[operator.name] = operator
            waiting += [*net.before(operator), *net.after(operator)]
    return list(found.values())


def _is_worth_it(net: _Net, island: Sequence[Operator], on_cpu: Set[str]) -> bool:
    graph, moves = net.graph, vocabulary_of(net.graph).moves
    read = {name for operator in island for name in net.operands(operator) if name in on_cpu or name in graph.inputs}
    made = {
        name
        for operator in island
        for name in operator.outputs
        if name in graph.outputs or any(not on_cpu.isdisjoint(other.outputs) for other in net.readers.get(name, ()))
    }
    work = sum(
        macs_of(graph, operator) + net.elements(operator.outputs) for operator in island if operator.kind not in moves
    )
    return work >= MACS_PER_CROSSING * net.elements(read | made)


def _cheap_ends(net: _Net, left: Set[str]) -> set[str]:
    """Rule 4."""
    words = vocabulary_of(net.graph)
    found = set(left)
    for operator in reversed(net.graph.operators):
        after = net.after(operator)
        is_cheap = operator.kind in words.moves or (operator.kind in words.sums and after)
        if is_cheap and all(not found.isdisjoint(other.outputs) for other in after):
            found.update(operator.outputs)
    return found
