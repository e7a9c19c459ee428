"""A bracket encloses the exact output bytes of every pipeline that has one, and the exact stages settle the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from rocketnpu.emulator.affine import Bracket
from rocketnpu.emulator.element_wise import ElementOp, ElementWise, OperandConverter
from rocketnpu.emulator.library import FLOAT32_EXACT, FloatConvolution, Geometry
from rocketnpu.emulator.pipeline import Pipeline
from rocketnpu.emulator.stages import Add, Clamp, Multiply, Operand, OutputConverter, Step, Truncate, scalar
from rocketnpu.emulator.workspace import Workspace
from rocketnpu.errors import DeviceError

Array = NDArray[Any]
CHANNELS = 8
INT8 = np.dtype(np.int8)
BOUND = 1 << 22


def ends(bracket: Bracket, accumulators: Array, element: Array | None) -> tuple[Array, Array]:
    """Both ends in float32, as the library's docstring says."""
    t = (accumulators + bracket.bias + bracket.shift).astype(np.float32) * bracket.slope
    if bracket.weight is not None:
        assert element is not None
        t = t + element.astype(np.float32) * bracket.weight
    t = t if bracket.offset is None else t + bracket.offset
    t = t if bracket.floor is None else np.maximum(t, bracket.floor)
    t = t if bracket.ceiling is None else np.minimum(t, bracket.ceiling)
    low, high = (np.clip(np.rint(t + np.float32(up)), -128, 127) for up in (0, bracket.width))
    return low.astype(np.int8), high.astype(np.int8)


def operands(element: st.SearchStrategy[int]) -> st.SearchStrategy[Operand]:
    several = st.lists(element, min_size=CHANNELS, max_size=CHANNELS).map(lambda v: Operand(np.array(v, np.int64)))
    return st.one_of(element.map(scalar), several)


def multiply(operand: Operand, shift: int) -> Multiply:
    return Multiply(operand, shift, shift, prelu=False)


biases = operands(st.integers(-100_000, 100_000)).map(Add)
multiplies = st.builds(multiply, operands(st.integers(-(1 << 15), (1 << 15) - 1)), st.integers(0, 30))
additions = st.builds(
    ElementWise,
    operation=st.sampled_from([ElementOp.ADD, ElementOp.MINUS]),
    converter=st.one_of(
        st.none(),
        st.builds(
            OperandConverter,
            offset=st.integers(-300, 300),
            scale=st.integers(-(1 << 15), (1 << 15) - 1),
            shift=st.integers(0, 20),
            add_first=st.booleans(),
            ties_away=st.booleans(),
        ),
    ),
    operand_magnitude=st.just(128),
)
clamps = st.builds(Clamp, st.one_of(st.none(), st.integers(0, 1 << 20)))
outputs = st.builds(
    OutputConverter,
    scale=st.one_of(st.just(1), st.integers(-(1 << 15), (1 << 15) - 1)),
    shift=st.integers(0, 40),
    offset=st.one_of(st.sampled_from([-128, 127, 0]), st.integers(-300, 300)),
    ties_away=st.booleans(),
    bits=st.just(8),
)


@st.composite
def pipelines(draw: st.DrawFn) -> list[Step]:
    """The stages in the order of the hardware, each there or not."""
    truncate = st.builds(Truncate, shift=st.integers(1, 10), half_up=st.booleans())
    order = [truncate, biases, multiplies, clamps, biases, multiplies, clamps, additions, clamps]
    kept = draw(st.lists(st.booleans(), min_size=len(order), max_size=len(order)))
    return [*(draw(stage) for stage, keep in zip(order, kept, strict=True) if keep), draw(outputs)]


@settings(max_examples=400, deadline=None)
@given(steps=pipelines(), seed=st.integers(0, 1 << 16))
def test_the_exact_byte_lies_between_the_ends(steps: list[Step], seed: int) -> None:
    try:
        pipeline = Pipeline(steps, BOUND, INT8)
    except DeviceError:
        reject()
    bracket = pipeline.bracket()
    if bracket is None:
        return
    rng = np.random.default_rng(seed)
    spread = np.exp2(rng.uniform(0, 22, (3000, 1)))
    accumulators = np.clip(np.rint(rng.uniform(-1, 1, (3000, CHANNELS)) * spread), -BOUND, BOUND)
    accumulators[:2] = [[-BOUND] * CHANNELS, [BOUND] * CHANNELS]
    element = rng.integers(-128, 128, accumulators.shape).astype(np.int8)
    expected = np.empty(accumulators.shape, np.int8)
    pipeline.exact(accumulators, element, expected)
    low, high = ends(bracket, accumulators, element)
    np.testing.assert_array_equal(np.minimum(np.maximum(expected, low), high), expected)
    sums = accumulators + bracket.bias + bracket.shift
    assert np.abs(sums).max() <= FLOAT32_EXACT
    settled = pipeline.settle(bracket, (sums, low, high), element, Workspace())
    np.testing.assert_array_equal(settled, expected)


def every_byte(steps: list[Step], gain: int, element: Array | None = None) -> tuple[Array, Array, int]:
    """The library's settled bytes and the exact ones for acc = byte*gain + lane of all bytes; the number in doubt."""
    weights = np.array([gain, 1], np.int64)
    values = np.stack([np.repeat(np.arange(-128, 128), 16), np.tile(np.arange(-8, 8), 256)], axis=1)
    bound = 128 * int(np.abs(weights).sum())
    pipeline = Pipeline(steps, bound, INT8)
    bracket = pipeline.bracket()
    assert bracket is not None
    kernel = np.broadcast_to(weights.astype(np.float32), (CHANNELS, 1, 1, 2))
    geometry = Geometry((1, len(values), 2), (1, 1), (1, 1), depthwise=False)
    convolution = FloatConvolution(geometry, np.ascontiguousarray(kernel), bracket)
    convolution.window()[0] = values
    if element is not None:
        convolution.element()[...] = element
    sums, low, high = convolution.run()
    doubtful = int(np.count_nonzero(low != high))
    found = pipeline.settle(bracket, (sums, low, high), element, Workspace())
    exact = np.empty(found.shape, np.int8)
    pipeline.exact(np.broadcast_to((values @ weights)[:, None], found.shape), element, exact)
    return found, exact, doubtful


SLOPES = Operand(np.array([20_001, 17_000, 32_767, 16_411, 30_003, 25_000, 19_999, 23_457], np.int64))


@pytest.mark.parametrize(
    "steps",
    [
        [Add(Operand(np.arange(CHANNELS) * 37 - 100)), multiply(SLOPES, 23), OutputConverter(1, 0, 5, False, 8)],
        [
            Add(scalar(999)),
            multiply(scalar(21_001), 0),
            multiply(scalar(30_001), 30),
            OutputConverter(1, 7, -128, True, 8),
        ],
        [Add(scalar(-77)), multiply(scalar(21_001), 19), OutputConverter(1, 1, -128, True, 8)],
        [multiply(scalar(21_001), 19), OutputConverter(1, 1, 127, True, 8)],
        [multiply(SLOPES, 14), Clamp(5000), OutputConverter(16_400, 20, -40, False, 8)],
        [multiply(scalar(-21_001), 18), OutputConverter(1, 6, 3, False, 8)],
    ],
    ids=["per channel", "two multipliers", "halves up", "halves down", "clamped", "falling"],
)
def test_the_library_and_the_exact_stages_settle_on_the_exact_bytes(steps: list[Step]) -> None:
    found, exact, doubtful = every_byte(steps, 300)
    np.testing.assert_array_equal(found, exact)
    assert len(np.unique(exact)) > 40
    assert doubtful < found.size / 8


@pytest.mark.parametrize(
    ("shift", "converter", "output"),
    [
        (8, OperandConverter(-3, 20_000, 4, True, False), OutputConverter(17_000, 27, 4, False, 8)),
        (16, OperandConverter(-3, 20_001, 8, False, True), OutputConverter(1, 6, 4, False, 8)),
    ],
    ids=["fine", "both addends rounded"],
)
def test_an_element_takes_part_in_the_bracket(shift: int, converter: OperandConverter, output: OutputConverter) -> None:
    element = np.random.default_rng(0).integers(-128, 128, (256 * 16, CHANNELS)).astype(np.int8)
    addend = ElementWise(ElementOp.ADD, converter, 128)
    found, exact, doubtful = every_byte([multiply(SLOPES, shift), addend, output], 300, element)
    np.testing.assert_array_equal(found, exact)
    assert 0 < doubtful < found.size / 8


@pytest.mark.parametrize(
    "steps",
    [
        [Multiply(scalar(20_001), 23, 23, prelu=True), OutputConverter(1, 0, 0, False, 8)],
        [Multiply(scalar(20_001), 23, 20, prelu=False), OutputConverter(1, 0, 0, False, 8)],
        [multiply(scalar(20_001), 19), OutputConverter(1, 1, 0, True, 8)],
        [multiply(scalar(32_767), 0), OutputConverter(1, 30, 0, True, 8)],
        [Clamp(None), ElementWise(ElementOp.ADD, None, 128), OutputConverter(1, 0, 0, False, 8)],
        [ElementWise(ElementOp.MAX, None, 128), OutputConverter(1, 0, 0, False, 8)],
    ],
    ids=["PReLU", "two shifts", "halves both ways", "saturates within int8", "clamped addend", "maximum"],
)
def test_what_is_no_multiply_add_has_no_bracket(steps: list[Step]) -> None:
    assert Pipeline(steps, BOUND, INT8).bracket() is None
