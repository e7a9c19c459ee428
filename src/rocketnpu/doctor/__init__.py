"""Whether this machine can run programs on its NPU, and what to do where it cannot."""

from __future__ import annotations

from rocketnpu.doctor.checks import diagnose
from rocketnpu.doctor.findings import Finding, State

__all__ = ["Finding", "State", "diagnose"]
