"""The part of the DRM core's interface that both drivers share: version query and closing of buffer handles."""

from __future__ import annotations

import ctypes

from rocketnpu.uapi.request import READ, WRITE, request

DRM_TYPE = "d"
"""Type character of every DRM ioctl."""

COMMAND_BASE = 0x40
"""First ioctl number that belongs to the driver."""


class Version(ctypes.Structure):
    """DRM_IOCTL_VERSION. Three strings: the caller gives address and room, the kernel the length and the bytes."""

    _fields_ = (
        ("version_major", ctypes.c_int32),
        ("version_minor", ctypes.c_int32),
        ("version_patchlevel", ctypes.c_int32),
        ("name_len", ctypes.c_uint64),
        ("name", ctypes.c_uint64),
        ("date_len", ctypes.c_uint64),
        ("date", ctypes.c_uint64),
        ("desc_len", ctypes.c_uint64),
        ("desc", ctypes.c_uint64),
    )


class GemClose(ctypes.Structure):
    """DRM_IOCTL_GEM_CLOSE: drops one buffer handle of this file descriptor."""

    _fields_ = (("handle", ctypes.c_uint32), ("pad", ctypes.c_uint32))


VERSION = request(READ | WRITE, DRM_TYPE, 0x00, Version)
GEM_CLOSE = request(WRITE, DRM_TYPE, 0x09, GemClose)

NAMES = {VERSION: "DRM_IOCTL_VERSION", GEM_CLOSE: "DRM_IOCTL_GEM_CLOSE"}
"""Request codes for messages."""
