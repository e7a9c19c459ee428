"""What the published quantizers reach by themselves, run by their own runtimes: the mark that this one is held to."""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, quantize_static

from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.quantizer.report import Sqnr
from rocketnpu.quantizer.tflite.model import SIGNATURE, TfliteModel

Arrays = dict[str, NDArray[Any]]


class _Reader(CalibrationDataReader):
    def __init__(self, name: str, inputs: Sequence[NDArray[Any]]) -> None:
        self._sets = iter([{name: values} for values in inputs])

    def get_next(self) -> Arrays | None:  # type: ignore[override]
        return next(self._sets, None)


def onnx_outputs(
    model: bytes, calibration: Sequence[NDArray[Any]], held: Sequence[NDArray[Any]], *, per_channel: bool
) -> list[Arrays]:
    """Outputs of ONNX Runtime's own quantized model, all else being its defaults; without its optimizations, as its
    integer kernels saturate on processors without VNNI."""
    proto = onnx.load_from_string(model)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "quantized.onnx"
        reader = _Reader(proto.graph.input[0].name, calibration)
        quantize_static(onnx.load_from_string(model), target, reader, per_channel=per_channel)
        reference = ort.Reference(target.read_bytes())
    names = [output.name for output in proto.graph.output]
    return [{name: found[name] for name in names} for found in (reference.tensors([values]) for values in held)]


def tflite_outputs(repaired: bytes, calibration: Sequence[NDArray[Any]], held: Sequence[NDArray[Any]]) -> list[Arrays]:
    """Real outputs of LiteRT's own quantized model, all being its defaults; LiteRT runs it."""
    quantizer = importlib.import_module("ai_edge_quantizer.quantizer")
    recipe = importlib.import_module("ai_edge_quantizer.recipe")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteRT's, on keeping all tensors
        tool: Any = quantizer.Quantizer(repaired, recipe.static_wi8_ai8())
        (name,) = litert.Reference(repaired, kernels="plain").graph.inputs
        statistics = tool.calibrate({SIGNATURE: [{name: values} for values in calibration]}, num_threads=1)
        result = tool.quantize(statistics, enable_progress_bar=False, enable_progress_report=False)
    reference = litert.Reference(TfliteModel(bytes(result.quantized_model)).build(), kernels="plain")
    graph = reference.graph
    grid = graph.tensors[graph.inputs[0]].quantization
    assert grid is not None
    found: list[Arrays] = []
    for values in held:
        stored = np.clip(np.round(values / grid.scales[0]) + grid.zero_points[0], -128, 127).astype(np.int8)
        tensors = reference.tensors([stored])
        found.append({name: _real(graph.tensors[name].quantization, tensors[name]) for name in graph.outputs})
    return found


def _real(grid: Any, values: NDArray[Any]) -> NDArray[Any]:
    return values if grid is None else (values.astype(np.float64) - grid.zero_points[0]) * grid.scales[0]


def decibels(found: Sequence[Arrays], expected: Sequence[Arrays]) -> dict[str, float]:
    """The SQNR of each output over all inputs."""
    totals = {name: Sqnr() for name in expected[0]}
    for arrays, reference in zip(found, expected, strict=True):
        for name, total in totals.items():
            total.add(arrays[name], reference[name])
    return {name: total.decibels for name, total in totals.items()}
