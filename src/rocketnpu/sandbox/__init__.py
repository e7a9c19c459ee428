"""Code that may take its process down, in a process of its own: other people's runtimes on other people's files."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from rocketnpu.errors import ModelError


class Runs(Protocol):
    """What runs here or there: something that turns values into other values."""

    def run(self, values: Sequence[Any]) -> list[Any]:
        """One run."""
        ...


class ProcessDiedError(Exception):
    """The child is gone; the text says how, in a few words."""


class Guarded:
    """`factory(*arguments)`, made at the first run: in this process if it is `safe`, else in a child.

    Both must be picklable. Not safe in threads.
    """

    def __init__(self, factory: Callable[..., Runs], *arguments: object, safe: bool, crash: str) -> None:
        """`crash` says what has happened when the child dies."""
        self._recipe = (factory, arguments)
        self._safe = safe
        self._crash = crash
        self._target: Runs | None = None

    def run(self, values: Sequence[Any]) -> list[Any]:
        """What `run` of the object returns or raises; ModelError when its process dies."""
        if self._target is None:
            self._target = self._made()
        try:
            return self._target.run(values)
        except ProcessDiedError as died:
            advice = "check the types, shapes and constants of their tensors, or export the model again"
            raise ModelError(f"{self._crash} ({died}); {advice}") from None

    def _made(self) -> Runs:
        factory, arguments = self._recipe
        if self._safe:
            return factory(*arguments)
        # Imported here, as few models need it and Python's pipes take long to import.
        confined: Callable[..., Runs] = importlib.import_module("rocketnpu.sandbox.process").Confined
        return confined(factory, *arguments)
