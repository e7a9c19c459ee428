"""How units report what they cannot do: registers outside what is known, and tasks that never complete on silicon."""

from __future__ import annotations

from rocketnpu.errors import DeviceError, DeviceTimeout
from rocketnpu.hw.registers import Register


def unsupported(register: Register, field: str, value: int, why: str) -> DeviceError:
    """The error for a register state whose effect no source establishes: it is reported, not guessed."""
    return DeviceError(f"{register}.{field} = {value} ({value & 0xFFFFFFFF:#x}): {why}")


def never_completes(why: str) -> DeviceTimeout:
    """The error for a task that hangs on silicon."""
    return DeviceTimeout(f"the task never completes: {why}")
