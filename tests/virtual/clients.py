"""Small programs that speak the drivers' interfaces with plain structs; their jobs copy a cube or pool one."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from emulator.npu_programs import Writes, body, flying, pool
from rocketnpu.hw import regcmd
from rocketnpu.runtime.kernel import Kernel
from rocketnpu.uapi import drm, rknpu, rocket

EDGE, CHANNELS = 4, 32
CUBE_BYTES = EDGE * EDGE * CHANNELS
SECOND = 10**9
DPU_DONE, PPU_DONE = 0x300, 0xC00
PAGE = 4096

Bytes = NDArray[np.uint8]


@dataclass
class Bo:
    handle: int
    address: int
    offset: int
    data: Bytes
    obj_addr: int = 0


def fails(number: int) -> pytest.RaisesExc[OSError]:
    """A system call that fails with this errno."""
    return pytest.raises(OSError, match=rf"\[Errno {number}\]")


def copy_task(source: int, target: int) -> tuple[Writes, int]:
    return flying(EDGE, EDGE, CHANNELS, source, target)


def pool_task(source: int, target: int) -> tuple[Writes, int]:
    """A 1x1 maximum: a copy by the pooling unit."""
    return pool((EDGE, EDGE), (EDGE, EDGE), CHANNELS, source, target, method=1, kernel=(1, 1))


def command_list(task: tuple[Writes, int], following: int = 0, following_entries: int = 0) -> Bytes:
    words = [*body(task[0]), *regcmd.trailer(following, following_entries, task[1])]
    return np.array(words, "<u8").view(np.uint8)


def noise(seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, CUBE_BYTES, np.uint8)


class RocketClient:
    """One descriptor of the rocket driver."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.fd = kernel.open("/dev/accel/accel0", os.O_RDWR)

    def bo(self, size: int = PAGE) -> Bo:
        answer = rocket.CreateBo(size=size)
        self.kernel.ioctl(self.fd, rocket.CREATE_BO, answer)
        return Bo(answer.handle, answer.dma_address, answer.offset, self.kernel.mmap(self.fd, size, answer.offset))

    def cube(self, seed: int | None = None) -> Bo:
        bo = self.bo()
        if seed is not None:
            bo.data[:CUBE_BYTES] = noise(seed)
        return bo

    def list_of(self, task: tuple[Writes, int]) -> tuple[Bo, int]:
        """A buffer with a command list, and its entries."""
        words = command_list(task)
        bo = self.bo()
        bo.data[: words.size] = words
        return bo, words.size // 8

    def submit(
        self,
        tasks: Sequence[tuple[Bo, int]],
        inputs: Sequence[Bo | int],
        outputs: Sequence[Bo | int],
        *,
        job_struct_size: int = ctypes.sizeof(rocket.Job),
        task_struct_size: int = ctypes.sizeof(rocket.Task),
    ) -> None:
        array = (rocket.Task * len(tasks))(*(rocket.Task(bo.address, entries) for bo, entries in tasks))
        lists = [
            (ctypes.c_uint32 * len(bos))(*(bo if isinstance(bo, int) else bo.handle for bo in bos))
            for bos in (inputs, outputs)
        ]
        job = rocket.Job(
            tasks=ctypes.addressof(array),
            in_bo_handles=ctypes.addressof(lists[0]),
            out_bo_handles=ctypes.addressof(lists[1]),
            task_count=len(tasks),
            task_struct_size=task_struct_size,
            in_bo_handle_count=len(inputs),
            out_bo_handle_count=len(outputs),
        )
        submit = rocket.Submit(jobs=ctypes.addressof(job), job_count=1, job_struct_size=job_struct_size)
        self.kernel.ioctl(self.fd, rocket.SUBMIT, submit)

    def submit_copy(self, source: Bo, target: Bo) -> None:
        task = self.list_of(copy_task(source.address, target.address))
        self.submit([task], [source, task[0]], [target])

    def prepare(self, bo: Bo, seconds: float = 10.0) -> None:
        deadline = time.monotonic_ns() + int(seconds * SECOND)
        self.kernel.ioctl(self.fd, rocket.PREP_BO, rocket.PrepBo(handle=bo.handle, timeout_ns=deadline))

    def drop(self, bo: Bo) -> None:
        self.kernel.ioctl(self.fd, drm.GEM_CLOSE, drm.GemClose(handle=bo.handle))

    def close(self) -> None:
        self.kernel.close(self.fd)


class RknpuClient:
    """One descriptor of the vendor's driver."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.fd = kernel.open("/dev/dri/renderD129", os.O_RDWR)

    def bo(self, size: int = PAGE, flags: int = rknpu.MemoryFlag.IOMMU, domain: int = 0) -> Bo:
        answer = rknpu.MemCreate(flags=flags, size=size, iommu_domain_id=domain)
        self.kernel.ioctl(self.fd, rknpu.MEM_CREATE, answer)
        place = rknpu.MemMap(handle=answer.handle)
        self.kernel.ioctl(self.fd, rknpu.MEM_MAP, place)
        data = self.kernel.mmap(self.fd, size, place.offset)
        return Bo(answer.handle, answer.dma_addr, place.offset, data, answer.obj_addr)

    def cube(self, seed: int | None = None) -> Bo:
        bo = self.bo()
        if seed is not None:
            bo.data[:CUBE_BYTES] = noise(seed)
        return bo

    def chain(self, *tasks: tuple[Writes, int]) -> list[rknpu.Task]:
        """Command lists that lead to one another, and their entries for a task table."""
        bodies = [len(writes) for writes, _ in tasks]
        stride = -(-max(bodies) - 4) // 8 * 64 + 64
        bo = self.bo(stride * len(tasks))
        addresses = [bo.address + stride * index for index in range(len(tasks))]
        following = [*zip(addresses[1:], bodies[1:], strict=True), (0, 0)]
        entries: list[rknpu.Task] = []
        for index, (task, address, after) in enumerate(zip(tasks, addresses, following, strict=True)):
            words = command_list(task, *after)
            bo.data[stride * index :][: words.size] = words
            done = PPU_DONE if task[1] == regcmd.POOL_MASK else DPU_DONE
            entries.append(rknpu.Task(int_mask=done, regcfg_amount=bodies[index], regcmd_addr=address))
        return entries

    def table(self, tasks: Sequence[rknpu.Task], flags: int = rknpu.MemoryFlag.KERNEL_MAPPING) -> Bo:
        bo = self.bo(max(len(tasks), 1) * ctypes.sizeof(rknpu.Task), flags)
        for index, task in enumerate(tasks):
            bo.data[index * ctypes.sizeof(task) :][: ctypes.sizeof(task)] = np.frombuffer(bytes(task), np.uint8)
        return bo

    def submit(
        self,
        table: Bo,
        shares: dict[int, tuple[int, int]],
        *,
        core_mask: int = 1,
        flags: int = rknpu.JobFlag.PC_MODE,
        timeout_ms: int = 6000,
        domain: int = 0,
    ) -> rknpu.Submit:
        """`shares`: (first task, tasks) by index of subcore_task."""
        submit = rknpu.Submit(
            flags=flags,
            timeout=timeout_ms,
            task_number=sum(number for _, number in shares.values()),
            task_obj_addr=table.obj_addr,
            core_mask=core_mask,
            iommu_domain_id=domain,
        )
        for index, share in shares.items():
            submit.subcore_task[index] = share
        self.kernel.ioctl(self.fd, rknpu.SUBMIT, submit)
        return submit

    def action(self, code: int) -> int:
        action = rknpu.Action(flags=code)
        self.kernel.ioctl(self.fd, rknpu.ACTION, action)
        return action.value

    def close(self) -> None:
        self.kernel.close(self.fd)
