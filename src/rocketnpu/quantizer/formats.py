"""The two kinds of model files, as one set of functions each: repair, equalize, quantize, run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from numpy.typing import NDArray

from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_tflite
from rocketnpu.frontends.onnx.library import library
from rocketnpu.ir import Graph, Operator
from rocketnpu.quantizer.onnx import equalize as onnx_equalize
from rocketnpu.quantizer.onnx import quantizer as onnx_quantizer
from rocketnpu.quantizer.onnx import repair as onnx_repair
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.streams import Run, Stream
from rocketnpu.quantizer.tflite import equalize as tflite_equalize
from rocketnpu.quantizer.tflite import model as tflite_model
from rocketnpu.quantizer.tflite import quantizer as tflite_quantizer
from rocketnpu.quantizer.tflite import repair as tflite_repair

Inputs: TypeAlias = list[NDArray[Any]]


@dataclass(frozen=True)
class Format:
    """What is done with files of one kind; all of them are bytes.

    `repair(file, name)` makes what the others take; `channel_axis` is where a tensor's channels are. `can_quantize` is
    asked for an operator's kind. `functions` lists the functions of one tensor that `quantize` keeps whole, each as the
    tensors that its nodes make. `quantize(file, ranges, names)` leaves the operators that make these tensors float.
    `run_float` and `run_quantized` run a model with all its tensors, `run_outputs` with its outputs only. `pieces` of a
    graph makes a function of an operator, from its variable operands to its results.
    `float_names(graph, ranges)` maps the quantized tensors of a graph to the float ones, which have ranges.
    """

    name: Literal["tflite", "onnx"]
    channel_axis: int
    repair: Callable[[bytes, str], bytes]
    equalize: Callable[[bytes, Mapping[str, Range]], tuple[bytes, dict[str, Range]]]
    can_quantize: Callable[[str], bool]
    functions: Callable[[bytes], list[tuple[str, ...]]]
    quantize: Callable[[bytes, Mapping[str, Range], Collection[str]], bytes]
    run_float: Callable[[bytes], Callable[[Inputs], Stream]]
    run_quantized: Callable[[bytes], Callable[[Inputs], Stream]]
    run_outputs: Callable[[bytes], Callable[[Inputs], list[NDArray[Any]]]]
    pieces: Callable[[Graph], Callable[[Operator], Run]]
    float_names: Callable[[Graph, Mapping[str, Range]], dict[str, str]]


def _repair_tflite(data: bytes, name: str) -> bytes:
    tflite_quantizer.library("quantizer")  # its absence is said before the work of calibrating
    graph = load_tflite(data, name)
    made = {tensor for operator in graph.operators for tensor in operator.outputs}
    for tensor in graph.tensors.values():
        if tensor.quantization is not None and tensor.name in (*graph.inputs, *made):
            raise ModelError(
                f"{name} is quantized already (tensor {tensor.name} is {tensor.dtype}); give the float model"
            )
    return tflite_repair.repair(graph)


def _run_float_tflite(data: bytes) -> Callable[[Inputs], Stream]:
    reference = litert.Reference(data, kernels="plain")
    return lambda inputs: iter([reference.tensors(inputs)])


def _run_quantized_tflite(data: bytes) -> Callable[[Inputs], Stream]:
    """The kernels that the NPU follows: what the report says is what the NPU reaches."""
    reference = litert.Reference(data, kernels="reference")
    return lambda inputs: iter([reference.tensors(inputs)])


def _run_onnx(data: bytes) -> Callable[[Inputs], Stream]:
    return ort.Reference(data).stream


def _tflite_pieces(graph: Graph) -> Callable[[Operator], Run]:
    def piece(operator: Operator) -> Run:
        data = litert.extract_piece(graph, [operator.index], _variables(graph, operator), operator.outputs)
        return litert.Piece(data, "the model").run

    return piece


def _onnx_pieces(graph: Graph) -> Callable[[Operator], Run]:
    parsed = library("onnx").load_model_from_string(graph.model)

    def piece(operator: Operator) -> Run:
        data = ort.extract_piece(graph, _variables(graph, operator), operator.outputs, parsed)
        return ort.Piece(data, "the model").run

    return piece


def _variables(graph: Graph, operator: Operator) -> list[str]:
    """What an operator reads, constants excepted."""
    return [name for name in dict.fromkeys(operator.inputs) if name and graph.tensors[name].data is None]


def _tflite_names(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, str]:
    names: dict[str, str] = {}
    for operator in graph.operators:
        for name in operator.outputs:
            float_name = name.removesuffix(tflite_model.QUANTIZED)
            if (
                graph.tensors[name].quantization is not None
                and float_name in ranges
                and float_name not in names.values()
            ):
                names[name] = float_name
    return names


def _onnx_names(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, str]:
    model = library("onnx").load_model_from_string(graph.model)
    sources = {
        node.output[0]: node.input[0].removesuffix(onnx_quantizer.FLOAT_OUTPUT)
        for node in model.graph.node
        if node.op_type == "QuantizeLinear"
    }
    made = [name for operator in graph.operators for name in operator.outputs]
    return {name: sources[name] for name in made if sources.get(name) in ranges}


TFLITE = Format(
    name="tflite",
    channel_axis=-1,
    repair=_repair_tflite,
    equalize=tflite_equalize.equalize,
    can_quantize=lambda kind: kind not in tflite_quantizer.CPU,
    functions=lambda _: [],
    quantize=tflite_quantizer.quantize,
    run_float=_run_float_tflite,
    run_quantized=_run_quantized_tflite,
    run_outputs=lambda data: litert.Piece(data, "the model", is_whole=True).run,
    pieces=_tflite_pieces,
    float_names=_tflite_names,
)

ONNX = Format(
    name="onnx",
    channel_axis=1,
    repair=onnx_repair.repair,
    equalize=onnx_equalize.equalize,
    can_quantize=lambda kind: kind in onnx_quantizer.QUANTIZED,
    functions=onnx_quantizer.functions,
    quantize=onnx_quantizer.quantize,
    run_float=_run_onnx,
    run_quantized=_run_onnx,
    run_outputs=lambda data: ort.Piece(data, "the model").run,
    pieces=_onnx_pieces,
    float_names=_onnx_names,
)


def format_of(graph: Graph) -> Format:
    """The format of the file that a graph was read from."""
    return ONNX if graph.format == "onnx" else TFLITE
