"""Quantized constants of 4 bits as bytes, which hold the same numbers.

A constant that DequantizeLinear unpacks becomes int8 or uint8, and so does its zero point: numpy has no narrower type,
and neither has the NPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rocketnpu.frontends.onnx.library import library

UNPACK = "DequantizeLinear"
CONSTANTS = (0, 2)
"""Inputs of a DequantizeLinear node that have the narrow type: numbers and zero point."""


def widen_constants(model: Any) -> None:
    """Change the constants of an onnx.ModelProto in place; those that anything else reads stay as they are."""
    types, arrays = library("onnx").TensorProto, library("onnx.numpy_helper")
    wide = {types.INT4: np.int8, types.UINT4: np.uint8}
    others = {
        name
        for node in model.graph.node
        for position, name in enumerate(node.input)
        if node.op_type != UNPACK or position not in CONSTANTS
    }
    for tensor in model.graph.initializer:
        if tensor.data_type in wide and tensor.name not in others:
            values = arrays.to_array(tensor).astype(wide[tensor.data_type])
            tensor.CopyFrom(arrays.from_array(values, tensor.name))
