"""Register values of a move: a DPU-only task that copies bytes, or takes the larger of two (hardware/dpu.md, EW stage).

Evidence: the copy is the vendor's (hardware/layouts.md, Buffer sizes) without its change of grid; its output notch is
the vendor's of column tiles (hardware/dpu.md, Output writer). EW maxima of int8 are exact on silicon, 4096 elements.
Rows of a single pixel with a notch are silicon's in convolutions (hardware/layouts.md, Row-major matrices). Operands
that overlap in memory and a row that runs over the ends of the tensor's rows are other addresses and sizes for these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rocketnpu.compiler.emit.command_list import Address, TaskRegisters
from rocketnpu.compiler.emit.flying import flying_task
from rocketnpu.compiler.multicore.share import Share
from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, CubeShape, Move
from rocketnpu.compiler.tiling.areas import legal_moves
from rocketnpu.hw import codes
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.hw.registers import DPU, DPU_RDMA

ALGO_MAX = 0


def emit_moves(
    move: Move, first: Address, second: Address | None, output: Address, part: Share
) -> Iterator[TaskRegisters]:
    """The tasks of a part of one move, one for each image; the addresses are those of whole cubes."""
    plane = part.c0 // ATOM_CHANNELS
    planes = replace(move, channels=part.c1 - part.c0).further(
        plane * move.input_shape.pixels, plane * move.output_shape.pixels
    )
    for own in planes.rows(part.y0, part.y1):
        for legal in legal_moves(own):
            yield _emit_move(legal, first, second, output)


def _emit_move(move: Move, first: Address, second: Address | None, output: Address) -> TaskRegisters:
    shape = CubeShape(move.height, move.width, move.channels)
    pitch_in, pitch_out = move.input_shape.pixels, move.output_shape.pixels
    source, target = first + move.first_start * ATOM_BYTES, output + move.output_start * ATOM_BYTES
    task = flying_task(move.output, shape, source, target)
    row_gap = move.row_step - shape.width
    task.set(DPU.DST_SURF_STRIDE, DST_SURF_STRIDE=pitch_out)
    task.set(DPU.SURFACE_ADD, SURF_ADD=pitch_out)
    task.set(DPU.DATA_CUBE_NOTCH_ADDR, NOTCH_ADDR_0=row_gap, NOTCH_ADDR_1=row_gap)
    task.set(DPU_RDMA.RDMA_SURF_NOTCH, SURF_NOTCH_ADDR=pitch_in - shape.pixels)
    if second is None:
        return task
    task.set(
        DPU.EW_CFG,
        EW_CVT_TYPE=1,
        EW_DATA_MODE=codes.PER_PIXEL,
        EDATA_SIZE=codes.ELEMENT_8_BIT,
        EW_EQUAL_EN=1,
        EW_ALU_ALGO=ALGO_MAX,
        EW_RELU_BYPASS=1,
        EW_LUT_BYPASS=1,
        EW_OP_SRC=1,
    )
    task.set(DPU_RDMA.RDMA_ERDMA_CFG, ERDMA_DATA_MODE=codes.PER_PIXEL, ERDMA_DATA_SIZE=codes.ELEMENT_8_BIT)
    task.point(DPU_RDMA.RDMA_EW_BASE_ADDR, second + move.second_start * ATOM_BYTES)
    task.set(DPU_RDMA.RDMA_EW_SURF_STRIDE, EW_SURF_STRIDE=pitch_in)
    return task
