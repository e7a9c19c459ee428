"""DPU and PPU arithmetic against exact fractions, and the figures of hardware/dpu.md and hardware/ppu.md."""

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.errors import Error
from rocketnpu.hw import arithmetic as ar

wide = st.integers(-(2**62) + 1, 2**62 - 1)
products = st.integers(-(2**51), 2**51)
int32 = st.integers(-(2**31), 2**31 - 1)
int16 = st.integers(-(2**15), 2**15 - 1)
shifts = st.integers(0, 63)


def away(value: Fraction) -> int:
    return floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def clamp(value: int, bits: int) -> int:
    return max(-(2 ** (bits - 1)), min(2 ** (bits - 1) - 1, value))


@given(st.lists(st.tuples(wide, shifts), min_size=1))
def test_half_even_is_the_rounding_of_exact_fractions(pairs):
    p, s = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    expected = [round(Fraction(a, 2**b)) for a, b in pairs]
    assert ar.round_half_even(p, s).tolist() == expected


@given(st.lists(st.tuples(wide, shifts), min_size=1))
def test_half_away_is_the_rounding_of_exact_fractions(pairs):
    p, s = (np.array(column, np.int64) for column in zip(*pairs, strict=True))
    assert ar.round_half_away(p, s).tolist() == [away(Fraction(a, 2**b)) for a, b in pairs]


def test_ties_go_to_even_or_away_from_zero():
    values = np.arange(-7, 8, 2)  # odd halves
    assert ar.round_half_even(values, 1).tolist() == [-4, -2, -2, 0, 0, 2, 2, 4]
    assert ar.round_half_away(values, 1).tolist() == [-4, -3, -2, -1, 1, 2, 3, 4]


@given(int32, int16, shifts, shifts)
def test_multiplier_takes_its_shift_from_the_sign_of_the_product_and_saturates(x, c, positive, negative):
    shift = positive if x * c >= 0 else negative
    expected = clamp(round(Fraction(x * c, 2**shift)), 32)
    assert int(ar.multiply_shift(x, c, positive, negative)) == expected


def test_multiplier_with_shift_zero_saturates_to_int32():
    assert ar.multiply_shift([2**31 - 1, -(2**31)], 16384, 0, 0).tolist() == [2**31 - 1, -(2**31)]


def test_prelu_multiplies_negative_values_only():
    # The vendor's LeakyReLU: BS brings positive values to 2^14, BN multiplies negative ones by alpha*2^14.
    accumulators = np.array([-1000, -1, 0, 1, 1000])
    scaled = ar.multiply_shift(accumulators, 16384, 0, 14)
    assert scaled.tolist() == [-1000, -1, 0, 16384, 16384000]
    assert ar.prelu_multiply(scaled, round(0.1 * 2**14), 0, 0).tolist() == [-1638000, -1638, 0, 16384, 16384000]


def test_relu_and_its_ceiling():
    assert ar.relu([-5, 0, 5]).tolist() == [0, 0, 5]
    assert ar.relux([-5, 0, 5, 9], 7).tolist() == [0, 0, 5, 7]


@given(int32, int16, shifts, st.integers(-128, 127), st.booleans(), st.sampled_from([8, 16, 32]))
def test_output_converter_scales_shifts_offsets_and_saturates_last(v, scale, shift, offset, ties_away, bits):
    exact = Fraction(v * scale, 2**shift)
    expected = clamp((away(exact) if ties_away else round(exact)) + offset, bits)
    assert int(ar.output_convert(v, scale, shift, offset, ties_away=ties_away, bits=bits)) == expected


def test_output_scale_0x8000_is_negative():
    assert int(ar.output_convert(64, -0x8000, 15, 0)) == -64


@given(st.integers(-128, 127), st.integers(-128, 127), int16, shifts)
def test_operand_converter_adds_first(e, offset, scale, shift):
    expected = round(Fraction((e + offset) * scale, 2**shift))
    assert int(ar.operand_convert(e, offset, scale, shift)) == expected


def test_operand_converter_never_meets_a_tie_with_an_odd_scale_and_shift_10():
    operands = np.arange(-256, 256)  # every int8 minus every zero point
    for scale in (1, 0x4001, -0x4001, 0x7FFF):
        products = operands * scale
        expected = ar.round_half_away(products, 10).tolist()
        assert ar.operand_convert(operands, 0, scale, 10).tolist() == expected


@pytest.mark.parametrize("k", [(2, 2), (4, 4), (2, 1), (8, 2)])
def test_average_over_powers_of_two_rounds_ties_to_even(k):
    n = k[0] * k[1]
    sums = np.arange(-128 * n, 127 * n + 1)
    assert ar.average_pool(sums, *k).tolist() == [round(Fraction(int(s), n)) for s in sums]


@pytest.mark.parametrize("k", [(3, 2), (2, 3), (6, 6), (1, 6)])
def test_average_with_an_inexact_reciprocal_steps_ties_toward_zero(k):
    n = k[0] * k[1]
    sums = np.arange(-128 * n, 127 * n + 1)
    expected = []
    for s in map(int, sums):
        magnitude = -floor(Fraction(1, 2) - Fraction(abs(s), n))  # ceil(|s|/n - 1/2): ties down
        expected.append(magnitude if s >= 0 else -magnitude)
    assert ar.average_pool(sums, *k).tolist() == expected


def test_average_over_an_odd_window_has_no_ties():
    sums = np.arange(-128 * 9, 127 * 9 + 1)
    assert ar.average_pool(sums, 3, 3).tolist() == [away(Fraction(int(s), 9)) for s in sums]


def sigmoid_table():
    points = np.arange(-16384, 16385, 32) / 2048
    values = np.round(32767 / (1 + np.exp(-points))).astype(np.int16)
    return ar.LookupTable(values[:513], values[512:])


def test_lookup_meets_its_entries_and_interpolates_between_them():
    table = sigmoid_table()
    assert ar.look_up([-16384, -32, 0, 32, 16352], table).tolist() == [
        int(v) for v in (table.le[0], table.le[511], table.lo[0], table.lo[1], table.lo[511])
    ]
    low, high = int(table.lo[3]), int(table.lo[4])
    for f in range(32):
        expected = floor(Fraction(low * (32 - f) + high * f, 32) + Fraction(1, 2))
        assert int(ar.look_up(96 + f, table)) == expected


def test_lookup_crosses_from_the_negative_to_the_positive_table_at_zero():
    le, lo = np.full(513, -100, np.int16), np.full(513, 100, np.int16)
    le[512] = 7777  # past the last step of LE the hardware goes on with LO[0]
    assert ar.look_up([-33, -32, -16, -1, 0], ar.LookupTable(le, lo)).tolist() == [-100, -100, 0, 94, 100]


def test_lookup_extrapolates_with_its_slopes():
    ramp = np.arange(-512, 513, dtype=np.int16)
    table = ar.LookupTable(ramp[:513], ramp[512:], underflow=ar.Slope(1, 5), overflow=ar.Slope(3, 1))
    assert ar.look_up([16384, 16385, 16386, 20000], table).tolist() == [512, 514, 515, 512 + 5424]
    assert ar.look_up([-16384, -16385, -16400, -20000], table).tolist() == [-512, -512, -512, -512 - 113]


def test_lookup_refuses_short_tables():
    with pytest.raises(Error, match="513 entries"):
        ar.LookupTable(np.zeros(512, np.int16), np.zeros(513, np.int16))


def test_shifts_that_no_register_holds_are_refused():
    with pytest.raises(Error, match="is outside"):
        ar.round_half_even(1, 64)
    with pytest.raises(Error, match="is outside"):
        ar.round_half_away([1, 2], [0, -1])
