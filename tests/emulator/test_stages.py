"""The fast float64 form of every DPU stage equals its exact int64 form, which is hw.arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st

from rocketnpu.emulator.element_wise import ElementOp, ElementWise, OperandConverter
from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.stages import Add, Clamp, Lookup, Multiply, Operand, OutputConverter, Step, Truncate, scalar
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.errors import DeviceError
from rocketnpu.hw.arithmetic import LUT_ENTRIES, LookupTable, Slope

CHANNELS = 16
INT8 = np.dtype(np.int8)

int16 = st.integers(-(1 << 15), (1 << 15) - 1)
int32 = st.integers(-(1 << 31), (1 << 31) - 1)
shifts = st.integers(0, 63)


def _both(steps: list[Step], magnitude: int, seed: int, dtype: np.dtype[np.generic] = INT8) -> Pipeline:
    """Check that both forms agree on random, extreme and tie-prone inputs; the pipeline must have a fast form."""
    rng = np.random.default_rng(seed)
    pipeline = Pipeline(steps, magnitude, dtype)
    edges = np.array([0, 1, -1, magnitude, -magnitude], np.int64)
    small = rng.integers(-300, 301, 64)
    wide = rng.integers(-magnitude, magnitude + 1, 59)
    values = np.concatenate([edges, np.clip(small, -magnitude, magnitude), wide])[:, None]
    values = np.repeat(values, CHANNELS, axis=1).astype(np.float64)
    operand = rng.integers(-128, 128, values.shape).astype(np.int8)
    fast = pipeline.run(values, operand, Workspace()).copy()
    exact = np.empty(values.shape, dtype)
    pipeline.exact(values, operand, exact)
    np.testing.assert_array_equal(fast, exact)
    return pipeline


@st.composite
def operands(draw: st.DrawFn, element: st.SearchStrategy[int]) -> Operand:
    if draw(st.booleans()):
        return scalar(draw(element))
    return Operand(np.array(draw(st.lists(element, min_size=CHANNELS, max_size=CHANNELS)), np.int64))


@st.composite
def multiplies(draw: st.DrawFn) -> Multiply:
    positive = draw(shifts)
    negative = draw(st.one_of(st.just(positive), shifts))
    return Multiply(draw(operands(int16)), positive, negative, draw(st.booleans()))


outputs = st.builds(
    OutputConverter, scale=int16, shift=shifts, offset=int32, ties_away=st.booleans(), bits=st.sampled_from([8, 16, 32])
)
DTYPES = {8: INT8, 16: np.dtype(np.int16), 32: np.dtype(np.int32)}
clamps = st.builds(Clamp, st.one_of(st.none(), int32))
converters = st.builds(
    OperandConverter, offset=int32, scale=int16, shift=shifts, add_first=st.booleans(), ties_away=st.booleans()
)
elements = st.builds(
    ElementWise,
    operation=st.sampled_from(ElementOp),
    converter=st.one_of(st.none(), converters),
    operand_magnitude=st.just(128),
    constant=st.one_of(st.none(), int32),
)
truncates = st.builds(Truncate, shift=st.integers(1, 31), half_up=st.booleans())
programs = st.lists(
    st.one_of(operands(int32).map(Add), multiplies(), clamps, elements, truncates), min_size=0, max_size=4
)


@settings(max_examples=400, deadline=None)
@given(steps=programs, out=outputs, magnitude=st.integers(1, 1 << 34), seed=st.integers(0, 1 << 16))
def test_any_register_setting_gives_the_same_elements_in_both_forms(
    steps: list[Step], out: OutputConverter, magnitude: int, seed: int
) -> None:
    """Where the bounds leave float64's exact range, the pipeline takes the exact form by itself."""
    assume(sum(isinstance(step, ElementWise) for step in steps) <= 1)  # there is one EW stage
    try:
        Pipeline([*steps, out], magnitude, DTYPES[out.bits])
    except DeviceError:
        reject()
    _both([*steps, out], magnitude, seed, DTYPES[out.bits])


@pytest.mark.parametrize("ties_away", [False, True])
@pytest.mark.parametrize("shift", [1, 3, 14, 40])
def test_every_tie_of_the_output_converter_rounds_alike(shift: int, ties_away: bool) -> None:
    pipeline = Pipeline([OutputConverter(1, shift, 0, ties_away, 16)], 1 << 50, DTYPES[16])
    assert pipeline.fits_float64
    halves = np.arange(-9, 10, 2, dtype=np.float64)[:, None] * 2.0 ** (shift - 1)
    near = np.concatenate([halves, halves + 1, halves - 1])
    fast = pipeline.run(near, None, Workspace()).copy()
    exact = np.empty(near.shape, np.int16)
    pipeline.exact(near, None, exact)
    np.testing.assert_array_equal(fast, exact)
    expected = np.sign(halves) * np.floor(np.abs(halves) / 2**shift + 0.5) if ties_away else np.rint(halves / 2**shift)
    np.testing.assert_array_equal(fast[:10], expected)


def test_a_typical_layer_has_a_fast_form() -> None:
    """9*1024 taps of 8-bit products, 16-bit multipliers: nothing near 2^53."""
    steps: list[Step] = [Add(scalar(1 << 20)), Multiply(scalar(32767), 14, 14, prelu=False), Clamp(1000)]
    pipeline = _both([*steps, OutputConverter(17675, 22, -123, False, 8)], 9 * 1024 << 14, 0)
    assert pipeline.fits_float64


def test_products_beyond_float64_take_the_exact_form() -> None:
    step = ElementWise(ElementOp.MUL, OperandConverter(0, 32767, 0, True, False), 1 << 15)
    pipeline = _both([step, OutputConverter(1, 40, 0, False, 8)], 1 << 31, 1)
    assert not pipeline.fits_float64


def test_values_past_62_bits_are_refused() -> None:
    step = ElementWise(ElementOp.MUL, OperandConverter(1 << 30, 32767, 0, True, False), 128)
    with pytest.raises(DeviceError, match=r"values of 7[0-9] bits"):
        Pipeline([step, OutputConverter(1, 0, 0, False, 8)], 1 << 31, INT8)


def test_lookups_agree_inside_and_beyond_the_table() -> None:
    rng = np.random.default_rng(2)
    le, lo = (rng.integers(-(1 << 15), 1 << 15, LUT_ENTRIES).astype(np.int16) for _ in range(2))
    table = LookupTable(le, lo, Slope(37, 9), Slope(-11, 4))
    _both([Lookup(table), OutputConverter(3, 9, 1, False, 16)], 40000, 3, DTYPES[16])
