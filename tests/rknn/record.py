"""What it means to agree with the tensors that the vendor's simulator recorded.

That simulator works in float, so single bytes may round the other way: within 1, and few of them. The bounds are the
counts that the formulas of hardware/dpu.md reach, with a little room (hardware/README.md, last section).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[np.int8]]

DIFFERENT_BYTES = {"a_channel": 20, "a_layer": 10, "a2_channel": 200, "a2_layer": 60, "b_channel": 750, "b_layer": 130}
"""Most bytes that may differ, of 32768 (a), 122880 (a2) and 230218 (b)."""

EXACT = ("maxpool", "concat", "resize", "gap", "fc_mm", "fc")
"""Tensors without a rounding difference."""

ALIASES = ("fc",)
"""Other names for bytes that are already counted."""


def distance(result: NDArray[np.int8], reference: NDArray[np.int8]) -> NDArray[np.int16]:
    """Absolute difference of each element."""
    return np.abs(result.astype(np.int16) - reference)


def disagreements(name: str, results: Tensors, recorded: Tensors) -> list[str]:
    """How the results of model `name`, each layer fed from the record, leave the record; empty if they agree."""
    found: list[str] = []
    different: dict[str, int] = {}
    for tensor, value in results.items():
        off = distance(value, recorded[tensor])
        count, worst = int(np.count_nonzero(off)), int(off.max())
        if worst > (tensor not in EXACT):
            found.append(f"{tensor}: {count} of {off.size} bytes differ, by up to {worst}")
        if tensor not in ALIASES:
            different[tensor] = count
    if sum(different.values()) > DIFFERENT_BYTES[name]:
        found.append(f"{sum(different.values())} bytes differ, at most {DIFFERENT_BYTES[name]} may: {different}")
    return found
