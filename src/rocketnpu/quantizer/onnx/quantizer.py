"""ONNX Runtime's published quantizer (`quantize_static`, in QDQ form) on repaired ONNX models.

1. Weights are int8, symmetric, one scale an output channel; activations int8 with a zero point; biases int32.
2. Operators that have no form on the NPU stay float, and so does what `borders.py` finds.
3. Functions of one tensor are quantized as a whole (functions.py).
4. Inputs and outputs stay float32.
5. A resize keeps the grid. Its results are within the range of what it reads, or a little beyond (cubic).
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rocketnpu.frontends.onnx.library import library, refusal_is_model_error
from rocketnpu.quantizer.onnx.biases import correct_biases
from rocketnpu.quantizer.onnx.functions import FUNCTION, Names, find_functions, unwrap, wrap
from rocketnpu.quantizer.ranges import Range

FLOAT_OUTPUT = "_QuantizeLinear_Input"
"""What the quantizer puts behind an output's name for the float tensor that it then quantizes."""

_NAMES = """
Abs Add AveragePool Clip Concat Conv ConvTranspose DepthToSpace Elu Erf Exp Flatten Gelu Gemm GlobalAveragePool
HardSigmoid HardSwish LeakyRelu Log MatMul Max MaxPool Min Mish Mul Neg PRelu Pad ReduceMean Relu Reshape Resize Selu
Sigmoid Slice Softplus SpaceToDepth Split Squeeze Sub Tanh Transpose Unsqueeze
"""

QUANTIZED = frozenset(_NAMES.split())
"""Operators with a form on the NPU (docs/operators.md)."""


def quantize(data: bytes, ranges: Mapping[str, Range], left: Collection[str]) -> bytes:
    """The quantized file of a repaired one; `ranges` are those of its tensors by name.

    `left` names tensors whose operators stay float. Raises ModelError with the quantizer's reason when it refuses the
    file.
    """
    source = _model(data)
    folded = wrap(source, [names for names in functions(data) if set(left).isdisjoint(names)])
    quantized = _quantized(source, ranges, left)
    unwrap(quantized, folded)
    correct_biases(quantized, _model(data), ranges)
    return quantized.SerializeToString()


def functions(data: bytes) -> list[Names]:
    """The functions of one tensor in a repaired file."""
    return find_functions(data, QUANTIZED)


def _quantized(model: Any, ranges: Mapping[str, Range], left: Collection[str]) -> Any:
    """The quantizer's own result, an onnx.ModelProto."""
    tool, calibrate = library("onnxruntime.quantization"), library("onnxruntime.quantization.calibrate")
    statistics = calibrate.TensorsData(
        tool.CalibrationMethod.MinMax, {name: range_.bounds for name, range_ in _resized(model, ranges).items()}
    )
    with refusal_is_model_error("ONNX Runtime's quantizer refuses the model"), tempfile.TemporaryDirectory() as folder:
        source, target, cache = (Path(folder) / name for name in ("float.onnx", "quantized.onnx", "ranges.json"))
        source.write_bytes(model.SerializeToString())
        calibrate.save_tensors_data(statistics, cache)
        tool.quantize_static(
            source,
            target,
            None,
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=sorted({*QUANTIZED, FUNCTION}),
            per_channel=True,
            activation_type=tool.QuantType.QInt8,
            weight_type=tool.QuantType.QInt8,
            nodes_to_exclude=[node.name for node in model.graph.node if not set(left).isdisjoint(node.output)],
            calibration_cache_path=cache,
        )
        return _model(target.read_bytes())


def _resized(model: Any, ranges: Mapping[str, Range]) -> dict[str, Range]:
    """The ranges, with those of resized tensors as before the resize, so that both have one grid (rule 5)."""
    found = dict(ranges)
    for node in model.graph.node:
        if node.op_type == "Resize" and found.keys() >= {node.input[0], node.output[0]}:
            found[node.output[0]] = found[node.input[0]]
    return found


def _model(data: bytes) -> Any:
    return library("onnx").load_model_from_string(data)
