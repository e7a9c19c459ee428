"""Transposed convolutions in groups as such of one group, with weights of 0 between channels of different groups.

ONNX Runtime's quantizer takes the second axis of their weights for all output channels, where it counts those of one
group. The NPU computes them in this form in any case (frontends/onnx/layers.py).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from rocketnpu.frontends.onnx.layers import MOST_DENSE_WEIGHTS
from rocketnpu.frontends.onnx.library import library


def join_groups(model: Any) -> None:
    """Change the ConvTranspose nodes of an onnx.ModelProto in place; those with too many weights stay as they are."""
    arrays = library("onnx.numpy_helper")
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        groups = next((item for item in node.attribute if item.name == "group"), None)
        weights = stored.get(node.input[1]) if node.op_type == "ConvTranspose" else None
        if groups is None or groups.i <= 1 or weights is None:
            continue
        values = arrays.to_array(weights)
        inputs, outputs = values.shape[:2]
        if values.size * groups.i > MOST_DENSE_WEIGHTS or inputs % groups.i:
            continue
        dense = np.zeros((inputs, outputs * groups.i, *values.shape[2:]), values.dtype)
        part = inputs // groups.i
        for group in range(groups.i):
            rows = slice(group * part, (group + 1) * part)
            dense[rows, group * outputs : (group + 1) * outputs] = values[rows]
        node.input[1] = f"{node.output[0]}/dense"
        model.graph.initializer.append(arrays.from_array(dense, node.input[1]))
        groups.i = 1
