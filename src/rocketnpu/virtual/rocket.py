"""The mainline `rocket` driver as programs see it: buffers, jobs, fences, watchdog (hardware/kernels.md, `rocket`).

One address space and one scheduler entity for each open file; an entity stays on one core while it has jobs; one job
in flight on a core, its tasks kicked one by one with the register sequence of hardware/regcmd.md. Jobs wait for those
that write what they read or write, and for those that read what they write.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import time
from collections import deque
from dataclasses import dataclass, field

from rocketnpu.hw.limits import CORES
from rocketnpu.hw.regcmd import TRAILER_ENTRIES
from rocketnpu.hw.registers import PC
from rocketnpu.uapi import rocket as abi
from rocketnpu.virtual.board import Board
from rocketnpu.virtual.cores import ALL_INTERRUPTS
from rocketnpu.virtual.memory import AddressSpace
from rocketnpu.virtual.objects import Buffer, BufferTable, Call, Job, UserMemory, failure, read_array
from rocketnpu.virtual.record import Recorder

DPU_INTERRUPTS = PC.INTERRUPT_MASK.encode(DPU_0=1, DPU_1=1)
"""All that the driver unmasks and looks for: tasks that end with the PPU are not seen (hardware/regcmd.md)."""
ONE_TASK = 0x7001
"""What the driver writes to TASK_CON: clear the count, ping-pong, one task (hardware/regcmd.md, TASK_CON)."""
WATCHDOG_NS = int(abi.WATCHDOG_SECONDS * 1e9)


@dataclass(eq=False)
class RocketJob(Job):
    """Command lists (address, entries) that run one after the other; `started` of them have been kicked."""

    tasks: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    inputs: list[Buffer] = field(default_factory=list[Buffer])
    outputs: list[Buffer] = field(default_factory=list[Buffer])
    dependencies: set[Job] = field(default_factory=set[Job])
    file: RocketFile | None = None
    started: int = 0
    deadline: int | None = None


@dataclass(eq=False)
class _Core:
    """One core's scheduler."""

    number: int
    queue: deque[RocketJob] = field(default_factory=deque[RocketJob])
    running: RocketJob | None = None

    @property
    def load(self) -> int:
        return len(self.queue) + (self.running is not None)


class Rocket:
    """The driver; `watchdog_ns` of device time after a core stands still, its job is given up."""

    name = abi.DRIVER
    version = (0, 0, 0)
    date = "0"
    description = "rocket DRM driver for Rockchip NPUs"

    def __init__(self, board: Board, recorder: Recorder | None, watchdog_ns: int = WATCHDOG_NS) -> None:
        self.board = board
        self._recorder = recorder
        self._watchdog_ns = watchdog_ns
        self._cores = [_Core(number) for number in range(CORES)]

    def open(self) -> RocketFile:
        """A new file with its own address space."""
        return RocketFile(self)

    def push(self, job: RocketJob) -> None:
        """Queue a job on its entity's core, or on the least busy one if the entity has none."""
        assert job.file is not None
        busy = [core for core in self._cores if any(other.file is job.file for other in _jobs(core))]
        core = busy[0] if busy else min(self._cores, key=lambda core: core.load)
        core.queue.append(job)
        self.board.counters["jobs"] += 1
        self.board.wake()

    def cancel(self, file: RocketFile) -> None:
        """Signal all jobs of a file that have not started."""
        for core in self._cores:
            for job in [job for job in core.queue if job.file is file]:
                core.queue.remove(job)
                self._signal(job, errno.ESRCH)

    def work(self) -> int | None:
        """See Worker."""
        for core in self._cores:
            if self.board.cores.interrupt(core.number):
                self._interrupt(core)
            self._schedule(core)
        deadlines = [deadline for core in self._cores if (deadline := self._watch(core)) is not None]
        return min(deadlines, default=None)

    def _watch(self, core: _Core) -> int | None:
        """Give up what has hung for too long; when to look again."""
        while core.running is not None and self.board.cores.stands_still(core.number):
            # Whatever the job computes has been computed: from here on it hangs.
            now, job = self.board.clock.now(), core.running
            job.deadline = job.deadline or now + self._watchdog_ns
            if now < job.deadline:
                return job.deadline
            self._time_out(core, job)
            self._schedule(core)
        return None

    def _schedule(self, core: _Core) -> None:
        """Start the first job that waits for nothing and is the next one of its entity."""
        entities: set[RocketFile | None] = set()
        for job in core.queue if core.running is None else ():
            if job.file not in entities and all(other.done for other in job.dependencies):
                core.queue.remove(job)
                self._start(core, job)
                return
            entities.add(job.file)

    def _start(self, core: _Core, job: RocketJob) -> None:
        core.running = job
        if self._recorder is not None and job.file is not None:
            lists = [(address, count - TRAILER_ENTRIES) for address, count in job.tasks]
            mapped = job.file.buffers.values()
            self._recorder.begin(job, self.name, mapped, [lists], chained=False, outputs=job.outputs)
        self.board.cores.attach(core.number, job.space)
        self._kick(core, job)

    def _kick(self, core: _Core, job: RocketJob) -> None:
        address, count = job.tasks[job.started]
        job.started += 1
        job.deadline = None
        start = self.board.begin_task(core.number)
        self.board.cores.kick(
            core.number,
            address=address,
            amounts=(count + 1) // 2 - 1,
            task_con=ONE_TASK,
            mask=DPU_INTERRUPTS,
            clear=DPU_INTERRUPTS,
            start=start,
        )

    def _interrupt(self, core: _Core) -> None:
        self.board.cores.iommu_interrupt(core.number)
        if not self.board.cores.read(core.number, PC.INTERRUPT_RAW_STATUS) & DPU_INTERRUPTS:
            return
        self.board.cores.write(core.number, PC.INTERRUPT_MASK, 0)
        self.board.cores.write(core.number, PC.OPERATION_ENABLE, 0)
        self.board.cores.write(core.number, PC.INTERRUPT_CLEAR, ALL_INTERRUPTS)
        job = core.running
        if job is None:
            return
        if job.started < len(job.tasks):
            self._kick(core, job)
        else:
            self._finish(core, job)

    def _time_out(self, core: _Core, job: RocketJob) -> None:
        """The watchdog: a reset, and a fence that says nothing of it (hardware/kernels.md)."""
        self.board.counters["timeouts"] += 1
        self.board.report(f"rocket core {core.number}: NPU job timed out at task {job.started} of {len(job.tasks)}")
        self.board.cores.reset(core.number)
        self._finish(core, job, timed_out=True)

    def _finish(self, core: _Core, job: RocketJob, *, timed_out: bool = False) -> None:
        self.board.cores.detach(core.number)
        core.running = None
        if self._recorder is not None:
            self._recorder.end(job, timed_out=timed_out)
        self._signal(job, 0)

    def _signal(self, job: RocketJob, status: int) -> None:
        job.done, job.status = True, status
        assert job.file is not None
        for buffer in itertools.chain(job.inputs, job.outputs):
            buffer.writers.discard(job)
            buffer.readers.discard(job)
            job.file.buffers.release(buffer)
        job.file.job_done(job)
        self.board.lock.notify_all()


class RocketFile:
    """One open file: an address space, a table of buffers, and the jobs in flight."""

    def __init__(self, driver: Rocket) -> None:
        self._driver = driver
        self._board = driver.board
        self._space = AddressSpace(self._board.pages)
        self.buffers = BufferTable(self._board)
        self._jobs: set[RocketJob] = set()
        self._released = False
        self.calls = {
            abi.CREATE_BO: Call("create_bo", abi.CreateBo, self._create_bo),
            abi.SUBMIT: Call("submit", abi.Submit, self._submit),
            abi.PREP_BO: Call("prep_bo", abi.PrepBo, self._prep_bo),
            abi.FINI_BO: Call("fini_bo", abi.FiniBo, self._fini_bo),
        }

    def release(self) -> None:
        """See DriverFile: queued jobs are dropped, one that runs keeps what it uses until its end."""
        self._released = True
        self._driver.cancel(self)
        self.buffers.close_all()
        self._give_back()

    def job_done(self, job: RocketJob) -> None:
        """A job's fence has been signalled."""
        self._jobs.discard(job)
        self._give_back()

    def _give_back(self) -> None:
        if self._released and not self._jobs:
            self._space.close()

    def _create_bo(self, argument: abi.CreateBo, _user: UserMemory) -> None:
        if not argument.size:
            raise failure(errno.EINVAL)
        argument.handle, buffer = self.buffers.create(argument.size, self._space)
        argument.dma_address = buffer.address
        argument.offset = buffer.mmap_offset

    def _submit(self, argument: abi.Submit, user: UserMemory) -> None:
        if (argument.job_count and argument.job_struct_size < ctypes.sizeof(abi.Job)) or argument.reserved:
            raise failure(errno.EINVAL)
        array = read_array(user, argument.jobs, argument.job_count, argument.job_struct_size)
        jobs = [
            abi.Job.from_buffer_copy(array, index * argument.job_struct_size) for index in range(argument.job_count)
        ]
        for index, job in enumerate(jobs):
            try:
                self._push(job, user)
            except OSError as error:
                # Mainline gives 0 all the same, and the job never runs (hardware/kernels.md, `rocket` uAPI).
                self._board.counters["refused jobs"] += 1
                self._board.report(f"rocket: job {index} of a submit is not run: {error.strerror}")

    def _push(self, request: abi.Job, user: UserMemory) -> None:
        task_bytes = ctypes.sizeof(abi.Task)
        if not request.task_count or request.task_struct_size < task_bytes:
            raise failure(errno.EINVAL)
        array = read_array(user, request.tasks, request.task_count, request.task_struct_size)
        tasks = [
            abi.Task.from_buffer_copy(array, index * request.task_struct_size) for index in range(request.task_count)
        ]
        if not all(task.regcmd_count for task in tasks):
            raise failure(errno.EINVAL)
        inputs = self._lookup(request.in_bo_handles, request.in_bo_handle_count, user)
        outputs = self._lookup(request.out_bo_handles, request.out_bo_handle_count, user)
        if len(set(inputs + outputs)) < len(inputs + outputs):
            raise failure(errno.EALREADY)
        job = RocketJob(self._space, tasks=[(task.regcmd, task.regcmd_count) for task in tasks])
        job.inputs, job.outputs, job.file = inputs, outputs, self
        for buffer in inputs:
            job.dependencies |= buffer.writers
            buffer.readers.add(job)
        for buffer in outputs:
            job.dependencies |= buffer.writers | buffer.readers
            buffer.writers.add(job)
        for buffer in inputs + outputs:
            buffer.references += 1
        self._jobs.add(job)
        self._driver.push(job)

    def _lookup(self, address: int, count: int, user: UserMemory) -> list[Buffer]:
        array = read_array(user, address, count, ctypes.sizeof(ctypes.c_uint32))
        handles = (ctypes.c_uint32 * count).from_buffer_copy(array)
        return [self.buffers[handle] for handle in handles]

    def _prep_bo(self, argument: abi.PrepBo, user: UserMemory) -> None:
        if argument.reserved:
            raise failure(errno.EINVAL)
        buffer = self.buffers[argument.handle]
        remaining = argument.timeout_ns - time.monotonic_ns()
        if buffer.writers and remaining <= 0:
            raise failure(errno.EBUSY)
        pending = set(buffer.writers)
        deadline = self._board.clock.now() + remaining
        if not self._board.wait(lambda: all(job.done for job in pending), deadline, user.interrupted):
            raise failure(errno.EINTR if user.interrupted() else errno.ETIMEDOUT)

    def _fini_bo(self, argument: abi.FiniBo, _user: UserMemory) -> None:
        if argument.reserved:
            raise failure(errno.EINVAL)
        self.buffers[argument.handle]


def _jobs(core: _Core) -> list[RocketJob]:
    return [*core.queue, *([core.running] if core.running else [])]
