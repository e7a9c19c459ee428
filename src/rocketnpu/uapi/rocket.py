"""The mainline `rocket` driver's interface (hardware/kernels.md, `rocket` uAPI)."""

from __future__ import annotations

import ctypes

from rocketnpu.uapi.drm import COMMAND_BASE, DRM_TYPE
from rocketnpu.uapi.request import READ, WRITE, request

DRIVER = "rocket"
"""The driver's name in DRM_IOCTL_VERSION."""

WATCHDOG_SECONDS = 0.5
"""A job that takes longer is ended by a reset of its core, and PREP_BO reports success all the same."""


class CreateBo(ctypes.Structure):
    """CREATE_BO: `handle`, `dma_address` (IOVA, 0 is valid) and `offset` (for mmap) are the kernel's answer."""

    _fields_ = (
        ("size", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("dma_address", ctypes.c_uint64),
        ("offset", ctypes.c_uint64),
    )


class Task(ctypes.Structure):
    """One command list: its IOVA and all its entries, the trailer included."""

    _fields_ = (("regcmd", ctypes.c_uint32), ("regcmd_count", ctypes.c_uint32))


class Job(ctypes.Structure):
    """Tasks that run one after the other on one core; `tasks` and the handle lists are user-space addresses."""

    _fields_ = (
        ("tasks", ctypes.c_uint64),
        ("in_bo_handles", ctypes.c_uint64),
        ("out_bo_handles", ctypes.c_uint64),
        ("task_count", ctypes.c_uint32),
        ("task_struct_size", ctypes.c_uint32),
        ("in_bo_handle_count", ctypes.c_uint32),
        ("out_bo_handle_count", ctypes.c_uint32),
    )


class Submit(ctypes.Structure):
    """SUBMIT: `jobs` is the user-space address of an array of Job."""

    _fields_ = (
        ("jobs", ctypes.c_uint64),
        ("job_count", ctypes.c_uint32),
        ("job_struct_size", ctypes.c_uint32),
        ("reserved", ctypes.c_uint64),
    )


class PrepBo(ctypes.Structure):
    """PREP_BO: waits for the jobs that write the buffer; `timeout_ns` is an absolute CLOCK_MONOTONIC time."""

    _fields_ = (("handle", ctypes.c_uint32), ("reserved", ctypes.c_uint32), ("timeout_ns", ctypes.c_int64))


class FiniBo(ctypes.Structure):
    """FINI_BO: gives the buffer's cached bytes to the device."""

    _fields_ = (("handle", ctypes.c_uint32), ("reserved", ctypes.c_uint32))


CREATE_BO = request(READ | WRITE, DRM_TYPE, COMMAND_BASE + 0, CreateBo)
SUBMIT = request(WRITE, DRM_TYPE, COMMAND_BASE + 1, Submit)
PREP_BO = request(WRITE, DRM_TYPE, COMMAND_BASE + 2, PrepBo)
FINI_BO = request(WRITE, DRM_TYPE, COMMAND_BASE + 3, FiniBo)

NAMES = {CREATE_BO: "CREATE_BO", SUBMIT: "SUBMIT", PREP_BO: "PREP_BO", FINI_BO: "FINI_BO"}
"""Request codes for messages."""
