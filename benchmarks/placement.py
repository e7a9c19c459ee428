"""What of a program runs on the NPU: operators, MACs and submissions of one run."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import onnx
from numpy.typing import NDArray

import rocketnpu as rn
from benchmarks.figures import CountingDevice, Figure

BORDER = frozenset({"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE"})
"""The model's own change from float and back, which is the host's."""

FARTHEST = 6
"""Nodes behind a convolution that may have joined it: its activation, its quantization."""


def operator_lines(program: rn.Program) -> Iterator[str]:
    """A line for each kind and place, with the constraint of those on the CPU."""
    places = Counter((op.kind, op.reason) for step in program.steps for op in step.operators)
    for (kind, reason), count in sorted(places.items(), key=lambda item: (item[0][1] is not None, item[0])):
        yield f"  {count:3d} {kind:28s} {'NPU' if reason is None else f'CPU: {reason}'}"


def operators_on_cpu(program: rn.Program) -> int:
    """Operators on the CPU, without the float border."""
    return sum(op.kind not in BORDER for step in program.steps if step.place == "cpu" for op in step.operators)


def placement_figures(
    program: rn.Program,
    model: bytes,
    inputs: Mapping[str, NDArray[Any]],
    *,
    least_percent: float | None = None,
    most_submissions: int | None = None,
) -> Iterator[Figure]:
    """Operators left on the CPU, the share of MACs on the NPU, and the submissions of a run, with their targets.

    `model` is the ONNX file that was compiled, `inputs` are those of one run.
    """
    yield Figure("operators on the CPU, float border excepted", operators_on_cpu(program))
    yield Figure("MACs on the NPU", 100 * npu_share(program, model), "%", least=least_percent)
    yield Figure("submissions of a run", submissions(program, inputs), "", most_submissions)


def submissions(program: rn.Program, inputs: Mapping[str, NDArray[Any]]) -> int:
    """How often one run, on one core, hands work to the NPU."""
    device = CountingDevice(2 * sum(segment.size_bytes + 4096 for segment in program.segments))
    with rn.Session(program, device) as session:
        session.run(inputs)
    device.close()
    return device.submits


def npu_share(program: rn.Program, model: bytes) -> float:
    """Share of the multiply-accumulates of an ONNX model that the NPU computes.

    Counted from the file: convolutions and products of matrices. A node belongs to the first operator of the program
    that makes its output or a tensor shortly behind it.
    """
    places = {operator.name: step.place for step in program.steps for operator in step.operators}
    for step in program.steps:
        places.update(dict.fromkeys(step.outputs, step.place))
    proto = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(model), data_prop=True)
    readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in proto.graph.node:
        for name in node.input:
            readers[name].append(node)
    counts: Counter[str] = Counter()
    for name, count in _multiplications(proto).items():
        counts[_place(name, places, readers)] += count
    return counts["npu"] / counts.total()


def _place(name: str, places: Mapping[str, str], readers: Mapping[str, list[onnx.NodeProto]]) -> str:
    nearest = [name]
    for _ in range(FARTHEST):
        found = [places[tensor] for tensor in nearest if tensor in places]
        if found:
            return found[0]
        nearest = [output for tensor in nearest for node in readers[tensor] for output in node.output]
    raise ValueError(f"no operator of the program makes {name}")


def _multiplications(proto: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of each node that has them, by its output."""
    graph = proto.graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.value_info, *graph.input, *graph.output):
        shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
    counts: dict[str, int] = {}
    for node in graph.node:
        match node.op_type:
            case "Conv":
                counts[node.output[0]] = math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
            case "ConvTranspose":
                counts[node.output[0]] = math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
            case "MatMul":
                counts[node.output[0]] = math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
            case "Gemm":
                counts[node.output[0]] = math.prod(shapes[node.output[0]]) * _inner(node, shapes)
            case _:
                pass
    return counts


def _inner(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][0 if transposed else 1]
