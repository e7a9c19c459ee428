"""Windows that slide over images: strides, dilations and padding as ONNX's operators say them."""

from __future__ import annotations

from typing import TypeAlias

from rocketnpu.frontends.onnx.call import Call
from rocketnpu.ir import Pads

Window: TypeAlias = tuple[Pads, tuple[int, int], tuple[int, int]]
"""Pads, strides, dilations."""

UNUSUAL_WINDOW = "its window, strides, pads or dilations are unusual"


def window_of(call: Call, kernel: tuple[int, int]) -> Window | None:
    """Pads, strides and dilations of a window that slides over two dimensions; None when the compiler can't have them.

    SAME_LOWER puts the odd row or column of padding before the image, SAME_UPPER behind it (ONNX, operator Conv).
    """
    strides = pair(call, "strides")
    dilations = pair(call, "dilations")
    sizes, outs = call.data.shape[2:], call.output.shape[2:]
    if strides is None or dilations is None or min(*strides, *dilations) < 1 or 0 in (*sizes, *outs):
        return None
    reach = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, dilations, strict=True)]
    auto = call.text("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [max((outs[i] - 1) * strides[i] + reach[i] - sizes[i], 0) for i in range(2)]
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        before, after = (small, large) if auto == "SAME_UPPER" else (large, small)
    elif auto == "VALID":
        before, after = [0, 0], [0, 0]
    else:
        given: list[int] = list(call.attributes.get("pads", (0, 0, 0, 0)))
        if len(given) != 4:
            return None
        before, after = given[:2], given[2:]
    if call.attributes.get("ceil_mode", 0):  # the last window may end beyond the padding
        ends = [(outs[i] - 1) * strides[i] + reach[i] for i in range(2)]
        after = [max(after[i], ends[i] - sizes[i] - before[i]) for i in range(2)]
    pads = (before[0], before[1], after[0], after[1])
    expected = [(sizes[i] + before[i] + after[i] - reach[i]) // strides[i] + 1 for i in range(2)]
    # No window lies in the padding alone.
    if min(pads) < 0 or any(max(before[i], after[i]) >= reach[i] for i in range(2)) or tuple(expected) != outs:
        return None
    return pads, strides, dilations


def pair(call: Call, name: str, default: int = 1) -> tuple[int, int] | None:
    """An attribute with a number for each of two dimensions; None when it has more or fewer."""
    values: list[int] = list(call.attributes.get(name, (default, default)))
    return (values[0], values[1]) if len(values) == 2 else None
