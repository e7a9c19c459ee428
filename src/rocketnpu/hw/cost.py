"""What tasks cost: cycles by the vendor compiler's own model; what tasks and kicks take beside it on silicon.

Source: hardware/performance.md, "The vendor compiler's own cost model", reproduced there on 50 of 50 layers. It knows
no per-task overhead, no halo and no reload of weights for each tile; pools, resizes and element-wise tasks cost memory
cycles only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import gcd

DIRECT_INT8_MACS_PER_CYCLE = 1024
"""Peak of one core: 32 output channels x 32 input channels of one pixel."""
DEPTHWISE_INT8_MACS_PER_CYCLE = 64

DDR_BYTES_PER_CYCLE = 23.654
"""At an NPU clock of 1 GHz: 33.792 GB/s (64-bit LPDDR at 2112 MHz) at the 70 % the vendor assumes; cores share it."""
OPERAND_BYTES_PER_CHANNEL = 8
"""What the model charges for the per-channel operands of a convolution."""

VENDOR_CLOCK_HZ = 1e9
"""The highest clock of the vendor's kernel (hardware/performance.md, Clocks and memory)."""
MAINLINE_CLOCK_HZ = 600e6
"""What a board without voltage control of the NPU runs at."""
CHAINED_TASK_CYCLES = 4000
"""What one more task of a chain takes on silicon at 1 GHz, 3-5 us (hardware/performance.md, Calibration advice)."""
CHAINED_TASK_SECONDS = 5e-6
KICKED_TASK_SECONDS = 20e-6
"""The same where every task is kicked alone, as mainline rocket does: interrupt, thread and register writes."""
KICK_SECONDS = 50e-6
"""What handing a chain to the NPU and learning of its end takes, 30-50 us."""

KICK_CYCLES = 1000
"""What one more kick must gain where cores share the work. It takes more on silicon (KICK_SECONDS), but how much
depends on the kernel and its clock, and who asks for several cores wants them used."""
COMPUTE_WEIGHT = 0.22
"""What a MAC cycle of a kick's busiest core costs beside the kick's own cycles: where the DRAM is what takes long, more
cores are still better, as the share of the DRAM's peak that the vendor's model assumes is a guess."""

PIXEL_GROUP = 16
"""Output pixels are processed in groups."""
MIN_CYCLES_PER_PIXEL = 4
"""The output side takes one 32-channel pixel in 4 cycles, whatever the input channels."""


def pixel_cycles(output_h: int, output_w: int) -> int:
    """Output pixels in whole groups of 16."""
    return -(-output_h * output_w // PIXEL_GROUP) * PIXEL_GROUP


def group_rows(width: int) -> int:
    """The fewest rows of `width` pixels that are whole groups of pixels."""
    return PIXEL_GROUP // gcd(PIXEL_GROUP, width)


def direct_cycles(
    output_h: int, output_w: int, output_channels: int, input_channels: int, kernel_h: int, kernel_w: int
) -> int:
    """MAC cycles of an int8 direct convolution on one core."""
    per_pixel = max(MIN_CYCLES_PER_PIXEL, kernel_h * kernel_w * -(-input_channels // 32))
    return pixel_cycles(output_h, output_w) * -(-output_channels // 32) * per_pixel


def depthwise_cycles(output_h: int, output_w: int, channels: int, kernel_h: int, kernel_w: int) -> int:
    """MAC cycles of an int8 depthwise convolution on one core."""
    return pixel_cycles(output_h, output_w) * kernel_h * kernel_w * -(-channels // 64)


def convolution_ddr_bytes(
    input_bytes: int, output_bytes: int, weight_bytes: int, output_channels: int, addend_bytes: int = 0
) -> int:
    """Bytes a convolution moves: tensors once each, weights, operands, and the second addend of a fused addition."""
    return input_bytes + output_bytes + weight_bytes + OPERAND_BYTES_PER_CHANNEL * output_channels + addend_bytes


def ddr_cycles(moved_bytes: int, clock_hz: float = 1e9) -> float:
    """NPU cycles at `clock_hz` that moving the bytes takes: bandwidth is constant in time, so cycles scale with it."""
    return moved_bytes / DDR_BYTES_PER_CYCLE * (clock_hz / 1e9)


def layer_cycles(mac_cycles: float, memory_cycles: float) -> float:
    """Cycles of a layer: the slower of the two, as they overlap."""
    return max(mac_cycles, memory_cycles)


@dataclass(frozen=True)
class TaskCost:
    """MAC cycles of one task, and the bytes that it moves."""

    mac_cycles: int
    read_bytes: int
    written_bytes: int

    @property
    def moved_bytes(self) -> int:
        """Read and written."""
        return self.read_bytes + self.written_bytes

    @property
    def cycles(self) -> float:
        """Cycles at 1 GHz of the task alone."""
        return layer_cycles(self.mac_cycles, ddr_cycles(self.moved_bytes))


@dataclass(frozen=True)
class ChainCost:
    """What tasks that follow one another on a core cost together: their own cycles at 1 GHz, MACs, and bytes moved."""

    cycles: float = 0.0
    mac_cycles: int = 0
    moved_bytes: int = 0

    def __add__(self, other: ChainCost) -> ChainCost:
        return ChainCost(
            self.cycles + other.cycles, self.mac_cycles + other.mac_cycles, self.moved_bytes + other.moved_bytes
        )


def chain_cost(tasks: Iterable[TaskCost]) -> ChainCost:
    """The cost of a chain."""
    return sum((ChainCost(task.cycles, task.mac_cycles, task.moved_bytes) for task in tasks), ChainCost())


def kick_cycles(chains: Sequence[ChainCost]) -> float:
    """Cycles at 1 GHz of chains that run at the same time, one on each core.

    Those of the busiest core, or what all their traffic takes, since the cores share the DRAM.
    """
    busiest = max((chain.cycles for chain in chains), default=0.0)
    return layer_cycles(busiest, ddr_cycles(sum(chain.moved_bytes for chain in chains)))


def kick_cost(chains: Sequence[ChainCost]) -> float:
    """What the compiler minimises where cores share the work: cycles, the kick itself, and a share of its compute."""
    busiest = max((chain.mac_cycles for chain in chains), default=0)
    return kick_cycles(chains) + KICK_CYCLES + COMPUTE_WEIGHT * busiest
