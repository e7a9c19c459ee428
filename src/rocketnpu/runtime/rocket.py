"""The mainline `rocket` driver as a device: one file descriptor, which is one address space and one core at a time.

Facts: hardware/kernels.md, `rocket` uAPI. One job runs all tasks of a submission; the driver kicks each by itself.
"""

from __future__ import annotations

import ctypes
import errno
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.regcmd import TRAILER_ENTRIES
from rocketnpu.program.model import Program, Target
from rocketnpu.program.target import unseen_by_rocket
from rocketnpu.runtime.device import Buffer, Device, Memory, Timing
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.runtime.kernel_device import NANOSECONDS, KernelDevice, Parts, describe_launches
from rocketnpu.runtime.node import Node
from rocketnpu.runtime.pool import Block
from rocketnpu.uapi import drm, rocket

WATCHDOG_NS = round(rocket.WATCHDOG_SECONDS * NANOSECONDS)

QUICK_NS = WATCHDOG_NS // 4
"""Jobs that took less may queue behind one another: what they take together is no sign of the watchdog."""

WAIT_SECONDS = 10.0
"""Longer than any job: the watchdog ends each after 0.5 s, and those of other processes may run before ours."""


@dataclass(frozen=True, eq=False)
class _Job:
    """A prebuilt SUBMIT and what it points to, which must stay alive with it."""

    submit: rocket.Submit
    description: str
    memory: Memory
    pointed_to: tuple[ctypes.Array[Any] | ctypes.Structure, ...]


class RocketDevice(KernelDevice[_Job]):
    """An open /dev/accel node of the `rocket` driver. Siblings are further descriptors, one for each core."""

    def __init__(
        self,
        path: str,
        kernel: Kernel,
        *,
        accepts_pools: bool = False,
        wait_seconds: float = WAIT_SECONDS,
        siblings: int = CORES - 1,
    ):
        """`accepts_pools`: this kernel is known to see the end of PPU tasks, as patched ones do.

        `wait_seconds` is how long a submission may take, other processes' jobs before it included. Raises DeviceError
        if the node cannot be opened.
        """
        super().__init__(Node(kernel, path, rocket.NAMES))
        self._kernel = kernel
        self._accepts_pools = accepts_pools
        self._wait_seconds = wait_seconds
        self._siblings = siblings
        self._device_owned: set[Buffer] = set()
        self._unfinished: dict[Buffer, _Job] = {}
        self._quick: set[_Job] = set()

    @property
    def name(self) -> str:
        """See Device."""
        return rocket.DRIVER

    @property
    def cores(self) -> int:
        """See Device: the driver keeps a descriptor's jobs on one core while any is queued."""
        return 1

    def sibling(self) -> Device | None:
        """See Device."""
        if not self._siblings:
            return None
        return RocketDevice(
            self.node,
            self._kernel,
            accepts_pools=self._accepts_pools,
            wait_seconds=self._wait_seconds,
            siblings=self._siblings - 1,
        )

    def adapt(self, program: Program) -> Program:
        """See Device: tasks are kicked one by one, and only those that end with a DPU interrupt are seen to end."""
        unseen = next(unseen_by_rocket(program), None)
        if unseen is not None and not self._accepts_pools:
            raise DeviceError(
                f"{self.node}: task {program.tasks[unseen].name} runs on the pooling unit alone, whose end the rocket "
                "driver does not see: it would take the watchdog's 500 ms; compile the model with target='rocket', use "
                "the emulator, or a kernel that is patched for it and RocketDevice(accepts_pools=True)"
            )
        return super().adapt(program)

    def _takes(self, target: Target) -> bool:
        return super()._takes(target) or self._accepts_pools

    def release(self, buffer: Buffer) -> None:
        """See Device; waits for a job that an earlier wait gave up on, and raises DeviceTimeout as that did."""
        job = self._unfinished.get(buffer)
        if job is not None:
            try:
                with self._lock:
                    self._wait(job)
            except DeviceTimeout:
                raise
            except DeviceError:  # the device has gone, and its job with it
                self._finished(job)
        self._device_owned.discard(buffer)
        super().release(buffer)

    def host_writes(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device."""
        self._take_back(buffer, start, stop)
        super().host_writes(buffer, start, stop)

    def host_reads(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device. PREP_BO knows whole buffers only."""
        self._take_back(buffer, start, stop)

    def _take_back(self, buffer: Buffer, start: int, stop: int) -> None:
        """Make the host the owner: wait for a job that an earlier wait gave up on, and refresh the caches."""
        self._node.check()
        if buffer in self._unfinished:
            with self._lock:
                self._wait(self._unfinished[buffer])
        if buffer in self._device_owned:
            self._prepare_for_host(buffer, f"for bytes {start} to {stop}")
            self._device_owned.discard(buffer)

    def _create(self, size_bytes: int) -> Block | None:
        answer = rocket.CreateBo(size=size_bytes)
        if self._node.request(rocket.CREATE_BO, answer, f"{size_bytes} bytes", expected=(errno.ENOMEM,)):
            return None
        try:
            memory = self._node.map(size_bytes, answer.offset)
        except DeviceError:
            self._close_handle(answer.handle)
            raise
        return Block(answer.dma_address, memory, answer.handle)

    def _destroy(self, block: Block) -> None:
        self._close_handle(block.handle)

    def _close_handle(self, handle: int) -> None:
        self._node.request(drm.GEM_CLOSE, drm.GemClose(handle=handle), expected=(errno.ENODEV,))

    def _flush(self, block: Block, start: int, stop: int) -> None:
        self._node.request(rocket.FINI_BO, rocket.FiniBo(handle=block.handle), f"for bytes {start} to {stop}")

    def _prepare(self, parts: Parts) -> _Job:
        if any(len(part) != 1 for part in parts):
            raise DeviceError(f"{self.node}: a rocket job runs on one core; these tasks want more")
        launches = [launch for part in parts for chain in part for launch in chain]
        memory = launches[0].memory
        if not memory.writes:
            raise DeviceError(f"{self.node}: {describe_launches(launches)}: no buffer to write, nothing to wait for")
        tasks = (rocket.Task * len(launches))(
            *(rocket.Task(launch.address, launch.body_entries + TRAILER_ENTRIES) for launch in launches)
        )
        inputs, outputs = self._handles(memory.reads), self._handles(memory.writes)
        job = rocket.Job(
            tasks=ctypes.addressof(tasks),
            in_bo_handles=ctypes.addressof(inputs),
            out_bo_handles=ctypes.addressof(outputs),
            task_count=len(tasks),
            task_struct_size=ctypes.sizeof(rocket.Task),
            in_bo_handle_count=len(inputs),
            out_bo_handle_count=len(outputs),
        )
        submit = rocket.Submit(jobs=ctypes.addressof(job), job_count=1, job_struct_size=ctypes.sizeof(rocket.Job))
        return _Job(submit, describe_launches(launches), memory, (tasks, inputs, outputs, job))

    def _handles(self, buffers: Sequence[Buffer]) -> ctypes.Array[ctypes.c_uint32]:
        return (ctypes.c_uint32 * len(buffers))(*(self._blocks[buffer].handle for buffer in buffers))

    def _discard(self, prepared: _Job) -> None:
        self._quick.discard(prepared)

    def _run(self, prepared: _Job) -> Timing:
        if prepared in self._quick:
            return self._run_job(prepared)
        with self._lock:  # no other submission meanwhile
            return self._run_job(prepared)

    def _run_job(self, prepared: _Job) -> Timing:
        self._quick.discard(prepared)
        start = self._kernel.device_time_ns()
        for buffer in prepared.memory.writes:
            self._unfinished[buffer] = prepared
        try:
            self._node.request(rocket.SUBMIT, prepared.submit, prepared.description)
        except DeviceError:
            self._finished(prepared)
            raise
        submitted = self._kernel.device_time_ns()
        self._wait(prepared)
        end = self._kernel.device_time_ns()
        if end - submitted >= WATCHDOG_NS:
            raise DeviceTimeout(
                f"{self.node}: {(end - submitted) / NANOSECONDS:.2f} s for {prepared.description}: unless jobs of "
                "other processes took that long, the driver's watchdog has reset the core and the results are lost; "
                "`rocketnpu inspect --lint` checks the lists, the kernel log tells about IOMMU faults"
                f"{self._node.last_reports()}"
            )
        if end - submitted < QUICK_NS:
            self._quick.add(prepared)
        return Timing((submitted - start) / NANOSECONDS, (end - submitted) / NANOSECONDS)

    def _wait(self, job: _Job) -> None:
        """Wait until the job is done; its first buffer is the host's then, the others when the host wants them."""
        first, *others = job.memory.writes
        self._prepare_for_host(first, job.description)
        self._finished(job)
        self._device_owned.discard(first)
        self._device_owned.update(others)

    def _finished(self, job: _Job) -> None:
        for buffer in job.memory.writes:
            self._unfinished.pop(buffer, None)

    def _prepare_for_host(self, buffer: Buffer, about: str) -> None:
        """PREP_BO, whose deadline is an absolute CLOCK_MONOTONIC time."""
        deadline = time.monotonic_ns() + round(self._wait_seconds * NANOSECONDS)
        argument = rocket.PrepBo(handle=self._blocks[buffer].handle, timeout_ns=deadline)
        expected = (errno.ETIMEDOUT, errno.EBUSY)  # EBUSY: the deadline has passed before the call
        number = self._node.request(rocket.PREP_BO, argument, about, expected)
        if number:
            raise DeviceTimeout(
                f"{self.node}: not done after {self._wait_seconds:g} s ({errno.errorcode[number]}), {about}; another "
                "process may keep the NPU busy"
            )
