"""Exact integer convolutions by a float32 library: LiteRT's, one interpreter for each shape of tile.

Products and sums of integers are exact in float32 while no partial sum passes 2^24, in whatever order the library
adds. Weights whose sums could are given to it in parts, each within the bound, and the results are added in float64.
The DPU's stages may follow in the same run, as a bracket of their output (affine.py).

Where weights are int8, the library multiplies int8 by int8: it quantizes the float window by its least and largest
value, and two further channels hold -128 and 127 in every pixel, so that this changes nothing. Whether a build of the
library does all that is tried out on every convolution.

Measured against matrix products of patches and shifted multiply-adds in numpy: depthwise layers ten times faster, dense
ones as fast, with int8 weights four times; and the bracket four times faster than the stages in numpy.
"""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.cpu.litert.interpreter import build_interpreter
from rocketnpu.emulator.affine import Bracket
from rocketnpu.emulator.library_model import LibraryModel
from rocketnpu.hw.layouts import ATOM_BYTES

Array: TypeAlias = NDArray[Any]

FLOAT32_EXACT = 1 << 24
_VALID_PADDING = 1
_WHOLE_RANGE = np.array([-128, 127], np.int8)
_LARGEST_WEIGHT = 127
"""Libraries take int8 weights to be symmetric: products of -128 may overflow where two are added in 16 bits."""
_MOST_THREADS = 4
"""Each interpreter keeps its threads."""
_PROCESSORS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
_THREADS = min(_PROCESSORS, _MOST_THREADS)


@dataclass(frozen=True)
class Geometry:
    """A convolution without padding: `window_shape` is height, width, channels; stride and dilation in y and x."""

    window_shape: tuple[int, int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    depthwise: bool

    def output_size(self, kernel: tuple[int, ...]) -> tuple[int, ...]:
        """Height and width of the output for a kernel's height and width."""
        reach = [(size - 1) * step + 1 for size, step in zip(kernel, self.dilation, strict=True)]
        sizes = zip(self.window_shape[:2], reach, self.stride, strict=True)
        return tuple((size - last) // step + 1 for size, last, step in sizes)


class FloatConvolution:
    """One convolution of windows of one shape; not for concurrent use."""

    def __init__(self, geometry: Geometry, weights: NDArray[np.float32], bracket: Bracket | None = None) -> None:
        """`weights` [OC, KH, KW, IC], or [1, KH, KW, C] if depthwise. With a bracket sums have its bias and shift."""
        self._lanes = geometry.window_shape[2]
        fits = not geometry.depthwise and np.abs(weights).max(initial=0) <= _LARGEST_WEIGHT
        self._build(geometry, weights, bracket, int8=fits)
        if fits and not self._is_exact(geometry, weights, bracket):
            self._build(geometry, weights, bracket, int8=False)

    def _build(self, geometry: Geometry, weights: NDArray[np.float32], bracket: Bracket | None, *, int8: bool) -> None:
        file = _file(geometry, weights, bracket, int8=int8)
        self._interpreter: Any = build_interpreter(file, "fast", threads=_THREADS)
        output = weights.shape[3 if geometry.depthwise else 0] * math.prod(geometry.output_size(weights.shape[1:3]))
        # The file and the library's copy of its weights; the window, also as floats; sums, and a bracket's ends.
        self.kept_bytes = 2 * len(file) + 5 * math.prod(geometry.window_shape) + (4 if bracket is None else 10) * output
        self._inputs = [detail["index"] for detail in self._interpreter.get_input_details()]
        self._outputs = [detail["index"] for detail in self._interpreter.get_output_details()]

    def _is_exact(self, geometry: Geometry, weights: NDArray[np.float32], bracket: Bracket | None) -> bool:
        """Whether the first and last pixel are exact: a library that quantizes otherwise is wrong nearly everywhere.

        Its other way is one scale for both signs.
        """
        window = np.random.default_rng(0).integers(-100, 100, geometry.window_shape, np.int8)
        self.window()[...] = window
        sums = self.run()[0]
        (height, width), (step_y, step_x) = weights.shape[1:3], geometry.dilation
        rows, columns = geometry.output_size(weights.shape[1:3])
        kernels = weights.reshape(len(weights), -1)
        for pixel, y, x in ((0, 0, 0), (-1, (rows - 1) * geometry.stride[0], (columns - 1) * geometry.stride[1])):
            patch = window[y : y + height * step_y : step_y, x : x + width * step_x : step_x].astype(np.float32)
            expected = kernels @ patch.reshape(-1) + _bias(bracket, len(weights))
            if not np.array_equal(sums[pixel], expected):
                return False
        return True

    def window(self) -> NDArray[np.int8]:
        """The library's own memory for the input, [height, width, channels]: fill it, drop it, run."""
        memory: NDArray[np.int8] = self._interpreter.tensor(self._inputs[0])()[0]
        for lane in range(self._lanes, memory.shape[2]):
            memory[..., lane] = _WHOLE_RANGE[lane - self._lanes]
        return memory[..., : self._lanes]

    def element(self) -> NDArray[np.int8]:
        """The same for the second tensor of a bracket, [pixels, channels]."""
        view: Array = self._interpreter.tensor(self._inputs[1])()
        return view.reshape(-1, view.shape[-1])

    def run(self) -> list[Array]:
        """Sums, float32 [pixels, channels]; then the ends of the bracket, int8 alike.

        They are the library's own memory: drop them before the next run.
        """
        self._interpreter.invoke()
        views = [self._interpreter.tensor(index)() for index in self._outputs]
        return [view.reshape(-1, view.shape[-1]) for view in views]


@dataclass(frozen=True, eq=False)
class Part:
    """Some of a convolution's weights: float32 [channels, KH, KW, lanes] of the lanes first..last-1."""

    first: int
    last: int
    weights: NDArray[np.float32]


def exact_parts(weights: NDArray[np.int32], magnitude: int) -> list[Part]:
    """Parts that add up to `weights` [channels, KH, KW, lanes], each with sum(|w|) * magnitude within 2^24.

    They take whole atoms of lanes, as many as fit; the weights of an atom that does not fit are dealt to several parts.
    """
    limit = FLOAT32_EXACT // magnitude
    lanes = weights.shape[3]
    sums = np.abs(weights).sum(axis=(1, 2), dtype=np.int64)
    edges, total = [0], np.zeros(len(weights), np.int64)
    for first in range(0, lanes, ATOM_BYTES):
        atom = sums[:, first : first + ATOM_BYTES].sum(axis=1)
        if first > edges[-1] and int((total + atom).max(initial=0)) > limit:
            edges.append(first)
            total = np.zeros_like(total)
        total += atom
    return [
        Part(first, last, dealt)
        for first, last in itertools.pairwise([*edges, lanes])
        for dealt in _dealt(weights[..., first:last], limit)
    ]


def _dealt(weights: NDArray[np.int32], limit: int) -> list[NDArray[np.float32]]:
    """Weights of the same shape that add up to `weights`, each with sum(|w|) up to `limit` in every channel."""
    flat = np.abs(weights.reshape(len(weights), -1)).astype(np.int64)
    if int(flat.sum(axis=1).max(initial=0)) <= limit:
        return [weights.astype(np.float32)]
    # A part starts where the running sum passes a multiple of the limit less the largest weight that may straddle it.
    room = limit - int(flat.max(initial=0))
    part = ((np.cumsum(flat, axis=1) - flat) // room).reshape(weights.shape)
    return [np.where(part == number, weights, 0).astype(np.float32) for number in range(int(part.max()) + 1)]


def _file(geometry: Geometry, weights: NDArray[np.float32], bracket: Bracket | None, *, int8: bool) -> bytes:
    """A TFLite file: the window made float, a convolution with VALID padding, and the bracket's two ends.

    With `int8` weights are stored so, and the window has the channels that hold the whole range.
    """
    model = LibraryModel()
    height, width, lanes = geometry.window_shape
    window = model.tensor((1, height, width, lanes + (len(_WHOLE_RANGE) if int8 else 0)), np.int8)
    channels = weights.shape[3] if geometry.depthwise else weights.shape[0]
    shape = (1, *geometry.output_size(weights.shape[1:3]), channels)
    if int8:
        unused = np.zeros((*weights.shape[:3], len(_WHOLE_RANGE)), np.int8)
        kernels = model.int8_weights(np.concatenate([weights.astype(np.int8), unused], axis=3))
    else:
        kernels = model.constant(weights)
    sums = model.operator(
        "DEPTHWISE_CONV_2D" if geometry.depthwise else "CONV_2D",
        [_as_float(model, window), kernels, model.constant(_bias(bracket, channels))],
        shape,
        options="DepthwiseConv2DOptions" if geometry.depthwise else "Conv2DOptions",
        settings={
            "padding": _VALID_PADDING,
            "strideH": geometry.stride[0],
            "strideW": geometry.stride[1],
            "dilationHFactor": geometry.dilation[0],
            "dilationWFactor": geometry.dilation[1],
            **({"depthMultiplier": 1} if geometry.depthwise else {}),
        },
    )
    if bracket is None:
        return model.file([window], [sums])
    inputs, t, unit = [window], sums, 1.0
    if bracket.is_multiple:
        # QUANTIZE divides by its scale: one operator less to wait for.
        unit = 1 / float(bracket.slope[0])
    else:
        t = model.operator("MUL", [t, model.constant(bracket.slope)], options="MulOptions")
    if bracket.weight is not None:
        inputs.append(model.tensor(shape, np.int8))
        addend = model.operator(
            "MUL", [_as_float(model, inputs[1]), model.constant(bracket.weight)], options="MulOptions"
        )
        t = model.operator("ADD", [t, addend], options="AddOptions")
    if bracket.offset is not None:
        t = model.operator("ADD", [t, model.constant(bracket.offset)], options="AddOptions")
    for kind, limit in (("MAXIMUM", bracket.floor), ("MINIMUM", bracket.ceiling)):
        if limit is not None:
            t = model.operator(kind, [t, model.constant(limit)], options="MaximumMinimumOptions")
    high = model.operator("ADD", [t, model.constant(np.full(1, bracket.width * unit))], options="AddOptions")
    return model.file(inputs, [sums, model.quantized(t, unit), model.quantized(high, unit)])


def _as_float(model: LibraryModel, tensor: int) -> int:
    return model.operator("DEQUANTIZE", [tensor], options="DequantizeOptions")


def _bias(bracket: Bracket | None, channels: int) -> Array:
    return np.broadcast_to(0 if bracket is None else bracket.bias + bracket.shift, channels)
