"""Tasks whose every byte goes the same way run as a table of 256 bytes: the same bytes as the int64 formulas."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.emulator.element_wise import ElementOp, ElementWise, OperandConverter
from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.stages import Add, Multiply, OutputConverter, scalar

BYTES = np.arange(256, dtype=np.uint8).view(np.int8)[:, None]
STEPS = (Add(scalar(-7)), Multiply(scalar(13_001), 9, 9, prelu=False), OutputConverter(77, 11, 5, True, 8))


@pytest.mark.parametrize("steps", [STEPS, STEPS[::2], STEPS[2:]])
def test_the_table_holds_what_the_formulas_give(steps: tuple[Add | Multiply | OutputConverter, ...]) -> None:
    pipeline = Pipeline(steps, 128, np.dtype(np.int8))
    exact = np.empty((256, 1), np.int8)
    pipeline.exact(BYTES, None, exact)
    table = pipeline.byte_table()
    assert table is not None
    assert table.entries.tobytes() == exact.tobytes()
    np.testing.assert_array_equal(table.look_up(BYTES[::-1].view(np.uint8)), exact[::-1].view(np.uint8))


def test_wider_elements_have_no_table() -> None:
    assert Pipeline(STEPS, 1 << 15, np.dtype(np.int8)).byte_table() is None
    assert Pipeline(STEPS, 128, np.dtype(np.int16)).byte_table() is None


def test_pairs_have_a_table_of_their_own() -> None:
    addend = ElementWise(ElementOp.ADD, OperandConverter(3, 12_345, 6, True, False), 128)
    pipeline = Pipeline([*STEPS[:2], addend, OutputConverter(77, 13, 5, True, 8)], 128, np.dtype(np.int8))
    rng = np.random.default_rng(0)
    values, others = (rng.integers(-128, 128, (5000, 16)).astype(np.int8) for _ in range(2))
    exact = np.empty(values.shape, np.int8)
    pipeline.exact(values, others, exact)
    table = pipeline.pair_table()
    assert table is not None
    assert len(np.unique(exact)) > 100
    np.testing.assert_array_equal(table.look_up(values.view(np.uint8), others.view(np.uint8)).view(np.int8), exact)
