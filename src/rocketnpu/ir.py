"""The graph between frontends and compiler: quantized tensors, operators and their options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray


class Activation(StrEnum):
    """Activation fused into an operator, with TFLite's names."""

    NONE = "NONE"
    RELU = "RELU"
    RELU6 = "RELU6"
    RELU_N1_TO_1 = "RELU_N1_TO_1"
    TANH = "TANH"
    SIGN_BIT = "SIGN_BIT"


BYTE_TYPES = (np.dtype(np.int8), np.dtype(np.uint8))
"""Types of quantized data that the NPU takes."""
SMALLEST_SCALE = float(np.finfo(np.float32).tiny)
"""Arithmetic with a smaller float32 scale loses its meaning. LiteRT ends the process when a subnormal one makes a
multiplier overflow."""

Pads: TypeAlias = tuple[int, int, int, int]
"""Rows and columns of padding: top, left, bottom, right."""


UNKNOWN_SIZE = -1
"""In a shape: a size that is not known before the run."""

UNKNOWN_SHAPE = (UNKNOWN_SIZE,)
"""Also of a tensor of which not even the number of dimensions is known before the run."""


class Padding(StrEnum):
    """Padding scheme, with TFLite's names."""

    SAME = "SAME"
    VALID = "VALID"


@dataclass(frozen=True, eq=False)
class Quantization:
    """real = scale * (quantized - zero_point), per tensor or along `axis`.

    scales: float64 (n,), all positive and finite; zero_points: int64 (n,), in the tensor's own dtype range;
    n is 1 when `axis` is None, else the length of that axis.
    """

    scales: NDArray[np.float64]
    zero_points: NDArray[np.int64]
    axis: int | None = None


def is_static(shape: tuple[int, ...]) -> bool:
    """Whether all sizes of a shape are known before the run."""
    return UNKNOWN_SIZE not in shape


def fits_shape(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array of shape `found` is one of `shape`, whose unknown sizes may be any."""
    if shape == UNKNOWN_SHAPE:
        return True
    return len(found) == len(shape) and all(
        size in (other, UNKNOWN_SIZE) for other, size in zip(found, shape, strict=True)
    )


def shape_text(shape: tuple[int, ...]) -> str:
    """A shape as people read it, like 1x8x8x16; a size that is not known before the run is "?"."""
    return "x".join("?" if size == UNKNOWN_SIZE else str(size) for size in shape)


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor: shape, dtype, quantization, and its data when it is constant.

    Sizes that are not known before the run are `UNKNOWN_SIZE`; `has_static_shape` says that there are none.
    A type that numpy lacks (strings, resources, sequences, packed 4-bit numbers) has dtype object.
    `layout` says which dimension is the channel on the device: the last one (NHWC), or the second (NCHW), for tensors
    of any rank. The compiler decides (compiler/passes/layouts.py). Shape, data and options of operators have the file's
    order of dimensions, whatever the layout. Weights and bias have TFLite's order whatever the file's.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    quantization: Quantization | None = None
    data: NDArray[np.generic] | None = None
    layout: Literal["NHWC", "NCHW"] = "NHWC"

    @property
    def has_static_shape(self) -> bool:
        """Whether all sizes are known before the run."""
        return is_static(self.shape)

    def __str__(self) -> str:
        dims = shape_text(self.shape) or "scalar"
        grid = ""
        if self.quantization is not None:
            scales, zeros = self.quantization.scales, self.quantization.zero_points
            grid = f" {scales[0]:.6g}/{zeros[0]}" if scales.size == 1 else f" {scales.size} scales"
        return f"{self.name}: {self.dtype}[{dims}]{grid}{' const' if self.data is not None else ''}"


@dataclass(frozen=True)
class ConvOptions:
    """CONV_2D and DEPTHWISE_CONV_2D; for the latter output channels = input channels * multiplier.

    `pads` counts the padding where the file does (ONNX); `padding` then says nothing.
    """

    padding: Padding
    stride_h: int
    stride_w: int
    dilation_h: int = 1
    dilation_w: int = 1
    activation: Activation = Activation.NONE
    multiplier: int = 0
    pads: Pads | None = None


@dataclass(frozen=True)
class PoolOptions:
    """AVERAGE_POOL_2D, MAX_POOL_2D; `pads` as for ConvOptions. Padding takes no part in an average or a maximum."""

    padding: Padding
    stride_h: int
    stride_w: int
    filter_h: int
    filter_w: int
    activation: Activation = Activation.NONE
    pads: Pads | None = None


@dataclass(frozen=True)
class FullyConnectedOptions:
    """FULLY_CONNECTED with the default weights format."""

    activation: Activation = Activation.NONE
    keep_num_dims: bool = False


@dataclass(frozen=True)
class ElementwiseOptions:
    """ADD and its kin."""

    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class UnaryOptions:
    """LEAKY_RELU: the slope `alpha` below zero; GELU: whether its formula with tanh is meant."""

    alpha: float = 0.0
    approximate: bool = False


@dataclass(frozen=True)
class LookupOptions:
    """LOOKUP, any function of one tensor of bytes: `table` holds the result of each value from the smallest on, 256
    bytes as the output stores them."""

    table: bytes


@dataclass(frozen=True)
class ReduceOptions:
    """MEAN: axes are normalised to 0..rank-1, sorted; empty when they are not constant."""

    axes: tuple[int, ...]
    keep_dims: bool


@dataclass(frozen=True)
class ConcatOptions:
    """CONCATENATION; the axis is normalised to 0..rank-1."""

    axis: int
    activation: Activation = Activation.NONE


@dataclass(frozen=True)
class SplitOptions:
    """SPLIT, SPLIT_V: the axis is normalised to 0..rank-1, and each output has its size along it."""

    axis: int
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class SliceOptions:
    """SLICE, STRIDED_SLICE: for each dimension of the input its first element, how many, and the step, which is not 0.

    `dropped` names dimensions of size 1 that the output does not have.
    """

    begins: tuple[int, ...]
    sizes: tuple[int, ...]
    steps: tuple[int, ...]
    dropped: tuple[int, ...] = ()


@dataclass(frozen=True)
class GatherOptions:
    """GATHER with constant indices: output element i along the axis, normalised to 0..rank-1, is input element
    indices[i]."""

    axis: int
    indices: tuple[int, ...]


@dataclass(frozen=True)
class PadOptions:
    """PAD, PADV2, MIRROR_PAD: for each dimension how many elements before and after.

    `value` is what they hold, as stored; None for real zero. `mirror` says how many elements of the edge a mirrored
    border leaves out: 1 (REFLECT) or 0 (SYMMETRIC); None where the border is constant.
    """

    pads: tuple[tuple[int, int], ...]
    value: int | None = None
    mirror: int | None = None


@dataclass(frozen=True)
class ResizeOptions:
    """RESIZE_NEAREST_NEIGHBOR, RESIZE_BILINEAR: which points of both images lie on one another."""

    align_corners: bool
    half_pixel_centers: bool


@dataclass(frozen=True)
class BlockOptions:
    """SPACE_TO_DEPTH, DEPTH_TO_SPACE: blocks of size x size pixels.

    In the depth, a pixel's place in its block comes before its channel, or with `channel_first` after it (ONNX's CRD).
    """

    size: int
    channel_first: bool = False


@dataclass(frozen=True)
class TransposeOptions:
    """TRANSPOSE: output dimension i is input dimension permutation[i]."""

    permutation: tuple[int, ...]


@dataclass(frozen=True)
class TransposeConvOptions:
    """TRANSPOSE_CONV: inputs are the output's shape, weights (OC, KH, KW, IC), data and an optional bias.

    `pads` as for ConvOptions: what is cut off the full result; the output's shape may say less at the end.
    """

    padding: Padding
    stride_h: int
    stride_w: int
    activation: Activation = Activation.NONE
    pads: Pads | None = None


Options: TypeAlias = (
    ConvOptions
    | PoolOptions
    | FullyConnectedOptions
    | ElementwiseOptions
    | UnaryOptions
    | LookupOptions
    | ReduceOptions
    | ConcatOptions
    | SplitOptions
    | SliceOptions
    | GatherOptions
    | PadOptions
    | ResizeOptions
    | BlockOptions
    | TransposeOptions
    | TransposeConvOptions
    | None
)


@dataclass(frozen=True)
class Operator:
    """One operator of the model: `kind` is TFLite's name (CONV_2D ...), `index` its place in the source file.

    An ONNX operator that TFLite has no equal for keeps ONNX's name (Softmax ...). Where an operator stands for several
    ONNX nodes, `index` is that of the last one.
    `inputs` holds tensor names, None for an omitted optional input. `options` is None for kinds without a class above.
    `unsupported` says why this instance cannot be analysed (for instance a weights format), None when it can.
    `opaque` says why only the model's own runtime can compute it (control flow, state, a custom operator); it ends in
    "has no NPU form". `shares` names what it has in common with other operators and no array can hold: variables,
    resources, sequences. Operators that share something run in one piece of the model, in the file's order.
    `no_kernel` says why not even the model's runtime can compute it.
    """

    kind: str
    index: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    options: Options = None
    unsupported: str | None = None
    opaque: str | None = None
    shares: frozenset[str] = frozenset()
    no_kernel: str | None = None

    @property
    def name(self) -> str:
        """The first output's name, or kind#index for an operator without outputs."""
        return self.outputs[0] if self.outputs else f"{self.kind}#{self.index}"


@dataclass(frozen=True)
class Graph:
    """A whole model: operators in execution order over uniquely named tensors.

    `tensors` keeps the order of a TFLite file, so that a tensor's position is its index in there.
    `model` is a file's bytes, in `format`, from which pieces for the CPU are cut: the source file, or for ONNX what the
    frontend made of it. `dissolved` names tensors of the source file that are not in the graph, each with the operator
    that stands for what made and read them. `notes` are sentences for the user on what was decided when the model was
    opened.
    """

    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes
    format: Literal["tflite", "onnx"] = "tflite"
    dissolved: Mapping[str, str] = field(default_factory=dict[str, str])
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"inputs {', '.join(str(self.tensors[name]) for name in self.inputs)}"]
        for op in self.operators:
            results = ", ".join(str(self.tensors[name]) for name in op.outputs)
            operands = ", ".join("-" if name is None else name for name in op.inputs)
            lines.append(f"{op.index:4d} {results} = {op.kind}({operands}) {op.options or ''}".rstrip())
        lines.append(f"outputs {', '.join(self.outputs)}")
        return "\n".join(lines)
