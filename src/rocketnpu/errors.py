"""The errors that users see: `Error` and its few subclasses, each one clear line."""

from __future__ import annotations


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
