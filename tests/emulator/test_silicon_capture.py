"""The depthwise layer that a real RK3588 ran under Mesa's driver (vectors/silicon/teflon-dw), byte for byte."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw.registers import DPU

from .npu_programs import Board, Conv

ACTIVATION_BYTES = 8 * 8 * 64
WEIGHT_BYTES = 9 * 64


def _run(folder: Path, pad_word: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The emulator's output and the captured one."""

    def load(name: str, size: int) -> bytes:
        return (folder / f"mesa-{name}-000-000.bin").read_bytes()[:size]

    board = Board()
    conv = Conv(
        height=8,
        width=8,
        channels=64,
        outputs=64,
        out_height=8,
        out_width=8,
        features=board.place(load("input", ACTIVATION_BYTES)),
        weights=board.place(load("weights", WEIGHT_BYTES)),
        bias=board.place(load("biases", 256)),
        target=board.reserve(ACTIVATION_BYTES),
        kernel=(3, 3),
        pad_top=1,
        pad_left=1,
        pad_word=pad_word,
        depthwise=True,
        bias_use=1,
        weight_addend=128,
    )
    writes = conv.writes() | {
        DPU.OUT_CVT_SCALE: DPU.OUT_CVT_SCALE.encode(OUT_CVT_SCALE=17675),
        DPU.OUT_CVT_SHIFT: DPU.OUT_CVT_SHIFT.encode(OUT_CVT_SHIFT=22),
        DPU.OUT_CVT_OFFSET: DPU.OUT_CVT_OFFSET.encode(OUT_CVT_OFFSET=-123),
    }
    board.run((writes, conv.task()[1]))
    captured = np.frombuffer(load("output", ACTIVATION_BYTES), np.uint8)
    return board.bytes_at(conv.target, ACTIVATION_BYTES), captured


def test_the_captured_layer_gives_the_captured_bytes(shared: Path) -> None:
    result, captured = _run(shared / "vectors/silicon/teflon-dw", 0x0000007E)
    assert int((result == captured).sum()) == 4096, (result, captured)


def test_the_padding_byte_in_every_lane_misses_227_captured_bytes(shared: Path) -> None:
    """hardware/layouts.md, Padding value: a uniform 0x7e gives 3869 of 4096, so the capture proves the lane rule."""
    result, captured = _run(shared / "vectors/silicon/teflon-dw", 0x7E7E7E7E)
    assert int((result == captured).sum()) == 3869
