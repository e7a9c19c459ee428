"""The convolution buffer (CBUF): banks that the data and weights of a convolution task need, and what split is legal.

Source: hardware/convolution.md, "CBUF arithmetic"; the formulas hold for all 993 vendor plans of the shared vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import Error
from rocketnpu.hw import limits
from rocketnpu.hw.layouts import ATOM_BYTES

BANKS = 12
"""Banks per core, shared by features (data) and weights."""
BANK_ENTRIES = 512
ENTRY_BYTES = 64
BANK_BYTES = BANK_ENTRIES * ENTRY_BYTES
ENTRY_ATOMS = ENTRY_BYTES // ATOM_BYTES

IMAGE_PIXEL_BYTES = {1: 1, 2: 2, 3: 4, 4: 4}
"""CBUF bytes that a pixel of a dense image is charged, by its channels (vendor)."""
IMAGE_BANK_BYTES = 8192
"""Dense image bytes per bank in the vendor's planner, a quarter of the bank; hardware tolerated slightly more."""
IMAGE_WIDTH_ALIGNMENT = 16
"""A dense image row is charged align(width, 16) pixels."""

SLACK_FILL = 0.97
"""At input width 1, a last data bank filled from about 97.6 % up to but not including 100 % corrupts the tail rows
(silicon, int8 only); a little below, because the bad set has no closed form."""


def data_entries_per_row(width: int, channels: int, element_bytes: int = 1) -> int:
    """Entries of 64 bytes that one row of a feature cube takes (DATA_ENTRIES). Three leftover atoms cost four."""
    atoms = -(-channels * element_bytes // ATOM_BYTES)
    whole, rest = divmod(atoms, ENTRY_ATOMS)
    return whole * width + (width if rest == ENTRY_ATOMS - 1 else -(-rest * width // ENTRY_ATOMS))


def entries_of_atoms(width: int, atoms: int) -> NDArray[np.intp]:
    """The entry of its row in which each atom of each pixel lies: (atoms, width).

    Four atoms of a pixel share an entry; one or two leftover atoms share theirs with the next pixels. The order is
    inferred from the formula (hardware/convolution.md, DATA_ENTRIES).
    """
    whole, rest = divmod(atoms, ENTRY_ATOMS)
    column = np.arange(width)
    entries = np.arange(atoms)[:, None] // ENTRY_ATOMS * width + column
    if rest in (1, 2):
        entries[whole * ENTRY_ATOMS :] = whole * width + column * rest // ENTRY_ATOMS
    return entries


def image_entries(width: int, rows: int) -> int:
    """DATA_ENTRIES of a dense image: align(width, 16)*rows, for the whole tile and not for a row."""
    return -(-width // IMAGE_WIDTH_ALIGNMENT) * IMAGE_WIDTH_ALIGNMENT * rows


def data_banks(entries_per_row: int, rows: int) -> int:
    """Banks that hold `rows` rows of a feature cube."""
    return -(-entries_per_row * rows // BANK_ENTRIES)


def image_data_banks(width: int, rows: int, channels: int) -> int:
    """Banks that hold `rows` rows of a dense int8 image. Raises Error for channels that no image has."""
    return -(-image_entries(width, rows) * _pixel_bytes(channels) // IMAGE_BANK_BYTES)


def slack_banks(width: int, element_bytes: int = 1) -> int:
    """Spare data banks that a planner adds: 1 for int8 at input width 1, where a nearly full bank corrupts; else 0."""
    return int(width == 1 and element_bytes == 1)


def rows_that_fit(entries_per_row: int, banks: int) -> int:
    """Rows of a feature cube that `banks` data banks hold."""
    return banks * BANK_ENTRIES // entries_per_row


def image_rows_that_fit(width: int, channels: int, banks: int) -> int:
    """Rows of a dense int8 image that `banks` data banks hold. Raises Error for channels that no image has."""
    return banks * IMAGE_BANK_BYTES // (image_entries(width, 1) * _pixel_bytes(channels))


def weight_banks(weight_bytes: int) -> int:
    """Banks that hold all weights of a task at once."""
    return -(-weight_bytes // BANK_BYTES)


def minimum_streaming_weight_banks(channels: int) -> int:
    """Fewest weight banks when the weights do not all fit and stream; with fewer, channels read back as zero.

    Silicon at 256, 320 and 384 input channels: 3, 4, 5; counts between take the next measured one's.
    """
    if channels <= 256:
        return 3
    return 4 if channels <= 320 else 5


def vendor_streaming_weight_banks(kernel_h: int, kernel_w: int, channels: int) -> int:
    """Weight banks that the vendor grants streamed int8 weights: two groups of 32 kernels."""
    return weight_banks(kernel_h * kernel_w * channels * 64)


@dataclass(frozen=True)
class ConvPlan:
    """How one convolution task uses the CBUF: its input tile, its kernels and the bank split.

    `channels` are the real input channels; `kernel_bytes` and `kernels` are the registers' values (depthwise: all
    taps of all stored channels, and 1). `dense_image` means ARGB mode. `address` is the tile's, or its offset from an
    aligned base, in bytes.
    """

    width: int
    rows: int
    channels: int
    kernel_bytes: int
    kernels: int
    data_entries: int
    data_banks: int
    weight_banks: int
    dense_image: bool = False
    depthwise: bool = False
    element_bytes: int = 1
    feature_grains: int = 1
    address: int = 0

    @property
    def weight_bytes(self) -> int:
        """Bytes of all kernels (WEIGHT_BYTES)."""
        return self.kernel_bytes * self.kernels


def violations(plan: ConvPlan) -> list[str]:
    """Every rule that `plan` breaks, one line each; empty when the task is legal."""
    if min(plan.width, plan.rows, plan.channels, plan.kernel_bytes, plan.kernels) < 1:
        return ["width, rows, channels, kernel bytes and kernels must all be at least 1"]
    return [*_field_violations(plan), *_bank_violations(plan), *_data_violations(plan), *_weight_violations(plan)]


def _field_violations(plan: ConvPlan) -> list[str]:
    bounds = (
        ("input width", plan.width, limits.MAX_CONV_INPUT),
        ("input rows", plan.rows, limits.MAX_CONV_INPUT),
        ("bytes per kernel", plan.kernel_bytes, limits.MAX_KERNEL_BYTES),
        ("kernels", plan.kernels, limits.MAX_KERNELS),
        ("data entries", plan.data_entries, limits.MAX_DATA_ENTRIES),
        ("feature grains", plan.feature_grains, limits.MAX_FEATURE_GRAINS),
    )
    found = [f"{name} {value} exceeds its field's {most}" for name, value, most in bounds if value > most]
    if plan.address % limits.ADDRESS_ALIGNMENT_BYTES:
        found.append(f"feature address {plan.address:#x} is not a multiple of {limits.ADDRESS_ALIGNMENT_BYTES} bytes")
    return found


def _bank_violations(plan: ConvPlan) -> list[str]:
    found: list[str] = []
    if plan.data_banks < 1 or plan.weight_banks < 1:
        found.append(f"{plan.data_banks} data and {plan.weight_banks} weight banks: both need at least 1")
    if plan.data_banks + plan.weight_banks > BANKS:
        found.append(f"{plan.data_banks} data + {plan.weight_banks} weight banks exceed the {BANKS} of the CBUF")
    return found


def _data_violations(plan: ConvPlan) -> list[str]:
    if plan.dense_image:
        if plan.channels not in IMAGE_PIXEL_BYTES:
            return [f"a dense image has 1 to {limits.MAX_IMAGE_CHANNELS} channels, not {plan.channels}"]
        if plan.element_bytes != 1:
            return [f"dense images of {plan.element_bytes}-byte elements have no known CBUF cost"]
        entries = image_entries(plan.width, plan.rows)
        needed = image_data_banks(plan.width, plan.rows, plan.channels)
    else:
        entries = data_entries_per_row(plan.width, plan.channels, plan.element_bytes)
        needed = data_banks(entries, plan.rows)
    found: list[str] = []
    if plan.data_entries != entries:
        found.append(f"data entries {plan.data_entries}, but this tile has {entries}")
    if needed > plan.data_banks:
        found.append(f"{plan.rows} rows need {needed} data banks, {plan.data_banks} are given: the last rows are lost")
    elif slack_banks(plan.width, plan.element_bytes) and not plan.dense_image and needed == plan.data_banks:
        fill = (entries * plan.rows - (needed - 1) * BANK_ENTRIES) / BANK_ENTRIES
        if SLACK_FILL <= fill < 1:
            found.append(f"the last data bank is {fill:.1%} full at input width 1: the tail needs a spare bank")
    return found


def _weight_violations(plan: ConvPlan) -> list[str]:
    found: list[str] = []
    if plan.element_bytes == 1 and not plan.depthwise and plan.kernels % 2:
        found.append(f"an odd count of int8 kernels, {plan.kernels}: results are off by up to 2")
    least = minimum_streaming_weight_banks(plan.channels)
    if weight_banks(plan.weight_bytes) > plan.weight_banks < least:
        found.append(
            f"{plan.weight_bytes} weight bytes stream through {plan.weight_banks} banks; "
            f"{plan.channels} input channels need {least}: upper channels would be zero"
        )
    return found


def _pixel_bytes(channels: int) -> int:
    if channels not in IMAGE_PIXEL_BYTES:
        raise Error(f"a dense image has 1 to {limits.MAX_IMAGE_CHANNELS} channels, not {channels}")
    return IMAGE_PIXEL_BYTES[channels]
