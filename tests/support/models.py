"""Small quantized TFLite models for tests: random weights from a seed, scales that keep values in range.

    model = ModelBuilder(seed=1)
    x = model.input((1, 8, 8, 3), "uint8")
    y = model.conv2d(x, 16, kernel=3, stride=2, activation="RELU6")
    z = model.add(y, model.depthwise(y, per_channel=False))
    data = model.build(z)

Every method that makes an operator returns the name of its output tensor, which other methods take.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

schema: Any = importlib.import_module("ai_edge_litert.schema_py_generated")
flatbuffers: Any = importlib.import_module("flatbuffers")

Pair = int | tuple[int, int]

OUTPUT_SIGMA = 2.0
"""Weight scales are chosen so that a convolution of full-range noise has this standard deviation, in real units."""

UNIFORM_SIGMA = 74.0
"""Standard deviation of a uniformly distributed byte, 256 / sqrt(12)."""


@dataclass(frozen=True)
class Grid:
    """Quantization of a tensor: one scale and zero point, or a sequence of scales along `axis`."""

    scale: float | tuple[float, ...]
    zero: int = 0
    axis: int = 0


@dataclass(frozen=True)
class BuiltTensor:
    """A tensor of the model under construction."""

    shape: tuple[int, ...]
    dtype: str
    grid: Grid | None
    data: NDArray[Any] | None = None

    @property
    def scale(self) -> float:
        assert self.grid is not None
        assert isinstance(self.grid.scale, float)
        return self.grid.scale


class ModelBuilder:
    """A TFLite model of one subgraph, operator by operator."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, BuiltTensor] = {}
        self.inputs: list[str] = []
        self._operators: list[Any] = []
        self._codes: list[Any] = []

    def input(
        self, shape: tuple[int, ...], dtype: str = "int8", scale: float = 0.02, zero: int | None = None, name: str = ""
    ) -> str:
        """A graph input; the zero point defaults to one near the middle of the dtype's range."""
        grid = Grid(scale, _middle(dtype) if zero is None else zero) if dtype in ("int8", "uint8") else None
        name = self._tensor(name or f"input{len(self.inputs)}", shape, dtype, grid)
        self.inputs.append(name)
        return name

    def constant(self, data: ArrayLike, grid: Grid | None = None, name: str = "constant") -> str:
        """A constant tensor of the array's shape and dtype."""
        array = np.asarray(data)
        return self._tensor(name, array.shape, str(array.dtype), grid, array)

    def conv2d(
        self,
        x: str,
        channels: int,
        kernel: Pair = 3,
        stride: Pair = 1,
        padding: str = "SAME",
        dilation: Pair = 1,
        activation: str = "NONE",
        per_channel: bool = False,
        output: Grid | None = None,
        weights: NDArray[Any] | None = None,
        weight_grid: Grid | None = None,
        bias: NDArray[Any] | bool = True,
        name: str = "",
    ) -> str:
        """CONV_2D with weights (channels, kernel_h, kernel_w, input channels), random unless given.

        `bias` is True (random), False (left out, which LiteRT refuses for CONV_2D only) or int32 values; `output`
        overrides the output's quantization.
        """
        source = self.tensors[x]
        shape = (channels, *_pair(kernel), source.shape[3])
        options = schema.Conv2DOptionsT()
        operands = self._weights_and_bias(source, shape, 0, per_channel, weights, weight_grid, bias)
        self._window(options, stride, padding, dilation, activation)
        result = _slide(source.shape, _pair(kernel), stride, padding, dilation, channels)
        return self._layer("CONV_2D", "Conv2DOptions", options, [x, *operands], result, activation, output, name)

    def depthwise(
        self,
        x: str,
        kernel: Pair = 3,
        stride: Pair = 1,
        padding: str = "SAME",
        dilation: Pair = 1,
        multiplier: int = 1,
        activation: str = "NONE",
        per_channel: bool = False,
        output: Grid | None = None,
        weights: NDArray[Any] | None = None,
        weight_grid: Grid | None = None,
        bias: NDArray[Any] | bool = True,
        name: str = "",
    ) -> str:
        """DEPTHWISE_CONV_2D with weights (1, kernel_h, kernel_w, input channels * multiplier); see `conv2d`."""
        source = self.tensors[x]
        channels = source.shape[3] * multiplier
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=multiplier)
        operands = self._weights_and_bias(
            source, (1, *_pair(kernel), channels), 3, per_channel, weights, weight_grid, bias
        )
        self._window(options, stride, padding, dilation, activation)
        result = _slide(source.shape, _pair(kernel), stride, padding, dilation, channels)
        table = "DepthwiseConv2DOptions"
        return self._layer("DEPTHWISE_CONV_2D", table, options, [x, *operands], result, activation, output, name)

    def fully_connected(
        self,
        x: str,
        units: int,
        activation: str = "NONE",
        per_channel: bool = False,
        keep_num_dims: bool = False,
        output: Grid | None = None,
        weights: NDArray[Any] | None = None,
        weight_grid: Grid | None = None,
        bias: NDArray[Any] | bool = True,
        name: str = "",
    ) -> str:
        """FULLY_CONNECTED over all but the first dimension of x (over the last one with `keep_num_dims`)."""
        source = self.tensors[x]
        depth = source.shape[-1] if keep_num_dims else math.prod(source.shape[1:])
        operands = self._weights_and_bias(source, (units, depth), 0, per_channel, weights, weight_grid, bias)
        options = schema.FullyConnectedOptionsT(
            fusedActivationFunction=_activation(activation), keepNumDims=keep_num_dims
        )
        result = (*source.shape[:-1], units) if keep_num_dims else (source.shape[0], units)
        table = "FullyConnectedOptions"
        return self._layer("FULLY_CONNECTED", table, options, [x, *operands], result, activation, output, name)

    def add(self, a: str, b: str, activation: str = "NONE", output: Grid | None = None, name: str = "") -> str:
        """ADD of two tensors that broadcast."""
        return self.elementwise("ADD", a, b, activation, output, name)

    def elementwise(
        self, kind: str, a: str, b: str, activation: str = "NONE", output: Grid | None = None, name: str = ""
    ) -> str:
        """ADD, SUB or MUL of two tensors that broadcast."""
        shape = np.broadcast_shapes(self.tensors[a].shape, self.tensors[b].shape)
        table = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions"}[kind]
        options = getattr(schema, f"{table}T")(fusedActivationFunction=_activation(activation))
        return self._layer(kind, table, options, [a, b], shape, activation, output, name)

    def extremum(self, kind: str, a: str, b: str, name: str = "") -> str:
        """MAXIMUM or MINIMUM of two tensors that broadcast, on the grid of the first."""
        shape = np.broadcast_shapes(self.tensors[a].shape, self.tensors[b].shape)
        options, grid = schema.MaximumMinimumOptionsT(), self.tensors[a].grid
        return self.operator(kind, [a, b], shape, grid, options, "MaximumMinimumOptions", name)

    def unary(self, kind: str, x: str, output: Grid | None = None, name: str = "", **options: Any) -> str:
        """An operator on one tensor, element by element: LOGISTIC and TANH on the grids that TFLite demands.

        `options` are LEAKY_RELU's alpha or GELU's approximate.
        """
        source = self.tensors[x]
        middle = 128 if source.dtype == "uint8" else 0
        grid = {"LOGISTIC": Grid(1 / 256, middle - 128), "TANH": Grid(1 / 128, middle)}.get(kind, output)
        table = {"GELU": "GeluOptions", "LEAKY_RELU": "LeakyReluOptions"}.get(kind, "NONE")
        found = getattr(schema, f"{table}T")(**options) if table != "NONE" else None
        return self.operator(kind, [x], source.shape, grid or source.grid, found, table, name)

    def prelu(self, x: str, alpha: str, output: Grid | None = None, name: str = "") -> str:
        """PRELU; alpha broadcasts to the shape of x."""
        source = self.tensors[x]
        return self.operator("PRELU", [x, alpha], source.shape, output or source.grid, name=name)

    def quantize(self, x: str, output: Grid, dtype: str = "", name: str = "") -> str:
        """QUANTIZE to another grid, of another dtype if given."""
        return self.operator("QUANTIZE", [x], self.tensors[x].shape, output, name=name, dtype=dtype)

    def average_pool(self, x: str, kernel: Pair = 2, stride: Pair = 2, padding: str = "VALID", name: str = "") -> str:
        """AVERAGE_POOL_2D; the output has the input's quantization, as TFLite demands."""
        return self._pool("AVERAGE_POOL_2D", x, kernel, stride, padding, name)

    def max_pool(self, x: str, kernel: Pair = 2, stride: Pair = 2, padding: str = "VALID", name: str = "") -> str:
        """MAX_POOL_2D; the output has the input's quantization, as TFLite demands."""
        return self._pool("MAX_POOL_2D", x, kernel, stride, padding, name)

    def mean(
        self, x: str, axes: Sequence[int] = (1, 2), keep_dims: bool = True, output: Grid | None = None, name: str = ""
    ) -> str:
        """MEAN over constant axes; the output has the input's quantization unless given."""
        source = self.tensors[x]
        dropped = {axis % len(source.shape) for axis in axes}
        sizes = [1 if axis in dropped else size for axis, size in enumerate(source.shape)]
        shape = tuple(size for axis, size in enumerate(sizes) if keep_dims or axis not in dropped)
        operands = [x, self.constant(np.array(axes, np.int32), name="axes")]
        options = schema.ReducerOptionsT(keepDims=keep_dims)
        return self.operator("MEAN", operands, shape, output or source.grid, options, "ReducerOptions", name)

    def reshape(self, x: str, shape: tuple[int, ...], name: str = "") -> str:
        """RESHAPE to a constant shape."""
        operands = [x, self.constant(np.array(shape, np.int32), name="shape")]
        options = schema.ReshapeOptionsT(newShape=np.array(shape, np.int32))
        return self.operator("RESHAPE", operands, shape, self.tensors[x].grid, options, "ReshapeOptions", name)

    def concat(self, parts: Sequence[str], axis: int = -1, output: Grid | None = None, name: str = "") -> str:
        """CONCATENATION; the output has the first part's quantization unless given."""
        shapes = [self.tensors[part].shape for part in parts]
        axis %= len(shapes[0])
        shape = (*shapes[0][:axis], sum(part[axis] for part in shapes), *shapes[0][axis + 1 :])
        options = schema.ConcatenationOptionsT(axis=axis)
        grid = output or self.tensors[parts[0]].grid
        return self.operator("CONCATENATION", parts, shape, grid, options, "ConcatenationOptions", name)

    def split(self, x: str, parts: int, axis: int = -1) -> list[str]:
        """SPLIT into equal parts."""
        axis %= len(self.tensors[x].shape)
        size = self.tensors[x].shape[axis] // parts
        operands = [self.constant(np.array(axis, np.int32), name="axis"), x]
        return self._split("SPLIT", x, operands, axis, [size] * parts, schema.SplitOptionsT(numSplits=parts))

    def split_v(self, x: str, sizes: Sequence[int], axis: int = -1) -> list[str]:
        """SPLIT_V into parts of these sizes."""
        axis %= len(self.tensors[x].shape)
        vectors = (np.array(sizes, np.int32), np.array(axis, np.int32))
        operands = [x, *(self.constant(vector, name="sizes") for vector in vectors)]
        return self._split("SPLIT_V", x, operands, axis, sizes, schema.SplitVOptionsT(numSplits=len(sizes)))

    def slice(self, x: str, begin: Sequence[int], size: Sequence[int], name: str = "") -> str:
        """SLICE; a size of -1 takes all there is."""
        source = self.tensors[x]
        operands = [x, *(self.constant(np.array(values, np.int32), name="range") for values in (begin, size))]
        pairs = zip(size, source.shape, begin, strict=True)
        shape = tuple(room - first if count == -1 else count for count, room, first in pairs)
        return self.operator("SLICE", operands, shape, source.grid, schema.SliceOptionsT(), "SliceOptions", name)

    def gather(self, x: str, indices: Sequence[int], axis: int = -1, name: str = "") -> str:
        """GATHER of elements along one axis."""
        source = self.tensors[x]
        axis %= len(source.shape)
        operands = [x, self.constant(np.array(indices, np.int32), name="indices")]
        shape = (*source.shape[:axis], len(indices), *source.shape[axis + 1 :])
        return self.operator(
            "GATHER", operands, shape, source.grid, schema.GatherOptionsT(axis=axis), "GatherOptions", name
        )

    def strided_slice(self, x: str, ranges: Sequence[slice | int], name: str = "") -> str:
        """STRIDED_SLICE as numpy's basic indexing: a slice keeps its dimension, a number drops it."""
        source = self.tensors[x]
        options = schema.StridedSliceOptionsT()
        vectors: list[list[int]] = [[], [], []]
        for axis, item in enumerate(ranges):
            span = slice(item, item + 1, 1) if isinstance(item, int) else item
            options.shrinkAxisMask |= isinstance(item, int) << axis
            options.beginMask |= (span.start is None) << axis
            options.endMask |= (span.stop is None) << axis
            for vector, value in zip(vectors, (span.start or 0, span.stop or 0, span.step or 1), strict=True):
                vector.append(value)
        operands = [x, *(self.constant(np.array(vector, np.int32), name="range") for vector in vectors)]
        shape = np.zeros(source.shape, np.int8)[tuple(ranges)].shape
        return self.operator("STRIDED_SLICE", operands, shape, source.grid, options, "StridedSliceOptions", name)

    def pad(
        self, x: str, pads: Sequence[tuple[int, int]], value: int | None = None, mirror: str = "", name: str = ""
    ) -> str:
        """PAD, PADV2 if there is a value (as stored), MIRROR_PAD if `mirror` is REFLECT or SYMMETRIC."""
        source = self.tensors[x]
        operands = [x, self.constant(np.array(pads, np.int32), name="pads")]
        shape = tuple(before + size + after for size, (before, after) in zip(source.shape, pads, strict=True))
        kind, table, options = "PAD", "PadOptions", schema.PadOptionsT()
        if value is not None:
            kind, table, options = "PADV2", "PadV2Options", schema.PadV2OptionsT()
            operands.append(self.constant(np.array(value, source.dtype), source.grid, name="value"))
        if mirror:
            kind, table = "MIRROR_PAD", "MirrorPadOptions"
            options = schema.MirrorPadOptionsT(mode=getattr(schema.MirrorPadMode, mirror))
        return self.operator(kind, operands, shape, source.grid, options, table, name)

    def resize(
        self,
        x: str,
        factor: Pair,
        bilinear: bool = False,
        align_corners: bool = False,
        half_pixel_centers: bool = False,
        name: str = "",
    ) -> str:
        """RESIZE_NEAREST_NEIGHBOR or RESIZE_BILINEAR by whole factors, with aligned corners of what is between them."""
        source = self.tensors[x]
        edge = int(align_corners)
        size = [(room - edge) * times + edge for room, times in zip(source.shape[1:3], _pair(factor), strict=True)]
        kind, table = "RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions"
        if bilinear:
            kind, table = "RESIZE_BILINEAR", "ResizeBilinearOptions"
        options = getattr(schema, f"{table}T")(alignCorners=align_corners, halfPixelCenters=half_pixel_centers)
        operands = [x, self.constant(np.array(size, np.int32), name="size")]
        return self.operator(
            kind, operands, (source.shape[0], *size, source.shape[3]), source.grid, options, table, name
        )

    def space_to_depth(self, x: str, block: int, name: str = "") -> str:
        """SPACE_TO_DEPTH."""
        source = self.tensors[x]
        batch, height, width, channels = source.shape
        shape = (batch, height // block, width // block, channels * block * block)
        options = schema.SpaceToDepthOptionsT(blockSize=block)
        return self.operator("SPACE_TO_DEPTH", [x], shape, source.grid, options, "SpaceToDepthOptions", name)

    def depth_to_space(self, x: str, block: int, name: str = "") -> str:
        """DEPTH_TO_SPACE."""
        source = self.tensors[x]
        batch, height, width, channels = source.shape
        shape = (batch, height * block, width * block, channels // (block * block))
        options = schema.DepthToSpaceOptionsT(blockSize=block)
        return self.operator("DEPTH_TO_SPACE", [x], shape, source.grid, options, "DepthToSpaceOptions", name)

    def transpose(self, x: str, permutation: Sequence[int], name: str = "") -> str:
        """TRANSPOSE."""
        source = self.tensors[x]
        operands = [x, self.constant(np.array(permutation, np.int32), name="permutation")]
        shape = tuple(source.shape[axis] for axis in permutation)
        return self.operator("TRANSPOSE", operands, shape, source.grid, None, "NONE", name)

    def transpose_conv(
        self,
        x: str,
        channels: int,
        kernel: Pair = 2,
        stride: Pair = 2,
        padding: str = "SAME",
        per_channel: bool = False,
        activation: str = "NONE",
        output: Grid | None = None,
        weights: NDArray[Any] | None = None,
        weight_grid: Grid | None = None,
        bias: NDArray[Any] | bool = True,
        name: str = "",
    ) -> str:
        """TRANSPOSE_CONV with weights (channels, kernel_h, kernel_w, input channels), random unless given."""
        source = self.tensors[x]
        shape = (channels, *_pair(kernel), source.shape[3])
        filters, *rest = self._weights_and_bias(source, shape, 0, per_channel, weights, weight_grid, bias)
        room = 0 if padding == "SAME" else 1
        sizes = [
            size * step + room * max(taps - step, 0)
            for size, step, taps in zip(source.shape[1:3], _pair(stride), _pair(kernel), strict=True)
        ]
        result = (source.shape[0], *sizes, channels)
        options = schema.TransposeConvOptionsT(fusedActivationFunction=_activation(activation))
        options.strideH, options.strideW = _pair(stride)
        options.padding = getattr(schema.Padding, padding)
        operands = [self.constant(np.array(result, np.int32), name="shape"), filters, x, *rest]
        grid = output or _activation_grid(activation, source.dtype)
        kind, table = "TRANSPOSE_CONV", "TransposeConvOptions"
        return self.operator(kind, operands, result, grid, options, table, name, dtype=source.dtype)

    def softmax(self, x: str, name: str = "") -> str:
        """SOFTMAX over the last dimension, on the output grid that TFLite demands."""
        source = self.tensors[x]
        grid = None if source.grid is None else Grid(1 / 256, 0 if source.dtype == "uint8" else -128)
        options = schema.SoftmaxOptionsT(beta=1.0)
        return self.operator("SOFTMAX", [x], source.shape, grid, options, "SoftmaxOptions", name)

    def _split(
        self, kind: str, x: str, operands: list[str], axis: int, sizes: Sequence[int], options: Any
    ) -> list[str]:
        source = self.tensors[x]
        shapes = [(*source.shape[:axis], size, *source.shape[axis + 1 :]) for size in sizes]
        first = self.operator(
            kind, operands, shapes[0], source.grid, options, options.__class__.__name__[:-1], dtype=source.dtype
        )
        others = [self._tensor(kind.lower(), shape, source.dtype, source.grid) for shape in shapes[1:]]
        names = list(self.tensors)
        self._operators[-1].outputs = np.array([names.index(name) for name in (first, *others)], np.int32)
        return [first, *others]

    def operator(
        self,
        kind: str,
        inputs: Sequence[str | None],
        shape: tuple[int, ...],
        grid: Grid | None = None,
        options: Any = None,
        options_table: str = "NONE",
        name: str = "",
        dtype: str = "",
    ) -> str:
        """Any other operator with one output; the dtype defaults to that of the first input."""
        names = list(self.tensors)
        first = next(operand for operand in inputs if operand is not None)
        result = self._tensor(name or kind.lower(), shape, dtype or self.tensors[first].dtype, grid)
        number = getattr(schema.BuiltinOperator, kind)
        code = schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1)
        table = schema.OperatorT(
            opcodeIndex=len(self._codes),
            inputs=np.array([-1 if operand is None else names.index(operand) for operand in inputs], np.int32),
            outputs=np.array([len(names)], np.int32),
            builtinOptionsType=getattr(schema.BuiltinOptions, options_table),
            builtinOptions=options,
        )
        self._codes.append(code)
        self._operators.append(table)
        return result

    def model(self, *outputs: str) -> Any:
        """The model as the schema's object tree, for tests that want to spoil it; see `pack`."""
        names = list(self.tensors)
        buffers = [schema.BufferT()]
        tensors: list[Any] = []
        for name, tensor in self.tensors.items():
            number = 0
            if tensor.data is not None:
                number = len(buffers)
                data = np.frombuffer(np.ascontiguousarray(tensor.data).tobytes(), np.uint8)
                buffers.append(schema.BufferT(data=data))
            tensors.append(
                schema.TensorT(
                    shape=np.array(tensor.shape, np.int32),
                    type=getattr(schema.TensorType, "BOOL" if tensor.dtype == "bool" else tensor.dtype.upper()),
                    buffer=number,
                    name=name,
                    quantization=_quantization(tensor.grid),
                )
            )
        subgraph = schema.SubGraphT(
            tensors=tensors,
            inputs=np.array([names.index(name) for name in self.inputs], np.int32),
            outputs=np.array([names.index(name) for name in outputs], np.int32),
            operators=self._operators,
            name="main",
        )
        return schema.ModelT(version=3, operatorCodes=self._codes, subgraphs=[subgraph], buffers=buffers)

    def build(self, *outputs: str) -> bytes:
        """The TFLite file with these graph outputs."""
        return pack(self.model(*outputs))

    def random_inputs(self) -> list[NDArray[Any]]:
        """Full-range noise for every graph input."""
        return [random_values(self.rng, self.tensors[name].shape, self.tensors[name].dtype) for name in self.inputs]

    def _tensor(
        self, name: str, shape: tuple[int, ...], dtype: str, grid: Grid | None, data: NDArray[Any] | None = None
    ) -> str:
        unique, number = name, 1
        while unique in self.tensors:
            number += 1
            unique = f"{name}_{number}"
        self.tensors[unique] = BuiltTensor(tuple(int(size) for size in shape), dtype, grid, data)
        return unique

    def _layer(
        self,
        kind: str,
        options_table: str,
        options: Any,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        activation: str,
        output: Grid | None,
        name: str,
    ) -> str:
        source = self.tensors[inputs[0]]
        grid = output or (None if source.grid is None else _activation_grid(activation, source.dtype))
        return self.operator(kind, inputs, shape, grid, options, options_table, name)

    def _pool(self, kind: str, x: str, kernel: Pair, stride: Pair, padding: str, name: str) -> str:
        source = self.tensors[x]
        options = schema.Pool2DOptionsT(filterHeight=_pair(kernel)[0], filterWidth=_pair(kernel)[1])
        options.strideH, options.strideW = _pair(stride)
        options.padding = getattr(schema.Padding, padding)
        shape = _slide(source.shape, _pair(kernel), stride, padding, 1, source.shape[3])
        return self.operator(kind, [x], shape, source.grid, options, "Pool2DOptions", name)

    def _window(self, options: Any, stride: Pair, padding: str, dilation: Pair, activation: str) -> None:
        options.strideH, options.strideW = _pair(stride)
        options.dilationHFactor, options.dilationWFactor = _pair(dilation)
        options.padding = getattr(schema.Padding, padding)
        options.fusedActivationFunction = _activation(activation)

    def _weights_and_bias(
        self,
        source: BuiltTensor,
        shape: tuple[int, ...],
        axis: int,
        per_channel: bool,
        weights: NDArray[Any] | None,
        grid: Grid | None,
        bias: NDArray[Any] | bool,
    ) -> list[str]:
        """Weights and bias as tensors; only the weights when the bias is left out."""
        channels = shape[axis]
        if source.grid is None:
            return self._float_weights_and_bias(shape, channels, weights, bias)
        if weights is None:
            low, high = (1, 255) if source.dtype == "uint8" else (-127, 127)
            weights = self.rng.integers(low, high, shape, endpoint=True).astype(source.dtype)
        if grid is None:
            taps = math.prod(shape) // channels
            scale = OUTPUT_SIGMA / (math.sqrt(taps) * UNIFORM_SIGMA * source.scale * UNIFORM_SIGMA)
            if per_channel:
                grid = Grid(tuple((scale * self.rng.uniform(0.4, 1.6, channels)).tolist()), 0, axis)
            else:
                grid = Grid(scale, int(self.rng.integers(120, 136)) if source.dtype == "uint8" else 0)
        operands = [self.constant(weights, grid, "weights")]
        if bias is False:
            return operands
        scales = source.scale * np.array(grid.scale)
        values = np.rint(self.rng.normal(0, OUTPUT_SIGMA / 2, channels) / scales) if bias is True else bias
        bias_grid = Grid(tuple(scales.tolist()) if scales.ndim else float(scales))
        return [*operands, self.constant(np.asarray(values).astype(np.int32), bias_grid, "bias")]

    def _float_weights_and_bias(
        self, shape: tuple[int, ...], channels: int, weights: NDArray[Any] | None, bias: NDArray[Any] | bool
    ) -> list[str]:
        if weights is None:
            weights = self.rng.normal(0, 1, shape).astype(np.float32)
        values = self.rng.normal(0, 1, channels) if isinstance(bias, bool) else bias
        operands = [self.constant(weights, name="weights")]
        return operands if bias is False else [*operands, self.constant(np.asarray(values).astype(np.float32))]


def pack(model: Any) -> bytes:
    """A TFLite file from the schema's object tree."""
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def random_values(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Noise over the whole range of an integer dtype, or normal with sigma 1 for a float one."""
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1, shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def _pair(value: Pair) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _middle(dtype: str) -> int:
    return 131 if dtype == "uint8" else 3


def _activation(name: str) -> int:
    return getattr(schema.ActivationFunctionType, name)


def _activation_grid(activation: str, dtype: str) -> Grid:
    """A grid that spans what comes out of an activation, for values of standard deviation OUTPUT_SIGMA."""
    lowest = int(np.iinfo(dtype).min)
    if activation in ("RELU", "RELU6"):
        return Grid(6 / 255, lowest)
    if activation == "RELU_N1_TO_1":
        return Grid(2 / 255, lowest + 127)
    return Grid(6 * OUTPUT_SIGMA / 255, _middle(dtype) - 8)


def _slide(
    source: tuple[int, ...], kernel: tuple[int, int], stride: Pair, padding: str, dilation: Pair, channels: int
) -> tuple[int, ...]:
    sizes: list[int] = []
    for size, taps, step, spread in zip(source[1:3], kernel, _pair(stride), _pair(dilation), strict=True):
        room = size if padding == "SAME" else size - (taps - 1) * spread
        sizes.append(-(-room // step))
    return (source[0], *sizes, channels)


def _quantization(grid: Grid | None) -> Any:
    if grid is None:
        return None
    scales = np.atleast_1d(np.array(grid.scale, np.float32))
    return schema.QuantizationParametersT(
        scale=scales, zeroPoint=np.full(scales.shape, grid.zero, np.int64), quantizedDimension=grid.axis
    )
