"""Sizes of numbers, and rounding up to the chip's units."""

from __future__ import annotations

INT32_BYTES = 4
"""An accumulator, a bias, an element of a cube of int32."""


def align(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit
