"""ONNX Runtime's published quantizer (`quantize_static`, in QDQ form) on repaired ONNX models.

1. Weights are int8, symmetric, one scale an output channel; activations int8 with a zero point; biases int32.
2. What is quantized are the operators that have a form on the NPU: others would only lose accuracy.
3. Inputs and outputs stay float32, and so do operators that only move elements between the last computed tensors and
   the outputs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rocketnpu.frontends import load_model
from rocketnpu.frontends.onnx.library import library, refusal_is_model_error
from rocketnpu.quantizer.borders import moves_to_outputs
from rocketnpu.quantizer.onnx.biases import correct_biases
from rocketnpu.quantizer.ranges import Range

MOVES = frozenset({"Concat", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators of rule 3."""

FLOAT_OUTPUT = "_QuantizeLinear_Input"
"""What the quantizer puts behind an output's name for the float tensor that it then quantizes."""

_NAMES = """
Abs Add AveragePool Clip Concat Conv ConvTranspose DepthToSpace Elu Erf Exp Flatten Gelu Gemm GlobalAveragePool
HardSigmoid HardSwish LeakyRelu Log MatMul Max MaxPool Min Mish Mul Neg PRelu Pad ReduceMean Relu Reshape Resize Selu
Sigmoid Slice Softplus SpaceToDepth Split Squeeze Sub Tanh Transpose Unsqueeze
"""

QUANTIZED = frozenset(_NAMES.split())
"""Operators of rule 2 (docs/operators.md)."""


def quantize(data: bytes, ranges: Mapping[str, Range]) -> bytes:
    """The quantized file of a repaired one; `ranges` are those of its tensors by name.

    Raises ModelError with the quantizer's reason when it refuses the file.
    """
    tool, calibrate = library("onnxruntime.quantization"), library("onnxruntime.quantization.calibrate")
    makers = {name: node.name for node in _model(data).graph.node for name in node.output}
    left = [makers[move.name] for move in moves_to_outputs(load_model(data), MOVES)]
    statistics = calibrate.TensorsData(
        tool.CalibrationMethod.MinMax, {name: range_.bounds for name, range_ in ranges.items()}
    )
    with refusal_is_model_error("ONNX Runtime's quantizer refuses the model"), tempfile.TemporaryDirectory() as folder:
        source, target, cache = (Path(folder) / name for name in ("float.onnx", "quantized.onnx", "ranges.json"))
        source.write_bytes(data)
        calibrate.save_tensors_data(statistics, cache)
        tool.quantize_static(
            source,
            target,
            None,
            quant_format=tool.QuantFormat.QDQ,
            op_types_to_quantize=sorted(QUANTIZED),
            per_channel=True,
            activation_type=tool.QuantType.QInt8,
            weight_type=tool.QuantType.QInt8,
            nodes_to_exclude=left,
            calibration_cache_path=cache,
        )
        model = _model(target.read_bytes())
    correct_biases(model, _model(data), ranges)
    return model.SerializeToString()


def _model(data: bytes) -> Any:
    return library("onnx").load_model_from_string(data)
