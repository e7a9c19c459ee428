"""The vendor's `rknpu` driver's interface, version 0.9.8, DRM build (hardware/kernels.md, `rknpu` uAPI)."""

from __future__ import annotations

import ctypes
from enum import IntEnum, IntFlag

from rocketnpu.uapi.drm import COMMAND_BASE, DRM_TYPE
from rocketnpu.uapi.request import READ, WRITE, request

DRIVER = "rknpu"
"""The driver's name in DRM_IOCTL_VERSION."""

SUBCORES = 5
"""Entries of Submit.subcore_task."""

THREE_CORES_FIRST_SUBCORE = 2
"""subcore_task index of core 0 when three cores share a submit; 0 otherwise."""


class MemoryFlag(IntFlag):
    """What a buffer is to be."""

    NON_CONTIGUOUS = 0x1
    CACHEABLE = 0x2
    WRITE_COMBINE = 0x4
    KERNEL_MAPPING = 0x8
    IOMMU = 0x10
    ZERO = 0x20
    SECURE = 0x40
    DMA32 = 0x80
    TRY_SRAM = 0x100
    TRY_NBUF = 0x200
    LIMIT_IOVA_ALIGNMENT = 0x400


class JobFlag(IntFlag):
    """How a submit runs."""

    PC_MODE = 0x1
    NON_BLOCK = 0x2
    PING_PONG = 0x4
    FENCE_IN = 0x8
    FENCE_OUT = 0x10


class SyncFlag(IntFlag):
    """Direction of a cache synchronisation."""

    TO_DEVICE = 0x1
    FROM_DEVICE = 0x2


class ActionCode(IntEnum):
    """What ACTION asks for: those of its codes that have a meaning on the RK3588."""

    HARDWARE_VERSION = 0
    DRIVER_VERSION = 1
    GET_FREQUENCY = 2
    SET_FREQUENCY = 3
    GET_VOLTAGE = 4
    SET_VOLTAGE = 5
    RESET = 6
    IOMMU_ENABLED = 18
    SET_NICE = 19
    POWER_ON = 20
    POWER_OFF = 21
    SRAM_TOTAL = 22
    SRAM_FREE = 23
    GET_DOMAIN = 24
    SET_DOMAIN = 25


class Action(ctypes.Structure):
    """ACTION: `flags` is an ActionCode, `value` its argument or the answer."""

    _fields_ = (("flags", ctypes.c_uint32), ("value", ctypes.c_uint32))


class Subcore(ctypes.Structure):
    """The tasks of one core: first index in the task array, and how many."""

    _fields_ = (("task_start", ctypes.c_uint32), ("task_number", ctypes.c_uint32))


class Task(ctypes.Structure):
    """One command list in the task array, 40 bytes packed; the driver reads int_mask, regcfg_amount, regcmd_addr."""

    _pack_ = 1
    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("op_idx", ctypes.c_uint32),
        ("enable_mask", ctypes.c_uint32),
        ("int_mask", ctypes.c_uint32),
        ("int_clear", ctypes.c_uint32),
        ("int_status", ctypes.c_uint32),
        ("regcfg_amount", ctypes.c_uint32),
        ("regcfg_offset", ctypes.c_uint32),
        ("regcmd_addr", ctypes.c_uint64),
    )


class Submit(ctypes.Structure):
    """SUBMIT: `timeout` in ms; `task_counter` and `hw_elapse_time` (ns) are the kernel's answer."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("timeout", ctypes.c_uint32),
        ("task_start", ctypes.c_uint32),
        ("task_number", ctypes.c_uint32),
        ("task_counter", ctypes.c_uint32),
        ("priority", ctypes.c_int32),
        ("task_obj_addr", ctypes.c_uint64),
        ("iommu_domain_id", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("task_base_addr", ctypes.c_uint64),
        ("hw_elapse_time", ctypes.c_int64),
        ("core_mask", ctypes.c_uint32),
        ("fence_fd", ctypes.c_int32),
        ("subcore_task", Subcore * SUBCORES),
    )


class MemCreate(ctypes.Structure):
    """MEM_CREATE: `handle`, `obj_addr` (names the buffer in submits and syncs) and `dma_addr` are the answer."""

    _fields_ = (
        ("handle", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("obj_addr", ctypes.c_uint64),
        ("dma_addr", ctypes.c_uint64),
        ("sram_size", ctypes.c_uint64),
        ("iommu_domain_id", ctypes.c_int32),
        ("core_mask", ctypes.c_uint32),
    )


class MemMap(ctypes.Structure):
    """MEM_MAP: the mmap offset of a buffer."""

    _fields_ = (("handle", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("offset", ctypes.c_uint64))


class MemDestroy(ctypes.Structure):
    """MEM_DESTROY."""

    _fields_ = (("handle", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("obj_addr", ctypes.c_uint64))


class MemSync(ctypes.Structure):
    """MEM_SYNC of `size` bytes at `offset`."""

    _fields_ = (
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
        ("obj_addr", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
        ("size", ctypes.c_uint64),
    )


ACTION = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 0, Action)
SUBMIT = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 1, Submit)
MEM_CREATE = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 2, MemCreate)
MEM_MAP = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 3, MemMap)
MEM_DESTROY = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 4, MemDestroy)
MEM_SYNC = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 5, MemSync)

NAMES = {
    ACTION: "ACTION",
    SUBMIT: "SUBMIT",
    MEM_CREATE: "MEM_CREATE",
    MEM_MAP: "MEM_MAP",
    MEM_DESTROY: "MEM_DESTROY",
    MEM_SYNC: "MEM_SYNC",
}
"""Request codes for messages."""
