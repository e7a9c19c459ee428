"""PAD before a convolution without padding of its own, or with counted padding: the convolution can do both.

What the chip reads outside the input is the input's zero point, so that the PAD must be with real zero, of rows and
columns only, and nothing else may need its result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace

from rocketnpu.compiler.constraints.table import has_equal_grid
from rocketnpu.compiler.passes.fold_flatten import Fold
from rocketnpu.ir import ConvOptions, Graph, Operator, Padding, PadOptions, Pads


def pad_folds(graph: Graph, keep: Collection[str]) -> tuple[Fold, ...]:
    """Every such pair of the graph."""
    uses = Counter(name for op in graph.operators for name in op.inputs)
    uses.update([*graph.outputs, *keep])
    pads = {op.outputs[0]: op for op in graph.operators if op.kind in ("PAD", "PADV2")}
    folds: list[Fold] = []
    for op in graph.operators:
        options, source = op.options, pads.get(op.inputs[0] or "") if op.inputs else None
        if not isinstance(options, ConvOptions) or source is None or uses[source.outputs[0]] != 1:
            continue
        found = _zeros_around_the_image(graph, source)
        if found is not None and options.padding is Padding.VALID:
            own = options.pads or (0, 0, 0, 0)
            both = (found[0] + own[0], found[1] + own[1], found[2] + own[2], found[3] + own[3])
            inputs = (source.inputs[0], *op.inputs[1:])
            folds.append(Fold(source, op, replace(op, inputs=inputs, options=replace(options, pads=both))))
    return tuple(folds)


def _zeros_around_the_image(graph: Graph, op: Operator) -> Pads | None:
    """The rows and columns that a PAD adds, None if it adds anything else."""
    options, output = op.options, graph.tensors[op.outputs[0]]
    if not isinstance(options, PadOptions) or op.unsupported is not None or len(output.shape) != 4:
        return None
    if output.quantization is None or output.quantization.scales.size != 1 or not has_equal_grid(graph, op):
        return None
    if options.value not in (None, int(output.quantization.zero_points[0])):
        return None
    rows, columns = (2, 3) if output.layout == "NCHW" else (1, 2)
    if any(pair != (0, 0) for axis, pair in enumerate(options.pads) if axis not in (rows, columns)):
        return None
    (top, bottom), (left, right) = options.pads[rows], options.pads[columns]
    return top, left, bottom, right
