"""Tasks that break a rule: rows cut short at DATA_ENTRIES, poisoned outputs, disputed rules, strict emulators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.emulator import Emulator
from rocketnpu.emulator.broken_rules import POISON
from rocketnpu.errors import DeviceError
from rocketnpu.hw import cbuf
from rocketnpu.hw.layouts import DenseImage, FeatureCube, pack_depthwise_weights, pack_direct_weights
from rocketnpu.hw.registers import CNA

from .npu_programs import MEMORY_BYTES, Board, Conv, Writes, changed

LAYERS = {
    "1x1": Conv(5, 7, 64, 32, 5, 7, 0, 0, 0),
    "1x1, one leftover atom": Conv(5, 7, 80, 32, 5, 7, 0, 0, 0),
    "1x1, two leftover atoms": Conv(5, 8, 32, 32, 5, 8, 0, 0, 0),
    "1x1, three leftover atoms": Conv(5, 7, 48, 32, 5, 7, 0, 0, 0),
    "3x3": Conv(6, 8, 32, 32, 6, 8, 0, 0, 0, kernel=(3, 3), pad_top=1, pad_left=1),
    "depthwise": Conv(6, 8, 64, 64, 4, 6, 0, 0, 0, kernel=(3, 3), depthwise=True),
    "dense image": Conv(6, 16, 3, 32, 6, 16, 0, 0, 0, pitch=16, dense=True),
}


def placed(board: Board, layer: Conv) -> Conv:
    """The layer with features and weights in memory, none of them zero."""
    rng = np.random.default_rng(3)

    def signs(*shape: int) -> NDArray[np.int8]:
        return rng.choice(np.array([-1, 1], np.int8), shape)

    x = rng.integers(1, 4, (layer.height, layer.width, layer.channels)).astype(np.int8)
    features = DenseImage(*x.shape).pack(x) if layer.dense else FeatureCube(*x.shape).pack(x)
    if layer.depthwise:
        weights = pack_depthwise_weights(signs(*layer.kernel, layer.channels))
    else:
        channels = 16 if layer.dense else layer.channels
        weights = pack_direct_weights(signs(layer.outputs, *layer.kernel, channels))
    size = FeatureCube(layer.out_height, layer.out_width, layer.aligned).size_bytes
    return replace(
        layer, features=board.place(features), weights=board.place(weights), target=board.reserve(size), bias_use=0
    )


def output(board: Board, conv: Conv) -> NDArray[np.uint8]:
    return board.bytes_at(conv.target, FeatureCube(conv.out_height, conv.out_width, conv.aligned).size_bytes)


def with_entries(conv: Conv, change: int) -> Writes:
    writes = conv.writes()
    return changed(writes, CNA.CBUF_CON1, DATA_ENTRIES=writes[CNA.CBUF_CON1] + change)


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_a_row_that_has_too_few_entries_gives_wrong_bytes(layer: Conv) -> None:
    board = Board()
    conv = placed(board, layer)
    result = board.run((with_entries(conv, 0), conv.task()[1]))
    right = output(board, conv).copy()
    assert result.cores[0].warnings == ()
    result = board.run((with_entries(conv, -1), conv.task()[1]))
    assert (output(board, conv) != right).any()
    (warning,) = result.cores[0].warnings
    assert warning.startswith("core 0, task 0: data_entries_hold_the_row: CNA.CBUF_CON1.DATA_ENTRIES is")
    board.run((with_entries(conv, 1), conv.task()[1]))
    np.testing.assert_array_equal(output(board, conv), right)


def test_the_pixels_that_lose_their_entry_are_the_last_of_each_row() -> None:
    board = Board()
    conv = placed(board, LAYERS["1x1, three leftover atoms"])
    board.run((with_entries(conv, 0), conv.task()[1]))
    right = output(board, conv).reshape(-1, conv.height, conv.width, 16).copy()
    board.run((with_entries(conv, -1), conv.task()[1]))
    differ = (output(board, conv).reshape(right.shape) != right).any(axis=(0, 1, 3))
    assert differ.tolist() == [False] * 6 + [True]


@pytest.mark.parametrize("width", [1, 5, 8, 16])
@pytest.mark.parametrize("atoms", range(1, 13))
def test_each_atom_of_a_row_has_an_entry_and_no_entry_has_more_than_four(width: int, atoms: int) -> None:
    entries = cbuf.entries_of_atoms(width, atoms)
    counts = np.bincount(entries.reshape(-1))
    assert len(counts) == cbuf.data_entries_per_row(width, 16 * atoms)
    assert counts.min() >= 1
    assert counts.max() <= 4


def test_wrong_bytes_that_nobody_has_described_are_a_pattern() -> None:
    board = Board()
    conv = placed(board, LAYERS["1x1"])
    result = board.run((changed(conv.writes(), CNA.CBUF_CON0, FC_DATA_BANK=1), conv.task()[1]))
    assert (output(board, conv) == POISON).all()
    (warning,) = result.cores[0].warnings
    assert warning.startswith("core 0, task 0: fc_data_bank_is_zero")
    board.run(conv.task())
    assert (output(board, conv) != POISON).any()


def test_a_strict_emulator_refuses_both() -> None:
    board = Board(Emulator(MEMORY_BYTES, strict=True))
    conv = placed(board, LAYERS["1x1"])
    for writes in (with_entries(conv, -1), changed(conv.writes(), CNA.CBUF_CON0, FC_DATA_BANK=1)):
        with pytest.raises(DeviceError, match=r"core 0, task 0: .*(DATA_ENTRIES|FC_DATA_BANK)"):
            board.run((writes, conv.task()[1]))
    assert not output(board, conv).any()
