"""Operators that LiteRT's quantizer does not know, but the NPU does: int8 as well, on the ranges of the calibration.

The quantizer leaves them float, between a DEQUANTIZE and a QUANTIZE.
1. Such an operator reads the int8 tensor itself. Float constants that it reads become int8, symmetric.
2. Its result takes the grid of the QUANTIZE behind it, which goes; without one, that of the calibrated range.
3. Operators that keep their input's grid (LiteRT's kernels demand it) leave the change of grid to the QUANTIZE.
4. Where float is still asked for, a DEQUANTIZE makes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.tflite.model import QUANTIZED, TfliteModel

OWN_GRID = frozenset({"ABS", "EXP", "LEAKY_RELU", "LOG", "PRELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"})
"""Operators whose int8 kernels go from any grid to any other."""

SAME_GRID = frozenset({"DEPTH_TO_SPACE", "SPLIT_V"})
"""Operators of rule 3."""

STEPS, SYMMETRIC_STEPS, LOWEST = 255, 127, -128
"""Of int8: steps of the whole range, steps to either side of 0, smallest value."""


def quantize_rest(model: TfliteModel, ranges: Mapping[str, Range]) -> None:
    """Make these operators int8 in what LiteRT's quantizer has made; `ranges` are those of the float tensors.

    An int8 tensor beside a float one of the same values has its name with QUANTIZED behind it.
    """
    for operator in list(model.operators):
        kind = model.kind(operator)
        results = model.outputs(operator)
        if kind not in OWN_GRID | SAME_GRID or any(name not in ranges or model.grid(name) for name in results):
            continue
        source = _int8_source(model, operator)
        if source is None or (kind == "PRELU" and not _quantize_slopes(model, operator)):
            continue
        model.rewire(operator, str(model.inputs(operator)[0]), source)
        for name in results:
            grid = model.grid(source) if kind in SAME_GRID else None
            _quantize_result(model, operator, name, grid, ranges[name])
    _drop_unread(model)


def _int8_source(model: TfliteModel, operator: Any) -> str | None:
    """The int8 tensor with the values of the operator's first operand (rule 1)."""
    name = str(model.inputs(operator)[0])
    if model.grid(name):
        return name
    maker = next((maker for maker in model.operators if name in model.outputs(maker)), None)
    if maker is None or model.kind(maker) != "DEQUANTIZE":
        return None
    (source,) = model.inputs(maker)
    return source if source is not None and model.grid(source) else None


def _quantize_slopes(model: TfliteModel, operator: Any) -> bool:
    """The slopes of a PRELU as int8; False when they are no constants."""
    name = str(model.inputs(operator)[1])
    slopes = model.constant(name)
    if slopes is not None:
        scale = float(np.abs(slopes).max(initial=0)) / SYMMETRIC_STEPS or 1.0
        model.set_constant(name, np.round(slopes / scale).astype(np.int8))
        model.set_grid(name, scale, 0)
    return model.grid(name) is not None


def _quantize_result(
    model: TfliteModel, operator: Any, name: str, grid: tuple[float, int] | None, range_: Range
) -> None:
    """Rules 2 to 4 for one result; `grid` is what rule 3 asks for."""
    readers = [reader for reader in model.operators if name in model.inputs(reader)]
    changes = [reader for reader in readers if model.kind(reader) == "QUANTIZE"]
    is_float = len(changes) < len(readers) or name in model.results
    if changes and grid is None:
        (stored,) = model.outputs(changes[0])
        model.operators.remove(changes.pop(0))
    else:
        stored = name
        if is_float:
            stored = model.unused(name + QUANTIZED)
            model.add_copy(name, stored)
        model.set_grid(stored, *(grid or _grid(range_)))
    model.rewire(operator, name, stored, output=True)
    for change in changes:
        model.rewire(change, name, stored)
    if is_float:
        model.dequantize(stored, name)


def _grid(range_: Range) -> tuple[float, int]:
    """Scale and zero point of an int8 grid that holds the range and 0."""
    low, high = (float(bound) for bound in range_.bounds)
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / STEPS or 1.0
    return scale, round(LOWEST - low / scale)


def _drop_unread(model: TfliteModel) -> None:
    """DEQUANTIZE operators whose results nothing needs any more."""
    needed = {*model.results, *(name for operator in model.operators for name in model.inputs(operator))}
    for operator in list(model.operators):
        if model.kind(operator) == "DEQUANTIZE" and needed.isdisjoint(model.outputs(operator)):
            model.operators.remove(operator)
