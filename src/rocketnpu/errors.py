"""The errors that users see: `Error` and its few subclasses, each one clear line."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number of things as an error says it: 1 input, 2 inputs."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


class Error(Exception):
    """Base of every error this package raises on purpose; its text is one line fit for a terminal."""


class ModelError(Error):
    """A bad or unsupported file or input; the text names the operator or tensor, and why."""


class CompileError(Error):
    """The compiler cannot do what was asked; the text names the operator and the constraint."""


class DeviceError(Error):
    """A device refused or failed; the text carries what is known of errno, job, task and register."""


class DeviceTimeout(DeviceError):
    """A task did not complete in time."""


class DeviceWarning(UserWarning):
    """The emulator ran a task whose output is wrong on the chip, or may be; the text names the task and the rule."""
