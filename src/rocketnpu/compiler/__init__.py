"""The compiler: a graph in, a Program out, through passes that each have a file.

keep_together -> place (flatten, pad_fold, constraints, lower, requantize, tile) -> fuse -> order -> image_input
-> in_place -> steps -> split -> allocate -> emit. What the caller may choose is in options.py.
"""

from __future__ import annotations

from dataclasses import replace

from rocketnpu.compiler.emit.program import emit
from rocketnpu.compiler.multicore.search import Splitter
from rocketnpu.compiler.options import Options
from rocketnpu.compiler.passes.allocate import allocate
from rocketnpu.compiler.passes.assign import place
from rocketnpu.compiler.passes.concat_in_place import with_parts_in_place
from rocketnpu.compiler.passes.fuse import fuse
from rocketnpu.compiler.passes.group_steps import group_steps, lifetimes
from rocketnpu.compiler.passes.image_input import with_image_inputs
from rocketnpu.compiler.passes.keep_together import with_units
from rocketnpu.compiler.passes.layouts import with_layouts
from rocketnpu.compiler.passes.order import ordered
from rocketnpu.ir import Graph
from rocketnpu.program.model import Program

__all__ = ["Options", "compile_graph"]

FLOAT_MODEL = "a float model has to be quantized for the NPU: see `rocketnpu quantize`"


def compile_graph(graph: Graph, name: str = "model", options: Options | None = None) -> Program:
    """The program of a graph. Raises CompileError for a name in `options.keep` that the graph does not have."""
    options = options or Options()
    keep = options.kept(graph)
    graph = with_layouts(with_units(graph))
    placed, dissolved = place(graph, keep, options)
    placed, fused = fuse(graph, placed, keep, options)
    dissolved = {**{tensor: fused.get(absorber, absorber) for tensor, absorber in dissolved.items()}, **fused}
    steps = group_steps(graph, with_parts_in_place(with_image_inputs(graph, ordered(placed), options)))
    splitter = Splitter(steps, options.optimize)
    groups = splitter.groups(options.cores)
    together = [group.steps for parts in groups.values() for group in parts if group.cores > 1]
    arena = allocate(lifetimes(graph, steps, together), options.optimize)
    inside = {tensor: dissolved.get(absorber, absorber) for tensor, absorber in graph.dissolved.items()}
    program = emit(name, graph, steps, arena, {**inside, **dissolved}, splitter, groups)
    return replace(program, target=options.target, notes=_notes(graph, program))


def _notes(graph: Graph, program: Program) -> tuple[str, ...]:
    """What was noted when the model was opened, and advice for a float model that stays on the CPU."""
    on_npu = any(step.place == "npu" for step in program.steps)
    return graph.notes if on_npu or not _is_float(graph) else (*graph.notes, FLOAT_MODEL)


def _is_float(graph: Graph) -> bool:
    """Whether a model has float inputs, and nothing quantizes what it computes."""
    if not graph.inputs or any(graph.tensors[name].dtype.kind != "f" for name in graph.inputs):
        return False
    quantized = any(tensor.quantization is not None and tensor.data is None for tensor in graph.tensors.values())
    return not quantized and not any("QuantizeLinear" in op.kind or "QLinear" in op.kind for op in graph.operators)
