"""LiteRT's published quantizer (the package ai-edge-quantizer) on repaired TFLite files.

1. Weights are int8, symmetric, one scale an output channel; activations int8 with a zero point; biases int32.
2. Inputs and outputs stay float32: one QUANTIZE after each input, one DEQUANTIZE before each output.
3. Operators without a form on the NPU stay float, and so does what `borders.py` finds.
4. What the quantizer gets wrong or does not know, but the NPU does, comes after it (biases.py, rest.py).
"""

from __future__ import annotations

import importlib
import io
import re
import warnings
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np

from rocketnpu.cpu.litert.interpreter import without_chatter
from rocketnpu.errors import Error
from rocketnpu.frontends import load_tflite
from rocketnpu.frontends.onnx.library import refusal_is_model_error
from rocketnpu.ir import Graph
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.tflite.biases import correct_biases
from rocketnpu.quantizer.tflite.model import QUANTIZED, TfliteModel
from rocketnpu.quantizer.tflite.rest import quantize_rest

_NAMES = """
BATCH_MATMUL DIV EQUAL NOT_EQUAL REDUCE_MIN RSQRT SELECT SELECT_V2 SOFTMAX SQRT SQUARED_DIFFERENCE SUM
"""

CPU = frozenset(_NAMES.split())
"""What the quantizer knows, and the NPU does not."""


def quantize(data: bytes, ranges: Mapping[str, Range], left: Collection[str]) -> bytes:
    """The quantized file of a repaired one; `ranges` are those of its tensors by name.

    `left` names tensors whose operators stay float.
    Raises ModelError with the quantizer's reason when it refuses the file, Error when it is not installed.
    """
    module, recipes = library("quantizer"), library("recipe")
    graph = load_tflite(data, "the model")
    with refusal_is_model_error("LiteRT's quantizer refuses the model"), _quiet():
        quantizer = module.Quantizer(data, recipes.static_wi8_ai8())
        for kind in ("INPUT", "OUTPUT"):
            quantizer.update_quantization_recipe(".*", kind, algorithm_key="no_quantize")
        for operator in graph.operators:
            if not set(left).isdisjoint(operator.outputs):
                scope = f"^{re.escape(';'.join(operator.outputs))};?$"  # as the quantizer names an operator
                quantizer.update_quantization_recipe(scope, "*", algorithm_key="no_quantize")
        result = quantizer.quantize(_statistics(graph, ranges), enable_progress_bar=False, enable_progress_report=False)
        model = TfliteModel(bytes(result.quantized_model))
    _restore_outputs(model, graph.outputs)
    correct_biases(model, TfliteModel(data), ranges)
    quantize_rest(model, {name: range_ for name, range_ in ranges.items() if name not in left})
    model.sign()
    return model.build()


@contextmanager
def _quiet() -> Generator[None]:
    """Without the quantizer's own progress bars, LiteRT's lines, and its warnings on what the quantizer asks of it."""
    with without_chatter(), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def library(module: str) -> Any:
    """A module of the quantizer; raises Error with what to install when it is missing."""
    try:
        return importlib.import_module(f"ai_edge_quantizer.{module}")
    except ImportError as error:
        hint = "install it with: pip install 'rocketnpu[quantize]'"
        raise Error(f"quantizing TFLite models needs the package ai-edge-quantizer; {hint}") from error


def _restore_outputs(model: TfliteModel, outputs: Sequence[str]) -> None:
    """Let the outputs be the float tensors of these names again.

    The quantizer leaves an output's name to the int8 tensor that a DEQUANTIZE then reads, and where an operator reads
    what it has left float, puts the QUANTIZE for that operator in the output's place.
    """
    for place, (found, name) in enumerate(zip(model.results, outputs, strict=True)):
        if found != name and model.grid(found):
            model.set_result(place, name)
        elif found != name:
            if name in model.places:
                model.rename(name, model.unused(name + QUANTIZED))
            model.rename(found, name)


def _statistics(graph: Graph, ranges: Mapping[str, Range]) -> dict[str, dict[str, Any]]:
    """Ranges as the quantizer keeps them: arrays of the tensor's rank."""
    found: dict[str, dict[str, Any]] = {}
    for name, range_ in ranges.items():
        low, high = range_.bounds
        shape = (1,) * len(graph.tensors[name].shape)
        found[name] = {"min": np.full(shape, low), "max": np.full(shape, high)}
    return found
