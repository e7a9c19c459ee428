"""Operators that only LiteRT can compute: control flow, state, custom operators.

Such an operator runs on the CPU. What it reads and what reads its results may run on the NPU.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import Reader

_flexbuffers: Any = importlib.import_module("flatbuffers.flexbuffers")

CONTROL_FLOW = frozenset({"CALL", "CALL_ONCE", "IF", "STABLEHLO_CASE", "STABLEHLO_WHILE", "WHILE"})

STATEFUL = frozenset(
    {
        "ASSIGN_VARIABLE",
        "BIDIRECTIONAL_SEQUENCE_LSTM",
        "BIDIRECTIONAL_SEQUENCE_RNN",
        "HASHTABLE",
        "HASHTABLE_FIND",
        "HASHTABLE_IMPORT",
        "HASHTABLE_SIZE",
        "LSTM",
        "MULTINOMIAL",
        "RANDOM_STANDARD_NORMAL",
        "RANDOM_UNIFORM",
        "READ_VARIABLE",
        "RNN",
        "SVDF",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
        "UNIDIRECTIONAL_SEQUENCE_RNN",
        "VAR_HANDLE",
    }
)
"""Their results depend on earlier runs, or on a generator's state."""

DETECTION = "TFLite_Detection_PostProcess"

CUSTOM_KERNELS = frozenset({"AudioSpectrogram", DETECTION, "Mfcc", "NumericVerify"})
"""Custom operators that LiteRT brings kernels for (tensorflow/lite/core/kernels/register.cc)."""

MOST_DETECTIONS = 1 << 20
"""More boxes than any detector gives."""


def opaque_reason(kind: str, custom: str, mutates: bool) -> str | None:
    """Why only LiteRT can compute an operator of this kind; None for ordinary kinds.

    `custom` is the name of a custom operator; `mutates` says that it changes its inputs.
    """
    if kind == "CUSTOM":
        return f"the custom operator {custom} has no NPU form"
    if kind in CONTROL_FLOW:
        return f"{kind} is control flow, which has no NPU form"
    if kind in STATEFUL or mutates:
        return f"{kind} keeps state, which has no NPU form"
    return None


def missing_kernel(kind: str, custom: str) -> str | None:
    """Why LiteRT can't compute the operator either; None when it can."""
    if kind == "DELEGATE":
        return "it is a delegate's own format"
    if kind != "CUSTOM" or custom in CUSTOM_KERNELS:
        return None
    if custom.startswith("Flex"):
        return f"it needs TensorFlow itself for {custom.removeprefix('Flex')}, which LiteRT does not bring"
    return f"LiteRT has no kernel for the custom operator {custom}"


def custom_shapes(custom: str, options: bytes, where: str) -> Sequence[tuple[int, ...]] | None:
    """The shapes of a custom operator's outputs, if they are known; files often don't state them.

    Those of a detector are 1 x boxes x 4, 1 x boxes, 1 x boxes and 1, for the most boxes that its options allow
    (tensorflow/lite/kernels/detection_postprocess.cc, Prepare). Raises ModelError for options that are malformed.
    """
    if custom != DETECTION:
        return None
    found = _flexbuffer_map(options, where)
    boxes = 1
    for key in ("max_detections", "max_classes_per_detection"):
        value = found.get(key)
        if not isinstance(value, int) or not 0 < value <= MOST_DETECTIONS:
            raise ModelError(f"{where} has the option {key}={value}; it is a whole number from 1 to {MOST_DETECTIONS}")
        boxes *= value
    if boxes > MOST_DETECTIONS:
        raise ModelError(f"{where} asks for {boxes} boxes; at most {MOST_DETECTIONS} are possible")
    return (1, boxes, 4), (1, boxes), (1, boxes), (1,)


def custom_options(reader: Reader, table: Any) -> bytes:
    """The options of a custom operator: in its table, or behind the flatbuffer (schema.fbs, table Operator)."""
    offset, size = table.LargeCustomOptionsOffset(), table.LargeCustomOptionsSize()
    if offset <= 1:
        return reader.numbers(table, "CustomOptions").astype(np.uint8).tobytes()
    reader.spend(size)
    return reader.behind(offset, size).tobytes()


def _flexbuffer_map(data: bytes, where: str) -> Mapping[str, object]:
    try:
        found: Any = _flexbuffers.GetRoot(data).Value
    except Exception as error:  # the reader trusts its bytes and fails in many ways
        raise ModelError(f"{where} has malformed options: {error}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{where} has options that are no map of names to values")
    return cast(dict[str, object], found)
