"""The program controller: fetches command lists, fills the register groups, and follows the chain.

Source: hardware/regcmd.md, "Task list layout", "Chaining" and "Ping-pong and register persistence".
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.emulator.faults import never_completes, unsupported
from rocketnpu.emulator.memory import Memory, linear
from rocketnpu.emulator.state import FIRST_GROUPED_OFFSET, S_POINTER_OFFSET, RegisterWords, group_words
from rocketnpu.errors import DeviceError
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import (
    BLOCK_BYTES,
    CNA,
    CORE,
    DPU,
    DPU_RDMA,
    PC,
    PPU,
    PPU_RDMA,
    Block,
    Register,
    register_of,
)

GROUPED_BLOCKS = (CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA)
"""The blocks with two register groups."""

_BLOCK_OF_TARGET = {block.target: block for block in GROUPED_BLOCKS if block.target is not None}
_LIST_CACHE_ENTRIES = 4096
_UNIT = "PC command fetch"


@dataclass(frozen=True, eq=False)
class RegisterWrites:
    """Writes to one block: word indices in its group, each at most once, and their values."""

    block: Block
    indices: NDArray[np.intp]
    values: RegisterWords


@dataclass(frozen=True)
class PointerWrite:
    """A write of a block's S_POINTER."""

    block: Block
    value: int


@dataclass(frozen=True, eq=False)
class LutAccess:
    """A write of DPU.LUT_ACCESS_CFG and the LUT_ACCESS_DATA entries, int16, that follow it."""

    config: int
    data: NDArray[np.int16]


Operation: TypeAlias = RegisterWrites | PointerWrite | LutAccess


@dataclass(frozen=True, eq=False)
class CommandList:
    """A parsed list: what it writes, in order, which blocks it starts, and where the next list is."""

    operations: tuple[Operation, ...]
    mask: int
    written: Mapping[Register, int]
    next_address: int
    next_amount: int


@dataclass
class _Builder:
    """Collects consecutive writes by block while a list is parsed."""

    operations: list[Operation] = field(default_factory=list[Operation])
    writes: dict[Block, dict[int, int]] = field(default_factory=dict[Block, dict[int, int]])
    lut_config: int | None = None
    lut_data: list[int] = field(default_factory=list[int])

    def flush(self, block: Block) -> None:
        pending = self.writes.pop(block, None)
        if pending:
            indices = np.fromiter(pending, np.intp, len(pending))
            values = np.fromiter(pending.values(), np.uint32, len(pending))
            self.operations.append(RegisterWrites(block, indices, values))

    def flush_lut(self) -> None:
        if self.lut_config is not None:
            data = np.array(self.lut_data, np.uint32).astype(np.uint16).view(np.int16)
            self.operations.append(LutAccess(self.lut_config, data))
        self.lut_config, self.lut_data = None, []


def parse(words: regcmd.Words) -> CommandList:
    """Parse the fetched words of one list, up to its enable entry.

    Raises DeviceTimeout for a list without one, DeviceError for entries that no source explains.
    """
    builder = _Builder()
    pc: dict[int, int] = {}
    written: dict[Register, int] = {}
    marked = False
    for number, (target, value, offset) in enumerate(
        zip(*(part.tolist() for part in regcmd.split(words)), strict=True)
    ):
        if target == regcmd.ENABLE_TARGET and offset == PC.TARGET_BROADCAST.offset:
            if not marked:
                raise DeviceError(f"entry {number}: the enable entry needs the marker entry before it")
            for block in list(builder.writes):
                builder.flush(block)
            builder.flush_lut()
            base = PC.BASE_ADDRESS.decode(pc.get(PC.BASE_ADDRESS.offset, 0))
            amounts = PC.REGISTER_AMOUNTS.decode(pc.get(PC.REGISTER_AMOUNTS.offset, 0))
            return CommandList(
                tuple(builder.operations),
                PC.TARGET_BROADCAST.decode(value)["BLOCK_BITMAP"],
                written,
                base["PC_SOURCE_ADDR"] << 4,
                amounts["PC_DATA_AMOUNT"],
            )
        if target == regcmd.MARKER_TARGET:
            marked = True
        elif target == PC.target and offset in (PC.BASE_ADDRESS.offset, PC.REGISTER_AMOUNTS.offset):
            pc[offset] = value
        elif target in _BLOCK_OF_TARGET:
            register = register_of(target, offset)
            if register is not None:
                _register_write(builder, _BLOCK_OF_TARGET[target], register, number, value)
                written[register] = value
            elif value or not 0 <= offset - _BLOCK_OF_TARGET[target].base < BLOCK_BYTES:
                raise DeviceError(f"entry {number}: target {target:#06x} has no register at offset {offset:#06x}")
        elif target or offset or value:
            raise DeviceError(f"entry {number}: target {target:#06x}, offset {offset:#06x}: no such entry is known")
    raise never_completes(f"the {len(words)} fetched entries hold no enable entry")


def _register_write(builder: _Builder, block: Block, register: Register, number: int, value: int) -> None:
    index = register.offset - block.base
    if index == S_POINTER_OFFSET:
        builder.flush(block)
        builder.operations.append(PointerWrite(block, value))
    elif register is DPU.LUT_ACCESS_CFG:
        builder.flush_lut()
        builder.lut_config = value
    elif register is DPU.LUT_ACCESS_DATA:
        if builder.lut_config is None:
            raise DeviceError(f"entry {number}: {register} without {DPU.LUT_ACCESS_CFG} before it in the list")
        builder.lut_data.append(value)
    elif index >= FIRST_GROUPED_OFFSET:
        builder.writes.setdefault(block, {})[index // 4] = value


@lru_cache(maxsize=64)
def _decoded(register: Register, value: int) -> dict[str, int]:
    """The fields of a value, for the few that programs write to a pointer again and again."""
    return register.decode(value)


class RegisterGroups:
    """A block's two register groups, which keep their values from task to task and run to run."""

    def __init__(self, block: Block) -> None:
        self.block = block
        reset = np.zeros(group_words(block), np.uint32)
        for register in block:
            reset[(register.offset - block.base) // 4] = register.reset
        self._groups = (reset, reset.copy())
        self._s_pointer = block[_pointer_name(block)]
        self.pointer: int = 0
        self.executer: int = 0
        self._pointer_toggles = False
        self._executer_toggles = False

    def write_pointer(self, value: int) -> None:
        """S_POINTER: with POINTER_PP_EN the POINTER bit is ignored; the clear bits reset pointer and executer."""
        fields = _decoded(self._s_pointer, value)
        self._pointer_toggles = fields["POINTER_PP_EN"] == 1
        self._executer_toggles = fields["EXECUTER_PP_EN"] == 1
        if self._pointer_toggles and not fields["POINTER_PP_MODE"]:
            raise unsupported(self._s_pointer, "POINTER_PP_MODE", 0, "following the executer is not known to work")
        if fields["POINTER_PP_CLEAR"]:
            self.pointer = 0
        if fields["EXECUTER_PP_CLEAR"]:
            self.executer = 0
        if not self._pointer_toggles:
            self.pointer = fields["POINTER"]

    def write(self, writes: RegisterWrites) -> None:
        """Write registers of the group that the pointer names."""
        self._groups[self.pointer][writes.indices] = writes.values

    def read_pointer(self) -> int:
        """S_POINTER as the CPU reads it."""
        return self._s_pointer.encode(
            EXECUTER=self.executer,
            POINTER_PP_MODE=self._pointer_toggles,
            EXECUTER_PP_EN=self._executer_toggles,
            POINTER_PP_EN=self._pointer_toggles,
            POINTER=self.pointer,
        )

    def word(self, register: Register) -> int:
        """A register of the group that the pointer names."""
        return int(self._groups[self.pointer][(register.offset - self.block.base) // 4])

    def start(self) -> tuple[int, RegisterWords]:
        """The group that runs, its number and words; both pointers move on if ping-pong is enabled."""
        group = self.executer
        if self.pointer != group:
            raise DeviceError(
                f"{self._s_pointer}: registers were written to group {self.pointer}, group {group} would run; "
                "set or clear both pointers"
            )
        self.pointer ^= int(self._pointer_toggles)
        self.executer ^= int(self._executer_toggles)
        return group, self._groups[group]


def _pointer_name(block: Block) -> str:
    return next(register.name for register in block if register.offset - block.base == S_POINTER_OFFSET)


class CommandFetcher:
    """Fetches and parses lists, and remembers those it has parsed by their bytes."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._parsed: OrderedDict[bytes, CommandList] = OrderedDict()

    def fetch(self, address: int, amount: int) -> CommandList:
        """The list at `address` of the length that the code `amount` stands for."""
        size = 8 * regcmd.entries_fetched(amount)
        raw = self._memory.read(linear(address, size), _UNIT).tobytes()
        known = self._parsed.get(raw)
        if known is None:
            known = self._parsed[raw] = parse(np.frombuffer(raw, "<u8"))
            if len(self._parsed) > _LIST_CACHE_ENTRIES:
                self._parsed.popitem(last=False)
        return known

    def body_entries(self, address: int) -> int:
        """Entries before the trailer of the list at `address`, found by its enable entry.

        Raises DeviceTimeout if no fetchable list length reaches one, DeviceError if the list leaves the mapping.
        """
        longest = regcmd.entries_fetched(PC.REGISTER_AMOUNTS.field("PC_DATA_AMOUNT").maximum)
        for index in range(longest):
            raw = self._memory.read(linear(address + 8 * index, 8), _UNIT).tobytes()
            command = regcmd.decode(int.from_bytes(raw, "little"))
            if command.target == regcmd.ENABLE_TARGET and command.offset == PC.TARGET_BROADCAST.offset:
                return max(index + 1 - regcmd.TRAILER_ENTRIES, 0)
        raise never_completes(f"no enable entry in the {longest} entries at {address:#010x}")
