"""Operators over one dimension of space as the same operators over images one row high.

Conv, ConvTranspose, pools and Resize mean the same there: data (N, C, L) is an image (N, C, 1, L), and weights
(O, I, K) are (O, I, 1, K). Only options and weights are written so; the tensors of the graph keep their shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from rocketnpu.frontends.onnx.call import Call
from rocketnpu.ir import Tensor

ON_ROWS = frozenset({"AveragePool", "Conv", "ConvTranspose", "GlobalMaxPool", "MaxPool", "Resize"})
ROW_RANK = 3
ROW_AXIS = 2
"""The dimension of an image that a row lacks."""

_MISSING = {"dilations": 1, "kernel_shape": 1, "output_padding": 0, "output_shape": 1, "strides": 1}
"""What lists with a number for each dimension of space say of the missing one."""


def is_over_rows(call: Call) -> bool:
    """Whether a call works on rows, and is an operator that also works on images."""
    return call.op_type in ON_ROWS and len(call.data.shape) == ROW_RANK


def over_images(call: Call) -> Call:
    """The call on images one row high."""
    operands = [_operand(call, index, operand) for index, operand in enumerate(call.operands)]
    outputs = tuple(replace(output, shape=_with_row(output.shape)) for output in call.outputs)
    return replace(call, attributes=_attributes(call.attributes), operands=tuple(operands), outputs=outputs)


def _attributes(given: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(given)
    for name, value in _MISSING.items():
        if name in found:
            found[name] = [value, *found[name]]
    if "pads" in found and len(found["pads"]) == 2:
        found["pads"] = [0, found["pads"][0], 0, found["pads"][1]]
    if "axes" in found:
        found["axes"] = [axis % ROW_RANK + (axis % ROW_RANK >= ROW_AXIS) for axis in found["axes"]]
    return found


def _operand(call: Call, index: int, operand: Tensor | None) -> Tensor | None:
    if operand is None or (index and operand.data is None):
        return operand
    if index == 0 or (index == 1 and len(operand.shape) == ROW_RANK):
        return _tensor_with_row(operand)
    if call.op_type == "Resize" and operand.shape == (ROW_RANK,) and "axes" not in call.attributes:
        assert operand.data is not None
        numbers = np.insert(operand.data, ROW_AXIS, 1)
        return replace(operand, shape=numbers.shape, data=numbers)
    return operand


def _tensor_with_row(tensor: Tensor) -> Tensor:
    """A tensor with one more dimension, in front of its last one."""
    grid, shape = tensor.quantization, _with_row(tensor.shape)
    if grid is not None and grid.axis is not None and grid.axis >= ROW_AXIS:
        grid = replace(grid, axis=grid.axis + 1)
    data = None if tensor.data is None else tensor.data.reshape(shape)
    return replace(tensor, shape=shape, data=data, quantization=grid)


def _with_row(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:ROW_AXIS], 1, *shape[ROW_AXIS:])
