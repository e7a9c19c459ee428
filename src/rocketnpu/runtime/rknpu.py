"""The vendor's `rknpu` driver as a device: chained tasks, on one core or on several at the same time.

Facts: hardware/kernels.md, `rknpu` uAPI. A submit runs one part of a submission; consecutive tasks on one core are one
part.
"""

from __future__ import annotations

import ctypes
import errno
from dataclasses import dataclass

import numpy as np

from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw.limits import CORES
from rocketnpu.hw.sizes import align
from rocketnpu.runtime.device import Buffer, Device, Launch, Memory, Timing
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.runtime.kernel_device import CACHE_LINE_BYTES, NANOSECONDS, KernelDevice, Parts, describe_launches
from rocketnpu.runtime.node import Node
from rocketnpu.runtime.pool import PAGE_BYTES, Block
from rocketnpu.uapi import rknpu
from rocketnpu.uapi.rknpu import JobFlag, MemoryFlag, SyncFlag

TIMEOUT_MS = 6000
"""Limit of one submit, generous for a busy NPU; the driver resets all cores when it is over."""

BUFFER_FLAGS = MemoryFlag.NON_CONTIGUOUS | MemoryFlag.CACHEABLE | MemoryFlag.LIMIT_IOVA_ALIGNMENT
"""Ordinary pages behind the IOMMU, which the host reads at full speed."""

AUTOMATIC_CORE = 0
"""core_mask: the driver picks the core with the least work."""

NO_FENCE = -1
"""fence_fd of a blocking submit."""


@dataclass(frozen=True, eq=False)
class _Submission:
    """One prebuilt SUBMIT for each part; the task array is the driver's to read while it exists."""

    submits: tuple[rknpu.Submit, ...]
    descriptions: tuple[str, ...]
    memory: Memory
    task_array: Block


class RknpuDevice(KernelDevice[_Submission]):
    """An open DRM node of the `rknpu` driver. Siblings are further descriptors, for frames at the same time."""

    def __init__(self, path: str, kernel: Kernel, *, timeout_ms: int = TIMEOUT_MS, siblings: int = CORES - 1):
        """`timeout_ms` limits each submit. Raises DeviceError if the node cannot be opened."""
        super().__init__(Node(kernel, path, rknpu.NAMES))
        self._kernel = kernel
        self._timeout_ms = timeout_ms
        self._siblings = siblings
        self._stale: set[Buffer] = set()

    @property
    def name(self) -> str:
        """See Device."""
        return rknpu.DRIVER

    @property
    def cores(self) -> int:
        """See Device."""
        return CORES

    def sibling(self) -> Device | None:
        """See Device."""
        if not self._siblings:
            return None
        return RknpuDevice(self.node, self._kernel, timeout_ms=self._timeout_ms, siblings=self._siblings - 1)

    def host_reads(self, buffer: Buffer, start: int, stop: int) -> None:
        """See Device."""
        self._node.check()
        if buffer in self._stale:
            first = start // CACHE_LINE_BYTES * CACHE_LINE_BYTES
            self._sync(self._blocks[buffer], SyncFlag.FROM_DEVICE, first, min(stop, buffer.data.size))

    def release(self, buffer: Buffer) -> None:
        """See Device."""
        self._stale.discard(buffer)
        super().release(buffer)

    def _create(self, size_bytes: int) -> Block | None:
        return self._create_with(size_bytes, BUFFER_FLAGS)

    def _create_with(self, size_bytes: int, flags: MemoryFlag) -> Block | None:
        answer = rknpu.MemCreate(flags=flags, size=size_bytes)
        if self._node.request(rknpu.MEM_CREATE, answer, f"{size_bytes} bytes", expected=(errno.ENOMEM,)):
            return None
        place = rknpu.MemMap(handle=answer.handle)
        try:
            self._node.request(rknpu.MEM_MAP, place)
            memory = self._node.map(size_bytes, place.offset)
        except DeviceError:
            self._destroy_object(answer.handle, answer.obj_addr)
            raise
        return Block(answer.dma_addr, memory, answer.handle, answer.obj_addr)

    def _destroy(self, block: Block) -> None:
        self._destroy_object(block.handle, block.kernel_object)

    def _destroy_object(self, handle: int, kernel_object: int) -> None:
        argument = rknpu.MemDestroy(handle=handle, obj_addr=kernel_object)
        self._node.request(rknpu.MEM_DESTROY, argument, expected=(errno.ENODEV,))

    def _flush(self, block: Block, start: int, stop: int) -> None:
        self._sync(block, SyncFlag.TO_DEVICE, start, stop)

    def _sync(self, block: Block, direction: SyncFlag, start: int, stop: int) -> None:
        self._node.request(
            rknpu.MEM_SYNC,
            rknpu.MemSync(flags=direction, obj_addr=block.kernel_object, offset=start, size=stop - start),
        )

    def _prepare(self, parts: Parts) -> _Submission:
        chains = [chain for part in parts for chain in part]
        launches = [launch for chain in chains for launch in chain]
        tasks = (rknpu.Task * len(launches))(
            *(
                rknpu.Task(
                    int_mask=launch.interrupt_mask,
                    int_clear=launch.interrupt_mask,
                    regcfg_amount=launch.body_entries,
                    regcmd_addr=launch.address,
                )
                for launch in launches
            )
        )
        size = align(ctypes.sizeof(tasks), PAGE_BYTES)
        array = self._create_with(size, BUFFER_FLAGS | MemoryFlag.KERNEL_MAPPING)
        if array is None:
            raise DeviceError(
                f"{self.node}: no memory for {len(tasks)} task descriptors (ENOMEM): close other sessions"
            )
        array.memory[: ctypes.sizeof(tasks)] = np.frombuffer(bytes(tasks), np.uint8)
        try:
            self._sync(array, SyncFlag.TO_DEVICE, 0, size)
        except DeviceError:
            self._destroy(array)
            raise
        submits: list[rknpu.Submit] = []
        start = 0
        for part in parts:
            submits.append(self._submit_of(part, start, array))
            start += submits[-1].task_number
        descriptions = (describe_launches([launch for chain in part for launch in chain]) for part in parts)
        return _Submission(tuple(submits), tuple(descriptions), launches[0].memory, array)

    def _submit_of(self, part: tuple[tuple[Launch, ...], ...], start: int, array: Block) -> rknpu.Submit:
        """One part, whose tasks are in the task array from `start` on, chain after chain."""
        numbers = [len(chain) for chain in part]
        starts = [start + sum(numbers[:core]) for core in range(len(part))]
        submit = rknpu.Submit(
            flags=JobFlag.PC_MODE | JobFlag.PING_PONG,
            timeout=self._timeout_ms,
            task_start=start,
            task_number=sum(numbers),
            task_obj_addr=array.kernel_object,
            core_mask=AUTOMATIC_CORE if len(part) == 1 else (1 << len(part)) - 1,
            fence_fd=NO_FENCE,
        )
        for core in range(CORES):  # a single chain's core is the driver's choice: all entries tell the same
            first = rknpu.THREE_CORES_FIRST_SUBCORE if len(part) == CORES else 0
            chain = 0 if len(part) == 1 else core
            if chain < len(part):
                submit.subcore_task[first + core] = rknpu.Subcore(starts[chain], numbers[chain])
        return submit

    def _discard(self, prepared: _Submission) -> None:
        self._destroy(prepared.task_array)

    def _run(self, prepared: _Submission) -> Timing:
        start = self._kernel.device_time_ns()
        device_ns = 0
        self._stale.update(prepared.memory.writes)
        for submit, about in zip(prepared.submits, prepared.descriptions, strict=True):
            submit.task_counter = submit.hw_elapse_time = 0
            if self._node.request(rknpu.SUBMIT, submit, about, expected=(errno.ETIMEDOUT,)):
                raise DeviceTimeout(
                    f"{self.node}: {submit.task_counter} of {about} done after {self._timeout_ms} ms (ETIMEDOUT): the "
                    "driver has reset the NPU; `rocketnpu inspect --lint` checks the lists, the kernel log tells more"
                    f"{self._node.last_reports()}"
                )
            if submit.task_counter != submit.task_number:
                raise DeviceError(f"{self.node}: the driver ended after {submit.task_counter} of {about}")
            device_ns += submit.hw_elapse_time
        total_ns = self._kernel.device_time_ns() - start
        return Timing(max(total_ns - device_ns, 0) / NANOSECONDS, device_ns / NANOSECONDS)
