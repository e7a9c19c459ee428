"""The IOMMU of each core: where its banks are, and its commands (hardware/kernels.md, Rockchip IOMMU v2)."""

from __future__ import annotations

BANK_BYTES = 0x100
"""Size of a bank's window."""
BANK_OFFSETS = ((0x9000, 0xA000), (0xA000,), (0xA000,))
"""Where the banks of each core's IOMMU are in the core's window (mainline device tree; hardware/kernels.md)."""

ENABLE_PAGING = 0
"""Values of COMMAND, to FORCE_RESET."""
DISABLE_PAGING = 1
ENABLE_STALL = 2
DISABLE_STALL = 3
ZAP_CACHE = 4
PAGE_FAULT_DONE = 5
FORCE_RESET = 6
