"""Operators that must run in one piece of the model on the CPU, since they share state that no array holds.

1. Operators that share something are bound to one another (`Operator.shares`).
2. So is what lies between them: an operator that needs one of them and that another one of them needs. These sets are
   the strongly connected components of the graph in which operators that share something need each other.
3. Each set is one unit for the later passes. Its operators run on the CPU in the file's order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from rocketnpu.ir import Graph, Operator


def with_units(graph: Graph) -> Graph:
    """The graph, with what lies between operators of a unit bound to it as well (rule 2)."""
    if not any(op.shares for op in graph.operators):
        return graph
    operators = list(graph.operators)
    for members in _components(_needs(operators)):
        shares = frozenset[str]().union(*(operators[index].shares for index in members))
        if len(members) == 1 or not shares:
            continue
        reason = f"lies between operators that share {min(shares)}, which has no NPU form"
        for index in members:
            op = operators[index]
            operators[index] = replace(op, shares=shares, opaque=op.opaque or f"{op.kind} {reason}")
    return replace(graph, operators=tuple(operators))


def units(operators: Sequence[Operator]) -> list[list[int]]:
    """The positions of the operators of each unit, in order; those of an operator that shares nothing, one by one.

    `operators` are those of a graph that `with_units` made, or some of them.
    """
    found: list[list[int]] = []
    unit_of: dict[str, list[int]] = {}
    for index, op in enumerate(operators):
        unit = next((unit_of[name] for name in sorted(op.shares) if name in unit_of), None)
        if unit is None:
            unit = list[int]()
            found.append(unit)
        unit.append(index)
        unit_of.update(dict.fromkeys(op.shares, unit))
    return found


def _needs(operators: Sequence[Operator]) -> list[set[int]]:
    """For each operator those that it needs: what makes its inputs, and what shares something with it."""
    makers = {name: index for index, op in enumerate(operators) for name in op.outputs}
    needs = [{makers[name] for name in op.inputs if name in makers} for op in operators]
    sharing: dict[str, list[int]] = {}
    for index, op in enumerate(operators):
        for name in op.shares:
            sharing.setdefault(name, []).append(index)
    for members in sharing.values():
        for first, second in pairwise(members):
            needs[first].add(second)
            needs[second].add(first)
    return needs


def _components(needs: Sequence[set[int]]) -> list[list[int]]:
    """The strongly connected components (Kosaraju): a search along the edges, and one against them in its order."""
    readers: list[set[int]] = [set() for _ in needs]
    for index, others in enumerate(needs):
        for other in others:
            readers[other].add(index)
    finished: list[int] = []
    seen: set[int] = set()
    for start in range(len(needs)):
        finished += _reached(start, needs, seen)
    seen.clear()
    return [sorted(found) for start in reversed(finished) if (found := _reached(start, readers, seen))]


def _reached(start: int, edges: Sequence[set[int]], seen: set[int]) -> list[int]:
    """What a depth-first search from `start` reaches beyond `seen`, which it extends, in the order it leaves it."""
    if start in seen:
        return []
    seen.add(start)
    left: list[int] = []
    path = [(start, iter(sorted(edges[start])))]
    while path:
        index, others = path[-1]
        following = next((other for other in others if other not in seen), None)
        if following is None:
            left.append(index)
            path.pop()
        else:
            seen.add(following)
            path.append((following, iter(sorted(edges[following]))))
    return left
