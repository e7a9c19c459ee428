"""Layers with degenerate numbers, drawn from a seed, and what exact arithmetic makes of them.

A layer is drawn once, free of any file format. Its result is computed here with integers and fractions of Python; no
code of the compiler or the emulator takes part.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

WEIGHTED = ("Conv", "DepthwiseConv", "GroupedConv", "ConvTranspose", "FullyConnected")
PAIRED = ("Add", "Sub", "Mul")
CONSTANT_PAIRED = ("AddConstant", "MulConstant")
KINDS = (*WEIGHTED, *PAIRED, *CONSTANT_PAIRED, "Requantize")

LARGEST_SCALE, SMALLEST_NORMAL, SMALLEST_SCALE = 1e30, 1.2e-38, 1.5e-45
INT32 = (-(1 << 31), (1 << 31) - 1)


@dataclass(frozen=True)
class Grid:
    """A quantization with one scale; `zero` is that of int8."""

    scale: float
    zero: int


@dataclass(frozen=True, eq=False)
class Layer:
    """One operator. Arrays are NHWC and OHWI, int8 as numbers; a uint8 file stores 128 more.

    weights: (OC, KH, KW, IC per group), with `weight_scales` (OC,) and one `weight_zero`. `bias` holds stored numbers
    with the real value bias * bias_steps, or None. `first` and `second` are the operands' grids; `second` and
    `others` belong to two-operand kinds.
    """

    kind: str
    data: Ints
    first: Grid
    output: Grid
    activation: str = "NONE"
    unsigned: bool = False
    weights: Ints | None = None
    weight_scales: tuple[float, ...] = ()
    weight_zero: int = 0
    bias: Ints | None = None
    bias_steps: tuple[Fraction, ...] = ()
    stride: int = 1
    groups: int = 1
    others: Ints | None = None
    second: Grid | None = None


def draw(rng: np.random.Generator, kind: str, format_: str) -> Layer:
    """A layer of this kind, as files of this format can have it."""
    unsigned = bool(rng.random() < 0.2)
    first, output = Grid(_scale(rng), _zero(rng)), Grid(_scale(rng), _zero(rng))
    activation = "NONE" if format_ == "QLinear" else str(rng.choice(["NONE", "NONE", "RELU", "RELU6"]))
    data = _bytes(rng, (1, int(rng.integers(1, 6)), int(rng.integers(1, 6)), int(rng.integers(1, 20))))
    if kind == "Requantize":
        output = Grid(_near_float32(first.scale / _gain(rng)), output.zero)
        return Layer(kind, data, first, output, unsigned=unsigned)
    if kind in WEIGHTED:
        return _weighted(rng, Layer(kind, data, first, output, activation, unsigned), format_)
    second = Grid(_near_float32(first.scale * 10.0 ** rng.uniform(-4, 4)), _zero(rng))
    scale = first.scale * second.scale / _gain(rng) if kind.startswith("Mul") else first.scale / _gain(rng)
    output = Grid(_near_float32(scale), output.zero)
    others = _bytes(rng, data.shape)
    if kind in CONSTANT_PAIRED:
        others = np.broadcast_to(others[:, :1, :1], data.shape)
    if rng.random() < 0.2:
        others = np.full(data.shape, second.zero)
    return Layer(kind, data, first, output, activation, unsigned, others=others, second=second)


def _weighted(rng: np.random.Generator, plain: Layer, format_: str) -> Layer:
    onnx = format_ != "TFLite"
    inputs = plain.data.shape[3]
    size, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    groups, outputs = 1, int(rng.integers(1, 40))
    if plain.kind == "FullyConnected":
        plain = Layer(**{**vars(plain), "data": plain.data[:, :1, :1]})
        size = stride = 1
    elif plain.kind == "DepthwiseConv":
        groups = outputs = inputs
    elif plain.kind == "GroupedConv":
        groups = next(count for count in (4, 3, 2, 1) if inputs % count == 0)
        outputs = groups * int(rng.integers(1, 12))
    channels = inputs // groups
    weights = _bytes(rng, (outputs, size, size, channels))
    per_channel = bool(rng.random() < 0.7) and (onnx or not plain.unsigned)
    asymmetric = not per_channel and (plain.unsigned or onnx) and rng.random() < 0.4
    zero = _zero(rng) if asymmetric else 0
    gains = np.array([_gain(rng) for _ in range(outputs)])
    if rng.random() < 0.4:  # as in trained layers: all near one another, but for a few
        gains = np.where(rng.random(outputs) < 0.2, gains, gains[0] * rng.uniform(0.2, 1, outputs))
    scales = [_near_float32(gain * plain.output.scale / plain.first.scale, SMALLEST_SCALE) for gain in gains]
    dead = rng.random(outputs) < rng.choice([0.0, 0.0, 0.3, 1.0], p=[0.4, 0.2, 0.35, 0.05])
    weights[dead] = zero
    for channel in np.flatnonzero(dead):
        scales[channel] = _near_float32(10.0 ** rng.uniform(-45, 30), SMALLEST_SCALE)
    scales = scales if per_channel else scales[:1] * outputs
    bias, bias_steps = _bias(rng, plain, scales, own_steps=format_ == "QDQ")
    return Layer(
        **{
            **vars(plain),
            "weights": weights,
            "weight_scales": tuple(scales),
            "weight_zero": zero,
            "bias": bias,
            "bias_steps": bias_steps,
            "stride": stride,
            "groups": groups,
        }
    )


def _bias(
    rng: np.random.Generator, layer: Layer, scales: list[float], *, own_steps: bool
) -> tuple[Ints | None, tuple[Fraction, ...]]:
    """Stored numbers to the ends of int32, in steps of data times weights, or at times in others (`own_steps`)."""
    count = len(scales)
    steps = [Fraction(layer.first.scale) * Fraction(scale) for scale in scales]
    choice = rng.random()
    if choice < 0.15:
        return None, ()
    reach = 10.0 ** rng.uniform(0, 9.4, count)
    values = np.rint(rng.uniform(-1, 1, count) * reach)
    values = np.where(rng.random(count) < 0.1, rng.choice(INT32, count), values)
    values = np.clip(values, *INT32).astype(np.int64)
    if own_steps:
        factor = 10.0 ** rng.uniform(-3, 3) if choice < 0.4 else 1.0
        numbers = [_near_float32(float(step) * factor, SMALLEST_SCALE) for step in steps]
        if choice > 0.9:
            numbers[int(rng.integers(count))] = _near_float32(0, SMALLEST_SCALE)
        steps = [Fraction(number) for number in numbers]
    return values, tuple(steps)


def _scale(rng: np.random.Generator) -> float:
    """A scale of an activation: mostly plain, else anything that float32 holds."""
    if rng.random() < 0.6:
        return _near_float32(10.0 ** rng.uniform(-4, 1))
    lowest = math.log10(SMALLEST_SCALE if rng.random() < 0.05 else SMALLEST_NORMAL)
    return _near_float32(10.0 ** rng.uniform(lowest, 30), SMALLEST_SCALE)


def _gain(rng: np.random.Generator) -> float:
    """Mostly one that keeps sums of some ten products in the output's range, else any of 1e-14 to 1e3."""
    return 10.0 ** (rng.uniform(-4.5, -1.5) if rng.random() < 0.6 else rng.uniform(-14, 3))


def _near_float32(value: float, smallest: float = SMALLEST_NORMAL) -> float:
    return float(np.float32(min(max(value, smallest), LARGEST_SCALE)))


def _zero(rng: np.random.Generator) -> int:
    return int(rng.choice([-128, 127, 0, int(rng.integers(-128, 128))]))


def _bytes(rng: np.random.Generator, shape: tuple[int, ...]) -> Ints:
    """Noise, at times of the ends of int8 only."""
    ends = rng.random() < 0.2
    return rng.choice([-128, 127], shape) if ends else rng.integers(-128, 128, shape)


def exact(layer: Layer) -> Ints:
    """The layer's result: reals without error, rounded once to nearest, ties to even, then clamped."""
    scale = Fraction(layer.output.scale)
    x = layer.data - layer.first.zero
    if layer.weights is not None:
        sums = _sums(layer, x, layer.weights - layer.weight_zero)
        units = [Fraction(layer.first.scale) * Fraction(each) / scale for each in layer.weight_scales]
        parts = [Fraction(0)] * len(units)
        if layer.bias is not None:
            parts = [value * step / scale for value, step in zip(layer.bias.tolist(), layer.bias_steps, strict=True)]
        rounded = [_steps(sums[..., c], units[c], parts[c]) for c in range(len(units))]
        return _clamped(layer, np.stack(rounded, axis=-1))
    unit = Fraction(layer.first.scale) / scale
    if layer.kind == "Requantize":
        return _clamped(layer, _steps(x, unit, Fraction(0)))
    assert layer.others is not None
    assert layer.second is not None
    y = layer.others - layer.second.zero
    if layer.kind.startswith("Mul"):
        return _clamped(layer, _steps(x * y, unit * Fraction(layer.second.scale), Fraction(0)))
    sign = -1 if layer.kind == "Sub" else 1
    other = sign * Fraction(layer.second.scale) / scale
    pairs = zip(x.reshape(-1).tolist(), y.reshape(-1).tolist(), strict=True)
    return _clamped(layer, np.array([_round(a * unit + b * other) for a, b in pairs]).reshape(x.shape))


def _sums(layer: Layer, x: Ints, weights: Ints) -> Ints:
    """Sums of products, int64 (1, H, W, OC); a transposed convolution writes all it reaches."""
    if layer.kind == "ConvTranspose":
        return _scattered(layer, x, weights)
    outputs, size, _, channels = weights.shape
    pad = same_pads(layer)
    x = np.pad(x, ((0, 0), pad[0], pad[1], (0, 0)))
    rows, columns = ((x.shape[axis] - size) // layer.stride + 1 for axis in (1, 2))
    each = outputs // layer.groups
    result = np.zeros((1, rows, columns, outputs), np.int64)
    for output in range(outputs):
        first = output // each * channels
        own = x[..., first : first + channels]
        for y in range(size):
            for z in range(size):
                window = own[:, y : y + (rows - 1) * layer.stride + 1 : layer.stride]
                window = window[:, :, z : z + (columns - 1) * layer.stride + 1 : layer.stride]
                result[..., output] += (window * weights[output, y, z]).sum(axis=-1)
    return result


def same_pads(layer: Layer) -> tuple[tuple[int, int], tuple[int, int]]:
    """Rows and columns of padding of a convolution, as TFLite's SAME has them."""
    assert layer.weights is not None
    found: list[tuple[int, int]] = []
    for axis in (1, 2):
        size = layer.data.shape[axis]
        total = max((-(-size // layer.stride) - 1) * layer.stride + layer.weights.shape[axis] - size, 0)
        found.append((total // 2, total - total // 2))
    return found[0], found[1]


def _scattered(layer: Layer, x: Ints, weights: Ints) -> Ints:
    outputs, size, _, _ = weights.shape
    shape = [(x.shape[axis] - 1) * layer.stride + size for axis in (1, 2)]
    result = np.zeros((1, *shape, outputs), np.int64)
    for row in range(x.shape[1]):
        for column in range(x.shape[2]):
            part = np.einsum("ohwi,i->hwo", weights, x[0, row, column])
            top, left = row * layer.stride, column * layer.stride
            result[0, top : top + size, left : left + size] += part
    return result


def _steps(values: Ints, unit: Fraction, addend: Fraction) -> Ints:
    known: dict[int, int] = {}
    for value in np.unique(values).tolist():
        known[value] = _round(value * unit + addend)
    return np.array([known[value] for value in values.reshape(-1).tolist()], np.int64).reshape(values.shape)


def _round(value: Fraction) -> int:
    return min(max(round(value), -(1 << 40)), 1 << 40)


def _clamped(layer: Layer, steps: Ints) -> Ints:
    zero, low, high = layer.output.zero, -128, 127
    if layer.activation != "NONE":
        low = max(low, zero)
    if layer.activation == "RELU6":
        high = min(high, zero + _round(6 / Fraction(layer.output.scale)))
    return np.clip(steps + zero, low, high)


def describe(layer: Layer) -> str:
    """The numbers of a layer in one line."""
    parts: list[Any] = [layer.kind, layer.data.shape, layer.first, layer.output, layer.activation]
    if layer.weights is not None:
        scales = np.array(layer.weight_scales)
        parts += [layer.weights.shape, f"weights {scales.min():.3g}..{scales.max():.3g} zero {layer.weight_zero}"]
        if layer.bias is not None:
            parts += [f"bias {layer.bias.min()}..{layer.bias.max()} x {float(min(layer.bias_steps)):.3g}.."]
    else:
        parts.append(layer.second)
    return " ".join(map(str, parts)) + (" uint8" if layer.unsigned else "")
