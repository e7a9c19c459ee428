"""What a check of the machine says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How a finding bears on running programs on the NPU."""

    OK = "ok"
    SLOW = "slow"
    """Works, but slower than it could."""
    UNKNOWN = "unknown"
    """Cannot be told, for lack of rights or because the driver does not say."""
    PROBLEM = "problem"
    """Must be solved before anything runs."""


@dataclass(frozen=True)
class Finding:
    """One line of the report: what was looked at, what was found, and what to do about it if anything."""

    subject: str
    state: State
    found: str
    advice: str = ""
