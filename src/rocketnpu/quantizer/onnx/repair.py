"""Float ONNX models as ONNX Runtime's quantizer takes them: whole, of fixed sizes, of an opset that knows channels.

1. What `frontends.onnx_model` promises: one file, a batch of no fixed size is 1, arithmetic on shapes is done.
2. Integer weights and dynamic ranges are real numbers (real.py), and transposed convolutions have one group
   (groups.py).
3. Opset 13 at least, the first that can say "per channel".
4. float16 tensors become float32, inputs and outputs too: the quantizer wants float32.
5. ONNX Runtime's basic optimizations: batch normalization and constant factors go into the convolutions before them.
6. Operators that the quantizer or the NPU knows by another name get that name (rewrite.py).
7. Nodes have names that differ, by which the quantizer is told what to leave alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rocketnpu.cpu.onnxruntime.allowlist import is_allowed, operators_of
from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import ModelFile
from rocketnpu.frontends.onnx.library import library, refusal_is_model_error
from rocketnpu.frontends.onnx.model import MIN_OPSET, QUANTIZING, opset, read_model
from rocketnpu.frontends.onnx.session import FATAL_ONLY
from rocketnpu.frontends.opening import AS_IT_IS
from rocketnpu.quantizer.onnx.groups import join_groups
from rocketnpu.quantizer.onnx.real import make_real
from rocketnpu.quantizer.onnx.rewrite import add_pairwise, convolve_normalizations, own_biases
from rocketnpu.quantizer.onnx.rewrite_nodes import multiply_by_reciprocals, pool_maxima
from rocketnpu.sandbox import Guarded


def repair(data: bytes, name: str) -> bytes:
    """An ONNX file after the rules above; `name` is what errors call the file.

    Raises ModelError for a file that is malformed, quantized already, or holds what cannot be quantized.
    """
    source = read_model(ModelFile(data), AS_IT_IS)
    if source.opaque is not None:
        raise ModelError(f"{name} can't be quantized: {source.opaque}")
    model = source.model
    with refusal_is_model_error(f"{name} can't be prepared for quantization"):
        make_real(model)
    for node in model.graph.node:
        if node.op_type in QUANTIZING:
            raise ModelError(f"{name} is quantized already: it has {node.op_type}; give the float model")
    with refusal_is_model_error(f"{name} can't be prepared for quantization"):
        if opset(model) < MIN_OPSET:
            model = library("onnx.version_converter").convert_version(model, MIN_OPSET)
        _widen_halves(model)
        join_groups(model)
        add_pairwise(model)
        model = _optimized(model)
        convolve_normalizations(model)
        multiply_by_reciprocals(model)
        pool_maxima(model)
        own_biases(model)
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    return model.SerializeToString()


class Optimizer:
    """ONNX Runtime's basic optimizations of one file after the other."""

    def run(self, values: Sequence[bytes]) -> list[bytes]:
        """The files, optimized; ModelError with ONNX Runtime's reason when it refuses one."""
        with refusal_is_model_error("ONNX Runtime can't prepare the model for quantization"):
            return [_optimized_file(value) for value in values]


def _optimized_file(data: bytes) -> bytes:
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = FATAL_ONLY
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(path)
        runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        return path.read_bytes()


def _widen_halves(model: Any) -> None:
    """Rule 4. Casts that change nothing any more go with rule 5."""
    onnx, numpy_helper = library("onnx"), library("onnx.numpy_helper")
    half, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    graph = model.graph
    constants = [*graph.initializer, *(attribute.t for node in graph.node for attribute in node.attribute)]
    for tensor in constants:
        if tensor.data_type == half:
            values = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == half:
            value.type.tensor_type.elem_type = single
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == half:
                attribute.i = single


def _optimized(model: Any) -> Any:
    """Rule 5, with the shapes of all tensors inferred. ONNX Runtime computes what depends on constants alone, so that
    it may die of it."""
    onnx = library("onnx")
    operators = operators_of(model)
    crash = f"ONNX Runtime crashes on the model's operators {', '.join(dict.fromkeys(operators))}"
    (data,) = Guarded(Optimizer, safe=is_allowed(operators), crash=crash).run([model.SerializeToString()])
    optimized = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(data))
    library("onnxruntime.quantization.quant_utils").add_pre_process_metadata(optimized)  # else it asks for all this
    return optimized
