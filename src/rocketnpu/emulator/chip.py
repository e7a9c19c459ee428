"""The chip: memory, three cores, and the runs that a driver would kick."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np

from rocketnpu.emulator.broken_rules import QuestionableTask, judge
from rocketnpu.emulator.convolution import ConvolutionTask
from rocketnpu.emulator.faults import never_completes
from rocketnpu.emulator.flying import decode_flying
from rocketnpu.emulator.machine import Buffer, Machine, Task
from rocketnpu.emulator.memory import Bytes, Mappings, Memory
from rocketnpu.emulator.pc import (
    GROUPED_BLOCKS,
    CommandFetcher,
    CommandList,
    LutAccess,
    PointerWrite,
    RegisterGroups,
)
from rocketnpu.emulator.ppu import PoolTask
from rocketnpu.emulator.state import RegisterWords, TaskState
from rocketnpu.emulator.task_cache import TaskCache
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw import regcmd, rules
from rocketnpu.hw.limits import CORES, MAX_TASKS_PER_KICK
from rocketnpu.hw.registers import CNA, CORE, DPU, PC, PPU, Block

ALL_INTERRUPTS = sum(field.mask for field in PC.INTERRUPT_MASK.fields if not field.is_reserved)

OneOrMore: TypeAlias = int | Sequence[int]


@dataclass(frozen=True)
class CoreResult:
    """What a core did: tasks done, and the PC's raw interrupt bits after the last one (hardware/registers.md, PC).

    `warnings` name the tasks whose output is wrong on the chip, or may be, with the rule that they break.
    """

    core: int
    tasks_done: int
    interrupts: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunResult:
    """What a run did, core by core."""

    cores: tuple[CoreResult, ...]


class Core:
    """One core: its register groups, its program controller and the tasks it has decoded."""

    def __init__(
        self, number: int, memory: Memory, workspace: Workspace, decoded: TaskCache, *, strict: bool = False
    ) -> None:
        self.number = number
        self._strict = strict
        self.fetcher = CommandFetcher(memory)
        self._machine = Machine(memory, workspace)
        self.groups = {block: RegisterGroups(block) for block in GROUPED_BLOCKS}
        self._decoded = decoded

    def kick(self, address: int, count: int, amount: int) -> Chain:
        """Start a chain as a driver does."""
        for block in (CNA, CORE):
            self.groups[block].write_pointer(regcmd.KICK_POINTER)
        self.forget_buffer()
        return self.chain(address, count, amount)

    def chain(self, address: int, count: int, amount: int) -> Chain:
        """`count` lists from `address` on, the first of length code `amount`, with S_POINTER as it is.

        The convolution buffer keeps what it holds: tasks of one job may reuse it though they are kicked one by one
        (hardware/regcmd.md, Weight and data reuse) [mesa].
        """
        return Chain(self, address, count, amount)

    def forget_buffer(self) -> None:
        """What the convolution buffer holds must not be reused any more."""
        self._machine.buffer = Buffer()

    def execute(self, commands: CommandList) -> int:
        """Run one list; returns the raw interrupt bits that its completion raises."""
        for operation in commands.operations:
            if isinstance(operation, PointerWrite):
                self.groups[operation.block].write_pointer(operation.value)
            elif isinstance(operation, LutAccess):
                self._machine.lut.upload(operation.config, operation.data)
            else:
                self.groups[operation.block].write(operation)
        started = {block: self.groups[block].start() for block in regcmd.enabled_blocks(commands.mask)}
        words = {block: group for block, (_, group) in started.items()}
        self._run(commands, words)
        if CNA not in words:
            self.forget_buffer()  # what it holds is only known to stay until the next task
        return sum(1 << _interrupt_bit(block) + group for block, (group, _) in started.items() if block in (DPU, PPU))

    def take_warnings(self) -> list[str]:
        """What was wrong with the tasks that ran since the last call."""
        taken, self._machine.warnings = self._machine.warnings, []
        return taken

    def _run(self, commands: CommandList, words: dict[Block, RegisterWords]) -> None:
        key = (commands, b"".join(group.tobytes() for group in words.values()))
        task = self._decoded.find(key) or _decode(commands, TaskState(words), strict=self._strict)
        try:
            task.run(self._machine)
        finally:
            self._decoded.keep(key, task)


class Chain:
    """A chain of lists on one core."""

    def __init__(self, core: Core, address: int, count: int, amount: int) -> None:
        self.core = core
        self.count = count
        self.done = 0
        self.interrupts = 0
        self.warnings: list[str] = []
        self._address: int = address
        self._amount: int = amount

    def step(self) -> None:
        """Run the next list; errors name core and task."""
        try:
            if self.done and not self._address:
                raise never_completes(f"the chain ends after {self.done} of {self.count} tasks: no next list")
            commands = self.core.fetcher.fetch(self._address, self._amount)
            self.interrupts = self.core.execute(commands)
        except DeviceError as error:
            raise type(error)(f"core {self.core.number}, task {self.done}: {error}") from error
        self.warnings += [
            f"core {self.core.number}, task {self.done}: {warning}" for warning in self.core.take_warnings()
        ]
        self._address, self._amount = commands.next_address, commands.next_amount
        self.done += 1


class Emulator:
    """The bare chip: `memory_bytes` of physical memory and three cores.

    Nothing is mapped at first. Register groups and lookup tables keep their contents from run to run.
    A `strict` one refuses tasks that would write wrong bytes on the chip (broken_rules.py).
    """

    def __init__(self, memory_bytes: int, *, strict: bool = False) -> None:
        if memory_bytes < 1:
            raise DeviceError(f"an emulator needs memory, not {memory_bytes} bytes")
        self.memory: Bytes = np.zeros(memory_bytes, np.uint8)
        self._mappings = Mappings()
        memory = Memory(self.memory, self._mappings)
        workspace = Workspace()
        decoded = TaskCache()
        self._cores = [Core(number, memory, workspace, decoded, strict=strict) for number in range(CORES)]

    def map(self, address: int, offset: int, size_bytes: int, *, writable: bool = True) -> None:
        """Let the cores see memory[offset : offset + size_bytes] at `address` (an IOVA of 32 bits).

        Raises DeviceError for a range outside memory or the address space, or one that overlaps another mapping.
        """
        if size_bytes < 1 or offset < 0 or offset + size_bytes > self.memory.size:
            raise DeviceError(f"cannot map {size_bytes} bytes at {offset:#x}: memory has {self.memory.size} bytes")
        if address < 0 or address + size_bytes > 1 << 32:
            raise DeviceError(f"cannot map {size_bytes} bytes to {address:#x}: addresses have 32 bits")
        self._mappings.add(address, offset, size_bytes, writable=writable)

    def unmap(self, address: int, size_bytes: int) -> None:
        """Undo `map` for the same range; raises DeviceError if there is no such mapping."""
        self._mappings.remove(address, size_bytes)

    def run(
        self,
        address: OneOrMore,
        count: OneOrMore,
        *,
        cores: Sequence[int] = (0,),
        body_entries: OneOrMore | None = None,
        interrupt_mask: int = ALL_INTERRUPTS,
    ) -> RunResult:
        """Run `count` chained command lists from `address` on each core, task by task in lockstep.

        `address`, `count` and `body_entries` (entries of the first list before its trailer) are one number for every
        core, or one for each; without `body_entries` the first list is scanned for its enable entry.
        `interrupt_mask` is PC.INTERRUPT_MASK: completion must raise one of its bits.

        Raises DeviceError for faults and register states that are not known, DeviceTimeout for what would never
        complete; memory keeps what was written until then.
        """
        addresses, counts = _each(address, cores, "address"), _each(count, cores, "count")
        if not cores or len(set(cores)) != len(cores) or not set(cores) <= set(range(CORES)):
            raise DeviceError(f"cores {tuple(cores)}: name each of 0..{CORES - 1} at most once")
        for number in counts:
            if not 1 <= number <= MAX_TASKS_PER_KICK:
                raise DeviceError(f"a run has 1..{MAX_TASKS_PER_KICK} tasks, not {number}")
        lengths = (
            [self._cores[core].fetcher.body_entries(at) for core, at in zip(cores, addresses, strict=True)]
            if body_entries is None
            else _each(body_entries, cores, "body_entries")
        )
        chains = [
            self._cores[core].kick(at, number, regcmd.length_code(length))
            for core, at, number, length in zip(cores, addresses, counts, lengths, strict=True)
        ]
        for step in range(max(counts)):
            for chain in chains:
                if step < chain.count:
                    chain.step()
        for chain in chains:
            if not chain.interrupts & interrupt_mask:
                raise DeviceTimeout(
                    f"core {chain.core.number}: {chain.done} tasks are done, but their interrupt bits "
                    f"{chain.interrupts:#x} are masked by {interrupt_mask:#x}: no completion is seen"
                )
        return RunResult(
            tuple(
                CoreResult(chain.core.number, chain.done, chain.interrupts, tuple(chain.warnings)) for chain in chains
            )
        )


def _each(value: OneOrMore, cores: Sequence[int], name: str) -> list[int]:
    if isinstance(value, int):
        return [value] * len(cores)
    if len(value) != len(cores):
        raise DeviceError(f"{name} has {len(value)} values for {len(cores)} cores")
    return list(value)


@cache
def _interrupt_bit(block: Block) -> int:
    return PC.INTERRUPT_MASK.field(f"{block.name}_0").lsb


def _decode(commands: CommandList, state: TaskState, *, strict: bool) -> Task:
    """The task of a list, once the rules have passed it."""
    verdict = judge(rules.RegisterTask({**state.words, **commands.written}, commands.mask), strict=strict)
    task = _task(commands, state)
    return QuestionableTask(task, verdict) if verdict.warnings else task


def _task(commands: CommandList, state: TaskState) -> Task:
    """The task that the enabled blocks do."""
    if commands.mask == regcmd.CONVOLUTION_MASK:
        return ConvolutionTask(state, reads_operands=True)
    if commands.mask == regcmd.enable_mask((CNA, CORE, DPU)):
        return ConvolutionTask(state, reads_operands=False)
    if commands.mask == regcmd.DPU_MASK:
        return decode_flying(state)
    if commands.mask == regcmd.POOL_MASK:
        return PoolTask(state)
    raise DeviceError(f"enable mask {commands.mask:#x}: no known task starts this set of blocks")
