"""A virtual kernel with an emulated NPU: the ABIs of both kernel drivers, for this process or for any program."""

from __future__ import annotations

from rocketnpu.virtual.kernel import VirtualKernel

__all__ = ["VirtualKernel"]
