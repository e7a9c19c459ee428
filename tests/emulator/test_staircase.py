"""The float form of a DPU pipeline is used only where it gives the bytes of the exact one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.emulator.staircase import Staircase, fit_staircase
from rocketnpu.emulator.workers import Workspace
from rocketnpu.hw.arithmetic import multiply_shift, output_convert, relux

Array = NDArray[Any]
BOUND = 150_000
SHIFT = 15


def stages(alu: Array, gain: float, zero: int, ceiling: int | None = None) -> tuple[Callable[[Array], Array], float]:
    """BS ALU, BS MUL, an optional ReLUX and OUT_CVT as a function of accumulators, and their real gain."""
    mantissa, exponent = np.frexp(gain)
    multiplier = round(float(mantissa) * (1 << SHIFT))

    def exact(accumulators: Array) -> Array:
        v = multiply_shift(accumulators.astype(np.int64) + alu, multiplier, SHIFT, SHIFT)
        v = v if ceiling is None else relux(v, ceiling)
        return output_convert(v, 1, -int(exponent), zero, ties_away=True).astype(np.int8)

    return exact, float(np.ldexp(multiplier, int(exponent) - SHIFT))


def everywhere(fitted: Staircase, exact: Callable[[Array], Array], channels: int) -> tuple[Array, Array]:
    """Both forms on every accumulator of -BOUND..BOUND."""
    accumulators = np.broadcast_to(np.arange(-BOUND, BOUND + 1)[:, None], (2 * BOUND + 1, channels)).astype(np.float32)
    out = np.empty(accumulators.shape, np.int8)
    fitted.run(accumulators.astype(fitted.slope.dtype), out, Workspace())
    return out, exact(accumulators)


@pytest.mark.parametrize("ceiling", [None, 3000])
@pytest.mark.parametrize("gain", [0.3, 0.01, 0.0013, 0.0001])
def test_a_fit_gives_the_exact_bytes_for_every_accumulator(gain: float, ceiling: int | None) -> None:
    alu = np.random.default_rng(0).integers(-2000, 2000, 4)
    exact, slope = stages(alu, gain, -128, ceiling)
    fitted = fit_staircase(exact, np.full(4, slope), alu * slope - 128, BOUND)
    assert fitted is not None
    found, expected = everywhere(fitted, exact, 4)
    np.testing.assert_array_equal(found, expected)


def test_ties_away_on_both_sides_of_zero_lie_on_no_line() -> None:
    """Rounding twice, with ties away from zero, bends the staircase at zero: the exact stages stay in use."""
    alu = np.zeros(1, np.int64)
    exact, slope = stages(alu, 0.3, 0)
    assert fit_staircase(exact, np.full(1, slope), alu * slope, BOUND) is None


def test_one_late_rise_prevents_the_fit_or_is_fitted_exactly() -> None:
    alu = np.zeros(1, np.int64)
    exact, slope = stages(alu, 0.01, -128)
    steps = exact(np.arange(5000, 5200)[:, None])[:, 0]
    rise = 5001 + int(np.flatnonzero(np.diff(steps))[0])

    def late(accumulators: Array) -> Array:
        return np.where((accumulators >= rise) & (accumulators < rise + 20), steps[0], exact(accumulators))

    assert late(np.array([[rise]])) != exact(np.array([[rise]]))
    assert fit_staircase(late, np.full(1, slope), alu * slope - 128, BOUND) is None


def test_a_channel_that_never_rises_is_flat() -> None:
    alu = np.array([0, -(10**6)])
    exact, slope = stages(alu, 0.01, -128, None)
    fitted = fit_staircase(exact, np.full(2, slope), alu * slope - 128, BOUND)
    assert fitted is not None
    found, expected = everywhere(fitted, exact, 2)
    assert set(expected[:, 1].tolist()) == {-128}
    np.testing.assert_array_equal(found, expected)
