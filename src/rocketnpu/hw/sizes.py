"""Rounding sizes up to the chip's units."""

from __future__ import annotations


def align(size: int, unit: int) -> int:
    """The smallest multiple of `unit` that is at least `size`."""
    return -(-size // unit) * unit
