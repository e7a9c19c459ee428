"""The compiler: a graph in, a Program out, through passes that each have a file.

place (flatten, pad_fold, constraints, lower, requantize, tile) -> fuse -> order -> image_input -> in_place
-> steps -> allocate -> emit
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from rocketnpu.compiler.allocate import allocate
from rocketnpu.compiler.emit import emit, emit_opaque
from rocketnpu.compiler.fuse import fuse
from rocketnpu.compiler.image_input import with_image_inputs
from rocketnpu.compiler.in_place import with_parts_in_place
from rocketnpu.compiler.order import ordered
from rocketnpu.compiler.place import place
from rocketnpu.compiler.steps import group_steps, lifetimes
from rocketnpu.errors import CompileError
from rocketnpu.hw.limits import CORES
from rocketnpu.ir import Graph
from rocketnpu.program.model import Program

__all__ = ["compile_graph"]


def compile_graph(graph: Graph, name: str = "model", *, cores: int = 1, keep: Collection[str] = ()) -> Program:
    """The program of a graph. `keep` names tensors that fusion must not dissolve.

    Raises CompileError for a number of cores the chip does not have, or a name in `keep` that the graph does not have.
    """
    if not 1 <= cores <= CORES:
        raise CompileError(f"the chip has {CORES} cores; cores={cores} was asked for")
    unknown = [tensor for tensor in keep if tensor not in graph.tensors]
    if unknown:
        raise CompileError(f"keep names {unknown[0]!r}, which is not a tensor of {name}")
    opaque = graph.opaque or _unmade_output(graph)
    if opaque is not None:
        return emit_opaque(name, replace(graph, opaque=opaque))
    placed, dissolved = place(graph, keep)
    placed, fused = fuse(graph, placed, keep)
    dissolved = {**{tensor: fused.get(absorber, absorber) for tensor, absorber in dissolved.items()}, **fused}
    steps = group_steps(graph, with_parts_in_place(with_image_inputs(graph, ordered(placed))))
    arena = allocate(lifetimes(graph, steps))
    inside = {tensor: dissolved.get(absorber, absorber) for tensor, absorber in graph.dissolved.items()}
    return emit(name, graph, steps, arena, {**inside, **dissolved}, cores)


def _unmade_output(graph: Graph) -> str | None:
    """Why the graph must run as one piece on the CPU: one of them is a constant, which no step would make."""
    made = {*graph.inputs, *(name for op in graph.operators for name in op.outputs)}
    unmade = [name for name in graph.outputs if name not in made]
    return f"no operator makes its output {unmade[0]}" if unmade else None
