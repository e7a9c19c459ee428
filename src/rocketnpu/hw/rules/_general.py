"""Rules about the list as a whole: which blocks it starts, what streams may not write, addresses, undefined bits."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.hw import limits, regcmd
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, PC, PPU, PPU_RDMA
from rocketnpu.hw.rules._model import RegisterTask, Rule

_MAC_GATING_LIVE_BIT = 1 << 24
"""Clearing this bit hangs convolutions (hardware/registers.md, CORE)."""

_ADDRESSES = (
    CNA.FEATURE_DATA_ADDR,
    CNA.DCOMP_ADDR0,
    DPU.DST_BASE_ADDR,
    DPU_RDMA.RDMA_SRC_BASE_ADDR,
    DPU_RDMA.RDMA_BS_BASE_ADDR,
    DPU_RDMA.RDMA_BN_BASE_ADDR,
    DPU_RDMA.RDMA_EW_BASE_ADDR,
    PPU.DST_BASE_ADDR,
    PPU_RDMA.RDMA_SRC_BASE_ADDR,
)


def written_blocks_are_enabled(task: RegisterTask) -> Iterator[str]:
    """The enable entry starts every block that the list writes: a pool list with 0x1d, or DPU_RDMA registers without
    DPU_RDMA, never complete. hardware/convolution.md, Must not emit [silicon].
    """
    for block in (CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA):
        if not task.enables(block) and any(register.block == block.name for register in task.written):
            yield f"registers of {block.name} are written but enable mask {task.enable_mask:#x} does not start it"


def enable_mask_names_blocks(task: RegisterTask) -> Iterator[str]:
    """The enable mask has only bits of blocks and at least one of them. hardware/regcmd.md [silicon]."""
    known = regcmd.enable_mask((CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA))
    if task.enable_mask & ~known or not task.enable_mask:
        yield f"enable mask {task.enable_mask:#x} is not a set of bits of {known:#x}"


def feeders_are_enabled(task: RegisterTask) -> Iterator[str]:
    """A block is started together with the one that feeds it. hardware/regcmd.md, What makes a job time out
    [silicon].
    """
    if task.enables(CNA) != task.enables(CORE):
        yield f"CNA and CORE work only together, enable mask is {task.enable_mask:#x}"
    if task.enables(DPU) and task.knows(DPU.FEATURE_MODE_CFG):
        feeder = DPU_RDMA if task.get(DPU.FEATURE_MODE_CFG, "FLYING_MODE") else CORE
        if not task.enables(feeder):
            yield f"DPU reads from {feeder.name}, which enable mask {task.enable_mask:#x} does not start"
    if task.enables(PPU) and not task.enables(PPU_RDMA):
        yield f"no known program runs PPU without PPU_RDMA, enable mask is {task.enable_mask:#x}"


def stream_leaves_driver_pointers(task: RegisterTask) -> Iterator[str]:
    """S_POINTER of CNA and CORE belongs to the kernel driver: a stream that writes it never completes, 24 of 24 runs.
    hardware/regcmd.md, Ping-pong [silicon].
    """
    for register in (CNA.S_POINTER, CORE.S_POINTER):
        if register in task.written:
            yield f"the list writes {register}"


def mac_gating_keeps_the_mac_alive(task: RegisterTask) -> Iterator[str]:
    """CORE.MAC_GATING keeps bit 24; better, it is not written. hardware/registers.md, CORE [silicon]."""
    if CORE.MAC_GATING in task.written and not task.written[CORE.MAC_GATING] & _MAC_GATING_LIVE_BIT:
        yield f"{CORE.MAC_GATING} = {task.written[CORE.MAC_GATING]:#x} clears bit 24"


def addresses_are_aligned(task: RegisterTask) -> Iterator[str]:
    """Addresses are multiples of 16 bytes; an ARGB input elsewhere makes 94% of the outputs wrong.
    hardware/convolution.md, Must not emit [silicon]; README.md, Constants [vendor].
    """
    for register in _ADDRESSES:
        if register in task.written and task.written[register] % limits.ADDRESS_ALIGNMENT_BYTES:
            yield f"{register} = {task.written[register]:#x} is not 16-byte aligned"


def undocumented_bits_are_zero(task: RegisterTask) -> Iterator[str]:
    """Registers and fields without a published working use, and reserved bits, are 0.
    hardware/registers.md, Not documented anywhere [vendor: no program sets one].
    """
    for register, value in task.written.items():
        if register.block == PC.name or register in (CNA.S_POINTER, CORE.S_POINTER):
            continue
        for field in register.fields:
            if (field.unknown or field.is_reserved) and field.extract(value):
                yield f"{register}.{field.name} = {field.extract(value):#x}"
    for (target, offset), value in task.undocumented.items():
        if value:
            yield f"undocumented register {offset:#06x} of target {target:#06x} = {value:#x}"


def writes_reach_a_register(task: RegisterTask) -> Iterator[str]:
    """The target of an entry is the block of its offset; a mismatching pair is dropped or undefined.
    hardware/regcmd.md, Entry encoding [inferred].
    """
    for target, offset in task.undocumented:
        block = next((block for block in (PC, CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA) if block.target == target), None)
        if block is None or offset & 0xF000 != block.base or offset % 4:
            yield f"no register at offset {offset:#06x} of target {target:#06x}"


RULES = (
    Rule(written_blocks_are_enabled, "hang"),
    Rule(enable_mask_names_blocks, "illegal"),
    Rule(feeders_are_enabled, "hang"),
    Rule(stream_leaves_driver_pointers, "hang"),
    Rule(mac_gating_keeps_the_mac_alive, "hang"),
    Rule(addresses_are_aligned, "corrupt"),
    Rule(undocumented_bits_are_zero, "illegal"),
    Rule(writes_reach_a_register, "illegal"),
)
