"""How Linux packs an ioctl's direction, argument size, type and number into one request code (asm-generic layout)."""

from __future__ import annotations

import ctypes

WRITE, READ = 1, 2
"""Directions, seen from user space: the kernel reads, or writes, the argument."""

NUMBER_BITS, TYPE_BITS, SIZE_BITS = 8, 8, 14


def request(direction: int, kind: str, number: int, argument: type[ctypes.Structure]) -> int:
    """The request code of ioctl `number` of type character `kind` with that argument struct."""
    packed = direction << SIZE_BITS | ctypes.sizeof(argument)
    packed = packed << TYPE_BITS | ord(kind)
    return packed << NUMBER_BITS | number
