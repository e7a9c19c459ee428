"""Integer convolutions by the float library are exact, also where float32 alone would not hold the sums."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.emulator import library
from rocketnpu.emulator.library import FLOAT32_EXACT, FloatConvolution, Geometry, exact_parts


def convolved(geometry: Geometry, weights: NDArray[np.float32], window: NDArray[np.int8]) -> NDArray[np.float32]:
    convolution = FloatConvolution(geometry, weights)
    convolution.window()[...] = window
    return convolution.run()[0]


@pytest.mark.parametrize(
    ("shape", "count"),
    [((4, 1, 1, 16), 1), ((4, 1, 1, 1024), 2), ((4, 1, 1, 5003), 10), ((2, 9, 9, 40), 8), ((64, 33, 33, 1), 3)],
)
def test_parts_add_up_and_stay_within_the_bound(shape: tuple[int, int, int, int], count: int) -> None:
    """Even if all weights are as large as can be; the last two do not fit with one atom, with one lane."""
    weights = np.random.default_rng(0).choice(np.array([-255, 255], np.int32), shape)
    parts = exact_parts(weights, 128)
    total = np.zeros(shape, np.int64)
    for part in parts:
        assert part.first % 16 == 0
        total[..., part.first : part.last] += part.weights.astype(np.int64)
        assert np.abs(part.weights).sum(axis=(1, 2, 3)).max() * 128 <= FLOAT32_EXACT
    np.testing.assert_array_equal(total, weights)
    assert len(parts) == count


def test_parts_of_a_deep_input_hold_each_weight_once() -> None:
    weights = np.random.default_rng(0).integers(-127, 128, (32, 1, 1, 25088), dtype=np.int32)
    assert sum(part.weights.size for part in exact_parts(weights, 128)) == weights.size


def test_extreme_sums_beyond_float32_are_exact_in_parts() -> None:
    """2^24 + 1 is no float32: without parts the last unit would be lost."""
    weights = np.full((2, 1, 1, 2000), 127, np.int32)
    weights[0, 0, 0, 0] = 1
    window = np.full((1, 1, 2000), -127, np.int8)
    found = np.zeros(2)
    for part in exact_parts(weights, 128):
        geometry = Geometry((1, 1, part.last - part.first), (1, 1), (1, 1), depthwise=False)
        found += convolved(geometry, part.weights, window[..., part.first : part.last])[0]
    expected = window.reshape(-1).astype(np.int64) @ weights.reshape(2, -1).T
    assert np.abs(expected).max() > FLOAT32_EXACT
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("stride", "dilation"), [((1, 1), (1, 1)), ((2, 3), (1, 1)), ((1, 1), (2, 3)), ((2, 2), (2, 1))]
)
def test_depthwise_strides_and_dilations(stride: tuple[int, int], dilation: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(-128, 128, (1, 3, 2, 16), dtype=np.int32)
    window = rng.integers(-128, 128, (11, 12, 16), dtype=np.int8)
    found = convolved(Geometry((11, 12, 16), stride, dilation, depthwise=True), weights.astype(np.float32), window)
    height = (11 - (2 * dilation[0] + 1)) // stride[0] + 1
    width = (12 - (dilation[1] + 1)) // stride[1] + 1
    expected = np.zeros((height, width, 16), np.int64)
    for y in range(height):
        for x in range(width):
            for ky in range(3):
                for kx in range(2):
                    pixel = window[y * stride[0] + ky * dilation[0], x * stride[1] + kx * dilation[1]].astype(np.int64)
                    expected[y, x] += pixel * weights[0, ky, kx]
    np.testing.assert_array_equal(found, expected.reshape(-1, 16))


def reference(geometry: Geometry, weights: NDArray[np.int32], window: NDArray[np.int8]) -> NDArray[np.int64]:
    """Sums [pixels, channels] by the definition."""
    rows, columns = geometry.output_size(weights.shape[1:3])
    (step_y, step_x), (height, width) = geometry.dilation, weights.shape[1:3]
    found = []
    for y in range(rows):
        for x in range(columns):
            top, left = y * geometry.stride[0], x * geometry.stride[1]
            patch = window[top : top + height * step_y : step_y, left : left + width * step_x : step_x]
            found.append(weights.reshape(len(weights), -1).astype(np.int64) @ patch.reshape(-1))
    return np.array(found)


@pytest.mark.parametrize("largest", [127, 128], ids=["int8 weights", "wider weights"])
@pytest.mark.parametrize(
    ("window", "weights", "stride", "dilation"),
    [
        ((1, 9, 16), (5, 1, 1, 16), (1, 1), (1, 1)),
        ((12, 11, 32), (33, 3, 3, 32), (1, 1), (1, 1)),
        ((12, 11, 3), (16, 5, 4, 3), (2, 3), (1, 1)),
        ((13, 14, 48), (7, 3, 2, 48), (1, 2), (2, 3)),
    ],
)
def test_dense_sums_are_exact(
    window: tuple[int, int, int],
    weights: tuple[int, int, int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    largest: int,
) -> None:
    rng = np.random.default_rng(largest)
    kernels = rng.integers(-largest, largest + 1, weights, dtype=np.int32)
    kernels[0, 0, 0, 0] = -largest
    geometry = Geometry(window, stride, dilation, depthwise=False)
    for low, high in ((-128, 127), (3, 4), (-5, 0)):
        values = rng.integers(low, high + 1, window, dtype=np.int8)
        found = convolved(geometry, kernels.astype(np.float32), values)
        np.testing.assert_array_equal(found, reference(geometry, kernels, values))


def test_a_library_that_quantizes_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the whole range in the window its values are quantized to another scale."""
    rng = np.random.default_rng(1)
    kernels = rng.integers(-127, 128, (8, 3, 3, 16), dtype=np.int32)
    values = rng.integers(-128, 128, (9, 9, 16), dtype=np.int8)
    geometry = Geometry(values.shape, (1, 1), (1, 1), depthwise=False)
    monkeypatch.setattr(library, "_WHOLE_RANGE", np.array([-1, 1], np.int8))
    built = []
    build = FloatConvolution._build

    def counted(self: FloatConvolution, *arguments: object, int8: bool) -> None:
        built.append(int8)
        build(self, *arguments, int8=int8)

    monkeypatch.setattr(FloatConvolution, "_build", counted)
    found = convolved(geometry, kernels.astype(np.float32), values)
    assert built == [True, False]
    np.testing.assert_array_equal(found, reference(geometry, kernels, values))
