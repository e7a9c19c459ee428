"""Clamps that no task does on its way out become a task after it.

1. A convolution clamps at real zero, and above that (BN's ReLU and ReLUX), an element-wise sum or product at real zero
   alone (EW's ReLU): both are the vendor's. A clamp elsewhere (RELU_N1_TO_1), or above after an element-wise task
   (RELU6), has no evidence but a register's description.
2. Such a task leaves its clamps out. A copy does those of which the lower one is at zero (BN), a table of the 256
   results the others; the bytes are those of a clamp on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from rocketnpu.compiler.npu_ops import Convolution, Elementwise, Lookup, Lowered, Operation, Rescale, TableLoad


def with_clamps_apart(forms: Iterable[Lowered]) -> Iterator[Lowered]:
    """The forms, with copies or lookups after those that don't clamp themselves."""
    rest = list(forms)
    apart = {form.output for form in rest if isinstance(form, Convolution | Elementwise) and not clamps_itself(form)}
    for index, form in enumerate(rest):
        if form.output not in apart or not isinstance(form, Convolution | Elementwise):
            yield form
            continue
        name = f"{form.output}#unclamped"
        yield replace(form, output=name, low=-128, high=127)
        if any(later.output == form.output for later in rest[index + 1 :]):
            continue
        zero = form.output_zero_point
        if form.low == zero:
            yield Rescale(name, form.output, form.output_shape, 1.0, zero, zero, form.low, form.high)
        else:
            table = np.clip(np.arange(-128, 128), form.low, form.high).astype(np.int8)
            yield TableLoad(f"{form.output}#clamp", table)
            yield Lookup(name, form.output, form.output_shape)


def clamps_itself(form: Convolution | Elementwise) -> bool:
    """Whether the task of `form` does its own clamps (rule 1)."""
    if form.low <= -128 and form.high >= 127:
        return True
    if form.low != form.output_zero_point:
        return False
    return isinstance(form, Convolution) or (form.high >= 127 and form.operation in (Operation.SUM, Operation.PRODUCT))
