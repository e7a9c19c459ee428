"""Tasks whose every byte goes the same way run as a table of 256 bytes: the same bytes as the int64 formulas."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.stages import Add, Multiply, OutputConverter, scalar

BYTES = np.arange(256, dtype=np.uint8).view(np.int8)[:, None]
STEPS = (Add(scalar(-7)), Multiply(scalar(13_001), 9, 9, prelu=False), OutputConverter(77, 11, 5, True, 8))


@pytest.mark.parametrize("steps", [STEPS, STEPS[::2], STEPS[2:]])
def test_the_table_holds_what_the_formulas_give(steps: tuple[Add | Multiply | OutputConverter, ...]) -> None:
    pipeline = Pipeline(steps, 128, np.dtype(np.int8))
    exact = np.empty((256, 1), np.int8)
    pipeline.exact(BYTES, None, exact)
    assert pipeline.byte_table() == exact.tobytes()


def test_wider_elements_have_no_table() -> None:
    assert Pipeline(STEPS, 1 << 15, np.dtype(np.int8)).byte_table() is None
    assert Pipeline(STEPS, 128, np.dtype(np.int16)).byte_table() is None
