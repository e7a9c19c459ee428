"""The compiler's own nouns: what the NPU can do in one or more tasks, between the model's operators and register lists.

Everything here is in the device's int8 domain: a uint8 tensor is stored as value - 128, and its zero point likewise.
"""

from __future__ import annotations

from typing import TypeAlias

from rocketnpu.compiler.npu_ops.convolution import Convolution, Rounding, Run
from rocketnpu.compiler.npu_ops.copies import Alias, Move, Part, Upsample
from rocketnpu.compiler.npu_ops.cube import (
    ATOM_CHANNELS,
    CubeShape,
    Side,
    Window,
    cube_shape,
    cube_side,
    device_order,
    image_row_pitch,
)
from rocketnpu.compiler.npu_ops.elementwise import Elementwise, Operation, Rescale, WideSum
from rocketnpu.compiler.npu_ops.lookup import Lookup, TableLoad
from rocketnpu.compiler.npu_ops.pool import Pool, PoolMethod

__all__ = [
    "ATOM_CHANNELS",
    "Alias",
    "Convolution",
    "CubeShape",
    "Elementwise",
    "Lookup",
    "Lowered",
    "Move",
    "Operation",
    "Part",
    "Pool",
    "PoolMethod",
    "Rescale",
    "Rounding",
    "Run",
    "Side",
    "TableLoad",
    "Upsample",
    "WideSum",
    "Window",
    "cube_shape",
    "cube_side",
    "device_order",
    "image_row_pitch",
]

Lowered: TypeAlias = (
    Convolution | Elementwise | WideSum | Rescale | TableLoad | Lookup | Alias | Move | Pool | Upsample | Part
)
