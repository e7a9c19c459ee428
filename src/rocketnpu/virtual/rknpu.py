"""The vendor's `rknpu` driver 0.9.8 as programs see it (hardware/kernels.md, `rknpu`; hardware/regcmd.md).

A submit names tasks in a table that lies in a buffer; each core's share of them is one chain, kicked at most 4095 tasks
at a time. What the driver on silicon would crash on or ignore silently (an object address that is none, a table
outside its buffer) is EINVAL here, with a line in the log.
"""

from __future__ import annotations

import ctypes
import errno
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from rocketnpu.hw.limits import CORES, MAX_TASKS_PER_KICK
from rocketnpu.hw.page_table import PAGE_BYTES
from rocketnpu.hw.regcmd import length_code
from rocketnpu.hw.registers import PC
from rocketnpu.hw.sizes import align
from rocketnpu.uapi import rknpu as abi
from rocketnpu.virtual.board import Board
from rocketnpu.virtual.cores import ALL_INTERRUPTS
from rocketnpu.virtual.memory import AddressSpace
from rocketnpu.virtual.objects import Buffer, BufferTable, Call, Job, UserMemory, failure
from rocketnpu.virtual.record import Recorder

HARDWARE_VERSION_MASK = 0xFFFF
"""Bits of VERSION_NUM that drivers add to VERSION (hardware/kernels.md)."""
DRIVER_VERSION = (0, 9, 8)
DOMAINS = 16
CORE_MASKS = {0: (), 1: (0,), 2: (1,), 4: (2,), 3: (0, 1), 7: (0, 1, 2)}
"""Cores of each core mask; none yet for 0, automatic."""
TASK_CON_BASE = 0x6
"""TASK_CON = (this OR ping-pong) << 12 OR number of tasks (hardware/regcmd.md, TASK_CON)."""
REGISTER_MASK = 0xFFFF_FFFF
"""Registers have 32 bits; the driver's 64-bit fields lose the rest."""
OBJECT_BASE = 0xFFFF_8000_0000_0000
"""Where the kernel's addresses of objects begin here."""
FREQUENCY_HZ = 1_000_000_000
"""What the board's NPU clock is said to be."""
_WITHOUT_EFFECT = (
    abi.ActionCode.SET_FREQUENCY,
    abi.ActionCode.SET_VOLTAGE,
    abi.ActionCode.SET_NICE,
    abi.ActionCode.POWER_ON,
    abi.ActionCode.POWER_OFF,
)
"""Actions that are taken, and change nothing that a program could see here."""


@dataclass(eq=False)
class RknpuJob(Job):
    """One submit: for each core, its tasks in order; `remaining` are the cores that are not done."""

    chains: dict[int, list[abi.Task]] = field(default_factory=dict[int, list[abi.Task]])
    flags: int = 0
    base_address: int = 0
    timeout_ns: int = 0
    kicked: dict[int, int] = field(default_factory=dict[int, int])
    expected: dict[int, int] = field(default_factory=dict[int, int])
    remaining: set[int] = field(default_factory=set[int])
    buffers: list[Buffer] = field(default_factory=list[Buffer])
    owner: RknpuFile | None = None
    deadline: int | None = None
    started_ns: int = 0
    elapsed_ns: int = 0


class Rknpu:
    """The driver. Its address spaces (domains) belong to the device, not to a file."""

    name = abi.DRIVER
    version = DRIVER_VERSION
    date = "20240828"
    description = "RKNPU driver"

    def __init__(self, board: Board, recorder: Recorder | None, watchdog_ns: int | None = None) -> None:
        """`watchdog_ns` bounds the timeout that submits ask for."""
        self.board = board
        self._recorder = recorder
        self._watchdog_ns = watchdog_ns
        self._domains: dict[int, AddressSpace] = {}
        self._files: set[RknpuFile] = set()
        self._queues: list[deque[RknpuJob]] = [deque() for _ in range(CORES)]
        self._running: list[RknpuJob | None] = [None] * CORES
        self.domain = 0
        """What SET_DOMAIN chose: only told again, as every submit and buffer names its own."""

    def open(self) -> RknpuFile:
        """A new file."""
        file = RknpuFile(self)
        self._files.add(file)
        return file

    def closed(self, file: RknpuFile) -> None:
        """Its last descriptor is gone."""
        self._files.discard(file)
        for job in {job for queue in self._queues for job in queue if job.owner is file}:
            for queue in self._queues:
                if job in queue:
                    queue.remove(job)
            self._end(job, errno.ESRCH)

    def space(self, domain: int) -> AddressSpace:
        """The address space of a domain; raises OSError(EINVAL) for a number that is none."""
        if not 0 <= domain < DOMAINS:
            raise failure(errno.EINVAL)
        if domain not in self._domains:
            self._domains[domain] = AddressSpace(self.board.pages)
        return self._domains[domain]

    def object_at(self, address: int) -> Buffer:
        """The buffer with this object address, of any file."""
        for file in self._files:
            for buffer in file.buffers.values():
                if object_address(buffer) == address:
                    return buffer
        self.board.report(f"rknpu: {address:#x} is no object's address")
        raise failure(errno.EINVAL)

    def hardware_version(self) -> int:
        """What the driver reports."""
        return self.board.cores.read(0, PC.VERSION) + (self.board.cores.read(0, PC.VERSION_NUM) & HARDWARE_VERSION_MASK)

    def least_busy_core(self) -> int:
        """Where a submit with an automatic core mask goes."""
        return min(range(CORES), key=lambda core: len(self._queues[core]) + (self._running[core] is not None))

    def reset(self) -> None:
        """Soft reset of all cores."""
        for core in range(CORES):
            self.board.cores.reset(core)

    def push(self, job: RknpuJob) -> None:
        """Queue a job on all its cores."""
        for core in job.chains:
            self._queues[core].append(job)
        self.board.counters["jobs"] += 1
        self.board.wake()

    def work(self) -> int | None:
        """See Worker."""
        for core in range(CORES):
            if self.board.cores.interrupt(core):
                self._interrupt(core)
        self._schedule()
        while (deadline := self._watch()) is not None and deadline <= self.board.clock.now():
            self._schedule()
        return deadline

    def _schedule(self) -> None:
        """Start every job that is the next one on each of its cores, all of them idle."""
        for core in range(CORES):
            job = self._queues[core][0] if self._queues[core] else None
            if job is not None and all(self._queues[c][0] is job and self._running[c] is None for c in job.chains):
                self._start(job)

    def _start(self, job: RknpuJob) -> None:
        if self._recorder is not None:
            lists = [[(task.regcmd_addr, task.regcfg_amount) for task in chain] for chain in job.chains.values()]
            mapped = self._mapped(job.space)
            self._recorder.begin(job, self.name, mapped, lists, chained=True, outputs=mapped)
        job.started_ns = time.monotonic_ns()
        for core in job.chains:
            self._queues[core].popleft()
            self._running[core] = job
            self.board.cores.attach(core, job.space)
            self._kick(core, job)

    def _mapped(self, space: AddressSpace) -> list[Buffer]:
        return [buffer for file in self._files for buffer in file.buffers.values() if buffer.space is space]

    def _kick(self, core: int, job: RknpuJob) -> None:
        """Kick the next tasks of a core's chain."""
        first = job.kicked.get(core, 0)
        tasks = job.chains[core][first : first + MAX_TASKS_PER_KICK]
        job.kicked[core] = first + len(tasks)
        job.expected[core] = tasks[-1].int_mask
        job.deadline = None
        ping_pong = bool(job.flags & abi.JobFlag.PING_PONG)
        start = self.board.begin_task(core, len(tasks))
        self.board.cores.kick(
            core,
            address=tasks[0].regcmd_addr & REGISTER_MASK,
            amounts=length_code(tasks[0].regcfg_amount) & REGISTER_MASK,
            task_con=(TASK_CON_BASE | ping_pong) << 12 | len(tasks),
            mask=tasks[-1].int_mask,
            clear=tasks[0].int_mask,
            base_address=job.base_address & REGISTER_MASK,
            start=start,
        )
        self.board.cores.write(core, PC.OPERATION_ENABLE, 0)

    def _interrupt(self, core: int) -> None:
        self.board.cores.iommu_interrupt(core)
        status = self.board.cores.read(core, PC.INTERRUPT_STATUS)
        if not status:
            return
        self.board.cores.write(core, PC.INTERRUPT_CLEAR, ALL_INTERRUPTS)
        job = self._running[core]
        if job is None:
            return
        found, expected = both_groups(status), job.expected[core]
        if found != expected:
            self.board.report(f"rknpu core {core}: interrupt {status:#x} is {found:#x}, not {expected:#x}: ignored")
        elif job.kicked[core] < len(job.chains[core]):
            self._kick(core, job)
        else:
            self.board.cores.detach(core)
            self._running[core] = None
            job.remaining.discard(core)
            if not job.remaining:
                self._end(job, 0)

    def _watch(self) -> int | None:
        """Give up jobs that have hung for too long; when to look again."""
        deadlines: list[int] = []
        for job in {job for job in self._running if job is not None}:
            if not all(self.board.cores.stands_still(core) for core in job.remaining):
                continue
            now = self.board.clock.now()
            timeout = job.timeout_ns if self._watchdog_ns is None else min(job.timeout_ns, self._watchdog_ns)
            job.deadline = job.deadline or now + timeout
            if now >= job.deadline:
                self._time_out(job)
            deadlines.append(job.deadline)
        return min(deadlines, default=None)

    def _time_out(self, job: RknpuJob) -> None:
        self.board.counters["timeouts"] += 1
        done = {core: f"{job.kicked[core]} of {len(chain)} tasks kicked" for core, chain in job.chains.items()}
        self.board.report(f"rknpu: job timed out on cores {sorted(job.remaining)}: {done}")
        self.reset()
        for core in job.remaining:
            self._running[core] = None
        self._end(job, errno.ETIMEDOUT)

    def _end(self, job: RknpuJob, status: int) -> None:
        job.done, job.status = True, status
        job.elapsed_ns = time.monotonic_ns() - job.started_ns
        if self._recorder is not None:
            self._recorder.end(job, timed_out=status == errno.ETIMEDOUT)
        assert job.owner is not None
        for buffer in job.buffers:
            job.owner.buffers.release(buffer)
        self.board.lock.notify_all()


class RknpuFile:
    """One open file: a table of buffers in the domains of the device."""

    def __init__(self, driver: Rknpu) -> None:
        self._driver = driver
        self._board = driver.board
        self.buffers = BufferTable(driver.board)
        self.calls = {
            abi.ACTION: Call("action", abi.Action, self._action),
            abi.SUBMIT: Call("submit", abi.Submit, self._submit),
            abi.MEM_CREATE: Call("mem_create", abi.MemCreate, self._mem_create),
            abi.MEM_MAP: Call("mem_map", abi.MemMap, self._mem_map),
            abi.MEM_DESTROY: Call("mem_destroy", abi.MemDestroy, self._mem_destroy),
            abi.MEM_SYNC: Call("mem_sync", abi.MemSync, self._mem_sync),
        }

    def release(self) -> None:
        """See DriverFile."""
        self._driver.closed(self)
        self.buffers.close_all()

    def _action(self, argument: abi.Action, _user: UserMemory) -> None:
        code = argument.flags
        answers: dict[int, Callable[[], int]] = {
            abi.ActionCode.HARDWARE_VERSION: self._driver.hardware_version,
            abi.ActionCode.DRIVER_VERSION: lambda: int("{}{:02}{:02}".format(*DRIVER_VERSION)),
            abi.ActionCode.GET_FREQUENCY: lambda: FREQUENCY_HZ,
            abi.ActionCode.IOMMU_ENABLED: lambda: 1,
            abi.ActionCode.SRAM_TOTAL: lambda: 0,
            abi.ActionCode.SRAM_FREE: lambda: 0,
            abi.ActionCode.GET_DOMAIN: lambda: self._driver.domain,
        }
        if code == abi.ActionCode.RESET:
            self._driver.reset()
        elif code == abi.ActionCode.SET_DOMAIN:
            self._driver.space(argument.value)
            self._driver.domain = argument.value
        elif code in answers:
            argument.value = answers[code]()
        elif code not in _WITHOUT_EFFECT:
            self._board.report(f"rknpu: action {code} is not modelled")
            raise failure(errno.EINVAL)

    def _mem_create(self, argument: abi.MemCreate, _user: UserMemory) -> None:
        if not 0 < argument.size <= self._board.pages.bytes.size:
            raise failure(errno.ENOMEM if argument.size else errno.EINVAL)
        space = self._driver.space(argument.iommu_domain_id)
        argument.handle, buffer = self.buffers.create(align(argument.size, PAGE_BYTES), space)
        argument.obj_addr = object_address(buffer)
        argument.dma_addr = buffer.address
        argument.sram_size = 0
        buffer.kernel_mapping = bool(argument.flags & abi.MemoryFlag.KERNEL_MAPPING)

    def _mem_map(self, argument: abi.MemMap, _user: UserMemory) -> None:
        argument.offset = self.buffers[argument.handle].mmap_offset

    def _mem_destroy(self, argument: abi.MemDestroy, _user: UserMemory) -> None:
        self.buffers.close(argument.handle)

    def _mem_sync(self, argument: abi.MemSync, _user: UserMemory) -> None:
        buffer = self._driver.object_at(argument.obj_addr)
        both = abi.SyncFlag.TO_DEVICE | abi.SyncFlag.FROM_DEVICE
        if not argument.flags & both or argument.flags & ~both:
            raise failure(errno.EINVAL)
        if argument.offset + argument.size > buffer.size_bytes:
            raise failure(errno.EINVAL)

    def _submit(self, argument: abi.Submit, _user: UserMemory) -> None:
        job = self._job(argument)
        self._driver.push(job)
        if argument.flags & abi.JobFlag.NON_BLOCK:
            return
        self._board.wait(lambda: job.done, None, lambda: False)
        if job.status:
            raise failure(job.status)
        argument.task_counter = argument.task_number
        argument.hw_elapse_time = job.elapsed_ns

    def _job(self, argument: abi.Submit) -> RknpuJob:
        """A submit's job; raises OSError(EINVAL) for what the driver, or this model of it, does not take."""
        if not argument.flags & abi.JobFlag.PC_MODE:
            raise self._refuse("it is not in PC mode")
        if argument.flags & (abi.JobFlag.FENCE_IN | abi.JobFlag.FENCE_OUT):
            raise self._refuse("fences are not modelled")
        if not argument.task_number or argument.core_mask not in CORE_MASKS:
            raise self._refuse(f"{argument.task_number} tasks, core mask {argument.core_mask:#x}")
        cores = CORE_MASKS[argument.core_mask] or (self._driver.least_busy_core(),)
        table = self._driver.object_at(argument.task_obj_addr)
        if not table.kernel_mapping:
            raise self._refuse("the task table's buffer has no kernel mapping")
        job = RknpuJob(self._driver.space(argument.iommu_domain_id))
        job.owner, job.flags, job.base_address = self, argument.flags, argument.task_base_addr
        job.timeout_ns = argument.timeout * 1_000_000
        first = abi.THREE_CORES_FIRST_SUBCORE if len(cores) == CORES else 0
        for core in cores:
            share = argument.subcore_task[first + core]
            job.chains[core] = self._tasks(table, share.task_start, share.task_number)
        job.remaining = set(cores)
        job.buffers = [table]
        table.references += 1
        return job

    def _tasks(self, table: Buffer, start: int, number: int) -> list[abi.Task]:
        size = ctypes.sizeof(abi.Task)
        if not number or (start + number) * size > table.size_bytes:
            raise self._refuse(f"tasks {start}..{start + number - 1} of a table of {table.size_bytes // size}")
        data = self._board.pages.bytes[table.offset :][: table.size_bytes].data
        return [abi.Task.from_buffer_copy(data, (start + index) * size) for index in range(number)]

    def _refuse(self, why: str) -> OSError:
        self._board.report(f"rknpu: a submit is refused: {why}")
        return failure(errno.EINVAL)


def object_address(buffer: Buffer) -> int:
    """What the kernel calls a buffer in submits and syncs."""
    return OBJECT_BASE + buffer.offset


def both_groups(status: int) -> int:
    """Interrupt bits with either register group of a block counting for both (hardware/regcmd.md)."""
    named = sum(item.mask for item in PC.INTERRUPT_STATUS.fields if item.name.endswith("_0"))
    found = (status | status >> 1) & named
    return found | found << 1
