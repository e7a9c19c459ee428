"""The 64-bit entries of a command stream, both ways, and the trailer that ends a task's list (hardware/regcmd.md)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import CompileError
from rocketnpu.hw.registers import BLOCKS, CORE, PC, Block, Register

Words: TypeAlias = NDArray[np.uint64]
"""Command words, shape (n,)."""

WORD_BYTES = 8
"""Size of an entry."""

EMPTY = 0
"""The entry that does nothing: padding, or a placeholder in the last trailer of a chain."""

MARKER_TARGET = 0x0041
"""Target of the entry that must precede the enable entry; its value and offset are 0."""

ENABLE_TARGET = 0x0081
"""Target of the entry that starts the blocks named by its value, PC.TARGET_BROADCAST."""

TRAILER_ENTRIES = 4
"""Next address, next length, marker, enable entry."""

CONVOLUTION_MASK = 0x1D
"""Enable mask of a convolution: CNA, CORE, DPU, DPU_RDMA."""

DPU_MASK = 0x18
"""Enable mask of a task without CNA and CORE (element-wise, LUT, resize, copy): DPU, DPU_RDMA."""

POOL_MASK = 0x60
"""Enable mask of a pool: PPU, PPU_RDMA."""

LIST_ALIGNMENT_WORDS = 8
"""Lists start on 64-byte boundaries, as the vendor's do."""

KICK_POINTER = CORE.S_POINTER.encode(POINTER_PP_MODE=1, EXECUTER_PP_EN=1, POINTER_PP_EN=1)
"""What both kernel drivers write to S_POINTER of CNA and CORE before a kick; to it they add the core's number."""


@dataclass(frozen=True)
class Command:
    """One entry: `value` (32 bits) to `offset` (16 bits) of the block that `target` (16 bits) selects."""

    target: int
    offset: int
    value: int


def encode(command: Command) -> int:
    """The 64-bit word; raises CompileError if a part does not fit its bits."""
    for name, part, bits in (
        ("target", command.target, 16),
        ("offset", command.offset, 16),
        ("value", command.value, 32),
    ):
        if not 0 <= part < 1 << bits:
            raise CompileError(f"command {name} {part:#x} does not fit {bits} bits")
    return command.target << 48 | command.value << 16 | command.offset


def decode(word: int) -> Command:
    """The entry of a 64-bit word; every word has one."""
    return Command(target=word >> 48 & 0xFFFF, offset=word & 0xFFFF, value=word >> 16 & 0xFFFFFFFF)


def write(register: Register, value: int) -> int:
    """The word that writes a 32-bit value to a register; raises CompileError if streams cannot reach it."""
    if register.target is None:
        raise CompileError(f"{register} cannot be written from a command stream")
    return encode(Command(register.target, register.offset, value))


def split(words: Words) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint16]]:
    """Targets, values and offsets of command words, each of shape (n,)."""
    targets = (words >> np.uint64(48)).astype(np.uint16)
    values = (words >> np.uint64(16)).astype(np.uint32)
    offsets = words.astype(np.uint16)
    return targets, values, offsets


def length_code(body_entries: int) -> int:
    """PC.REGISTER_AMOUNTS.PC_DATA_AMOUNT of a list: ceil((body + 4) / 2) - 1, `body_entries` without the trailer."""
    return (body_entries + TRAILER_ENTRIES + 1) // 2 - 1


def entries_fetched(code: int) -> int:
    """Entries that the PC fetches for a length code, trailer included; lists are fetched in pairs."""
    return 2 * (code + 1)


def enable_mask(blocks: Iterable[Block]) -> int:
    """The enable entry's value that starts these blocks; raises CompileError for a block that has no bit."""
    mask = 0
    for block in blocks:
        if block.enable_bit is None:
            raise CompileError(f"block {block.name} has no bit in the enable entry")
        mask |= 1 << block.enable_bit
    return mask


def enabled_blocks(mask: int) -> tuple[Block, ...]:
    """The blocks that an enable entry with this value starts, by address; bits without a block are ignored."""
    return tuple(block for block in BLOCKS if block.enable_bit is not None and mask >> block.enable_bit & 1)


def trailer(next_address: int, next_body_entries: int, mask: int, cores: int = 1) -> tuple[int, int, int, int]:
    """The four words that end a list.

    `next_address` (bytes, 16-byte aligned, 32 bits) and `next_body_entries` describe the list that follows in the
    chain; both 0 in the last one. `cores` is the number of cores that share a multi-core convolution, which the
    vendor's compiler writes into these lists; its effect is unknown. Raises CompileError for a misaligned address.
    """
    if next_address % 16:
        raise CompileError(f"command list address {next_address:#x} is not 16-byte aligned")
    base, amounts = EMPTY, 0
    if next_address:
        base = write(PC.BASE_ADDRESS, PC.BASE_ADDRESS.encode(PC_SOURCE_ADDR=next_address >> 4))
        amounts = length_code(next_body_entries)
    return (
        base,
        write(PC.REGISTER_AMOUNTS, PC.REGISTER_AMOUNTS.encode(PC_DATA_AMOUNT=amounts, MULTI_CORE_COUNT=cores - 1)),
        encode(Command(MARKER_TARGET, 0, 0)),
        write(PC.TARGET_BROADCAST, PC.TARGET_BROADCAST.encode(BLOCK_BITMAP=mask)),
    )
