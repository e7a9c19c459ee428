"""The addition after a convolution in the convolution's own task, where the evidence reaches (hardware/dpu.md).

1. The convolution is direct, with 17 to 32 output channels: two planes, one read by each read engine. How more planes
   are shared out is not known, and one alone has no partner.
2. It is cut in rows only, as the read engines know no gap at the end of a row.
3. Its steps are smaller than those of the output: a result that is 1 off before the sum is then at most 1 off after it.
4. Its channels have gains of their own. One gain for all is exact in a task of its own, with the bits of two
   multipliers (requantize/convolution.py, recipe 1), of which the sum needs one here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Elementwise, Operation
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.compiler.passes.assign import Placed, Planned, PlannedConvolution
from rocketnpu.compiler.requantize.residual import MAX_OPERAND_ERROR, requantize_residual
from rocketnpu.hw.limits import DIRECT_OUTPUT_GROUP


def with_residual(maker: Placed, made: str, add: Elementwise) -> tuple[Planned, ...] | None:
    """The maker's plan with `add` inside, to which it makes the operand `made`; None where a rule forbids it."""
    if len(maker.plan) != 1 or not isinstance(maker.plan[0], PlannedConvolution) or add.operation is not Operation.SUM:
        return None
    unfused = maker.plan[0]
    conv = unfused.form
    if add.second is None or add.first == add.second or min(add.first_scale, add.second_scale) < 0:
        return None
    sum_of_own = add if add.first == made else _swapped(add)
    two_planes = ATOM_CHANNELS < conv.output_channels <= DIRECT_OUTPUT_GROUP
    plain = not conv.depthwise and float(np.ptp(conv.gains)) > 0 and conv.slopes is None and conv.residual is None
    whole_rows = all(tile.window.x1 - tile.window.x0 == conv.output_shape.width for tile in unfused.tiles)
    fine = sum_of_own.first_scale / add.output_scale < 1 - MAX_OPERAND_ERROR
    if not (two_planes and plain and whole_rows and fine):
        return None
    try:
        values = requantize_residual(conv, sum_of_own)
    except ConstraintError:
        return None
    fused = replace(conv, output=add.output, residual=sum_of_own.second)
    return (replace(unfused, form=fused, values=values),)


def _swapped(add: Elementwise) -> Elementwise:
    assert add.second is not None
    return replace(
        add,
        first=add.second,
        second=add.first,
        first_scale=add.second_scale,
        second_scale=add.first_scale,
        first_zero_point=add.second_zero_point,
        second_zero_point=add.first_zero_point,
    )
