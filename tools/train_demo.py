"""Train the demo's digit classifier and write it as an INT8 TFLite file, with the sample images.

    pip install '.[train]' && python tools/train_demo.py

Data: scikit-learn's bundled copy of the UCI set "Optical Recognition of Handwritten Digits" (8x8, 1797 images,
CC BY 4.0), enlarged to 32x32. One table, `LAYERS`, describes the network for training, calibration and the TFLite file.

Quantization (the TFLite 8-bit specification): activations int8 with one scale and zero point from the smallest and
largest value seen on the training images; convolution weights int8 symmetric, one scale for each output channel; biases
int32 with scale input * weight; pools and reshapes keep their input's grid; SOFTMAX gives scale 1/256, zero point -128.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import flatbuffers
import numpy as np
import torch
from ai_edge_litert import schema_py_generated as tfl
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn import functional

SEED = 0
SIZE = 32
CLASSES = 10
EPOCHS = 60
BATCH = 64
DEMO = Path(__file__).parents[1] / "src" / "rocketnpu" / "demo"


@dataclass(frozen=True)
class Layer:
    """One TFLite operator; `channels`, `kernel` and `stride` are 0 where the operator has none. Padding is SAME."""

    name: str
    kind: str
    sources: tuple[str, ...]
    channels: int = 0
    kernel: int = 0
    stride: int = 1
    relu: bool = False

    @property
    def has_weights(self) -> bool:
        """Whether the layer owns weights and a bias."""
        return self.kind in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")


LAYERS = (
    Layer("stem", "CONV_2D", ("image",), 16, 3, 2, relu=True),
    Layer("depthwise_1", "DEPTHWISE_CONV_2D", ("stem",), 16, 3, relu=True),
    Layer("pointwise_1", "CONV_2D", ("depthwise_1",), 16, 1),
    Layer("residual_1", "ADD", ("stem", "pointwise_1"), relu=True),
    Layer("pool_1", "MAX_POOL_2D", ("residual_1",), kernel=2, stride=2),
    Layer("conv_2", "CONV_2D", ("pool_1",), 32, 3, relu=True),
    Layer("depthwise_2", "DEPTHWISE_CONV_2D", ("conv_2",), 32, 3, relu=True),
    Layer("pointwise_2", "CONV_2D", ("depthwise_2",), 32, 1),
    Layer("residual_2", "ADD", ("conv_2", "pointwise_2"), relu=True),
    Layer("average", "AVERAGE_POOL_2D", ("residual_2",), kernel=8, stride=8),
    Layer("features", "RESHAPE", ("average",)),
    Layer("logits", "FULLY_CONNECTED", ("features",), CLASSES),
    Layer("scores", "SOFTMAX", ("logits",)),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """TFLite's SAME padding before and after: the odd element goes after."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


class Network(nn.Module):
    """The float network of `LAYERS`, with batch normalization behind every convolution while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.weighted = nn.ModuleDict()
        self.norms = nn.ModuleDict()
        channels = {"image": 1}
        for layer in LAYERS:
            depth = channels[layer.sources[0]]
            channels[layer.name] = layer.channels or depth
            if layer.kind == "FULLY_CONNECTED":
                self.weighted[layer.name] = nn.Linear(depth, layer.channels)
            elif layer.has_weights:
                groups = depth if layer.kind == "DEPTHWISE_CONV_2D" else 1
                self.weighted[layer.name] = nn.Conv2d(
                    depth, layer.channels, layer.kernel, layer.stride, groups=groups, bias=False
                )
                self.norms[layer.name] = nn.BatchNorm2d(layer.channels)

    def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every layer's result by name, for images (n, 1, 32, 32) in 0..1; `scores` are probabilities."""
        values = {"image": image}
        for layer in LAYERS:
            values[layer.name] = self.apply_layer(layer, [values[name] for name in layer.sources])
        return values

    def apply_layer(self, layer: Layer, operands: list[torch.Tensor]) -> torch.Tensor:
        """One layer's result."""
        x = operands[0]
        match layer.kind:
            case "CONV_2D" | "DEPTHWISE_CONV_2D":
                pads = same_padding(x.shape[3], layer.kernel, layer.stride)
                x = self.norms[layer.name](self.weighted[layer.name](functional.pad(x, (*pads, *pads))))
            case "FULLY_CONNECTED":
                x = self.weighted[layer.name](x)
            case "ADD":
                x = operands[0] + operands[1]
            case "MAX_POOL_2D":
                x = functional.max_pool2d(x, layer.kernel, layer.stride)
            case "AVERAGE_POOL_2D":
                x = functional.avg_pool2d(x, layer.kernel, layer.stride)
            case "RESHAPE":
                x = x.flatten(1)
            case "SOFTMAX":
                x = functional.softmax(x, 1)
        return functional.relu(x) if layer.relu else x

    @torch.no_grad()
    def weights_and_bias(self, layer: Layer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """A layer's weights in TFLite's layout (OHWI; depthwise 1HWO; OI) and bias, normalization folded in."""
        module = self.weighted[layer.name]
        weights = module.weight.double().numpy()
        if layer.kind == "FULLY_CONNECTED":
            return weights, module.bias.double().numpy()
        norm = self.norms[layer.name]
        gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).double().numpy()
        bias = norm.bias.double().numpy() - norm.running_mean.double().numpy() * gain
        folded = weights * gain[:, None, None, None]
        return folded.transpose((1, 2, 3, 0) if layer.kind == "DEPTHWISE_CONV_2D" else (0, 2, 3, 1)), bias


def load_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The digits as (1797, 32, 32) grey images, white on black, and their labels."""
    digits = load_digits()
    small = np.round(digits.images * (255 / 16)).astype(np.uint8)
    large = [np.asarray(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for image in small]
    return np.stack(large), digits.target


def to_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """(n, 32, 32) uint8 to (n, 1, 32, 32) float32 in 0..1."""
    return torch.from_numpy(images[:, None].astype(np.float32) / 255)


def augment(images: torch.Tensor) -> torch.Tensor:
    """Each image turned by up to 12 degrees, scaled by up to 12 %, and moved by up to 2 pixels."""
    count = images.shape[0]
    angle = (torch.rand(count) * 2 - 1) * (12 * torch.pi / 180)
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.12
    shift = (torch.rand(count, 2) * 2 - 1) * (2 * 2 / SIZE)
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    rows = torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).reshape(count, 2, 3)
    grid = functional.affine_grid(rows, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def train(images: torch.Tensor, labels: torch.Tensor) -> Network:
    """A trained network in evaluation mode."""
    torch.manual_seed(SEED)
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=1e-3)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(network(augment(images[batch]))["logits"], labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@dataclass(frozen=True)
class Grid:
    """real = scale * (quantized - zero_point)."""

    scale: float
    zero_point: int


def calibrate(values: Mapping[str, torch.Tensor]) -> dict[str, Grid]:
    """The int8 grid of every activation, from its range over the calibration images."""
    grids = {"image": Grid(1 / 255, -128)}
    for layer in LAYERS:
        if layer.kind == "SOFTMAX":
            grids[layer.name] = Grid(1 / 256, -128)
        elif layer.kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE"):
            grids[layer.name] = grids[layer.sources[0]]
        else:
            low = min(0.0, float(values[layer.name].min()))
            high = max(0.0, float(values[layer.name].max()))
            scale = (high - low) / 255
            grids[layer.name] = Grid(scale, round(-128 - low / scale))
    return grids


class Writer:
    """Collects tensors, buffers and operators of a one-subgraph TFLite file."""

    def __init__(self) -> None:
        self.buffers = [tfl.BufferT()]
        self.tensors: list[tfl.TensorT] = []
        self.operators: list[tfl.OperatorT] = []
        self.codes: list[tfl.OperatorCodeT] = []

    def tensor(
        self,
        name: str,
        shape: tuple[int, ...],
        kind: int,
        scales: NDArray[np.float32],
        zero_points: NDArray[np.int64],
        *,
        axis: int = 0,
        data: NDArray[np.generic] | None = None,
    ) -> int:
        """Add a tensor; its index."""
        tensor = tfl.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, list(shape), kind, 0
        if scales.size:
            tensor.quantization = tfl.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = scales, zero_points
            tensor.quantization.quantizedDimension = axis
        if data is not None:
            buffer = tfl.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(self, kind: str, inputs: list[int], output: int, options_name: str, options: object) -> None:
        """Add an operator with its option table."""
        builtin = getattr(tfl.BuiltinOperator, kind)
        known = [code.builtinCode for code in self.codes]
        if builtin not in known:
            code = tfl.OperatorCodeT()
            code.builtinCode, code.deprecatedBuiltinCode = builtin, builtin
            # TFLite's version of an operator with int8: 3 for the weighted ones (per-channel), 2 for the others.
            weighted = ("CONV_2D", "DEPTHWISE_CONV_2D")
            code.version = 3 if kind in weighted else 4 if kind == "FULLY_CONNECTED" else 1 if kind == "RESHAPE" else 2
            self.codes.append(code)
            known.append(builtin)
        operator = tfl.OperatorT()
        operator.opcodeIndex = known.index(builtin)
        operator.inputs, operator.outputs = inputs, [output]
        operator.builtinOptionsType = getattr(tfl.BuiltinOptions, options_name)
        operator.builtinOptions = options
        self.operators.append(operator)

    def file(self, source: int, result: int) -> bytes:
        """The whole file."""
        graph = tfl.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = self.tensors, self.operators, [source], [result]
        model = tfl.ModelT()
        model.version, model.description = 3, "rocketnpu demo: handwritten digits"
        model.subgraphs, model.buffers, model.operatorCodes = [graph], self.buffers, self.codes
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())


def options_of(layer: Layer) -> tuple[str, object]:
    """The name and contents of an operator's option table."""
    activation = tfl.ActivationFunctionType.RELU if layer.relu else tfl.ActivationFunctionType.NONE
    name = {
        "CONV_2D": "Conv2DOptions",
        "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
        "MAX_POOL_2D": "Pool2DOptions",
        "AVERAGE_POOL_2D": "Pool2DOptions",
        "FULLY_CONNECTED": "FullyConnectedOptions",
        "ADD": "AddOptions",
        "RESHAPE": "ReshapeOptions",
        "SOFTMAX": "SoftmaxOptions",
    }[layer.kind]
    options = getattr(tfl, f"{name}T")()
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = activation
    if hasattr(options, "strideH"):
        options.strideH = options.strideW = layer.stride
        options.padding = tfl.Padding.SAME
    if hasattr(options, "dilationHFactor"):
        options.dilationHFactor = options.dilationWFactor = 1
    if layer.kind == "DEPTHWISE_CONV_2D":
        options.depthMultiplier = 1
    if name == "Pool2DOptions":
        options.filterHeight = options.filterWidth = layer.kernel
    if layer.kind == "SOFTMAX":
        options.beta = 1.0
    if layer.kind == "RESHAPE":
        options.newShape = [1, -1]
    return name, options


def quantize(network: Network, images: torch.Tensor) -> bytes:
    """The INT8 TFLite file of a network, calibrated on `images`."""
    with torch.no_grad():
        values = network(images)
    grids = calibrate(values)
    writer = Writer()

    def activation(name: str) -> int:
        shape = (1, *(values[name].shape[index] for index in ((2, 3, 1) if values[name].dim() == 4 else (1,))))
        scale, zero = np.float32([grids[name].scale]), np.int64([grids[name].zero_point])
        return writer.tensor(name, shape, tfl.TensorType.INT8, scale, zero)

    indices = {"image": activation("image")}
    for layer in LAYERS:
        operands = [indices[name] for name in layer.sources]
        if layer.has_weights:
            operands += constants(writer, layer, network, grids[layer.sources[0]].scale)
        elif layer.kind == "RESHAPE":
            shape = np.int32([1, -1])
            none = np.float32([]), np.int64([])
            operands.append(writer.tensor("features/shape", (2,), tfl.TensorType.INT32, *none, data=shape))
        indices[layer.name] = activation(layer.name)
        writer.operator(layer.kind, operands, indices[layer.name], *options_of(layer))
    return writer.file(indices["image"], indices["scores"])


def constants(writer: Writer, layer: Layer, network: Network, input_scale: float) -> Iterator[int]:
    """Add a layer's quantized weights and bias; their tensor indices.

    FULLY_CONNECTED has one weight scale for the whole tensor, the convolutions one for each output channel.
    """
    weights, bias = network.weights_and_bias(layer)
    axis = 3 if layer.kind == "DEPTHWISE_CONV_2D" else 0
    others = tuple(index for index in range(weights.ndim) if index != axis)
    peaks = np.abs(weights).max(axis=None if layer.kind == "FULLY_CONNECTED" else others)
    scales = np.atleast_1d(peaks / 127).astype(np.float32)
    along = scales.reshape([-1 if index == axis else 1 for index in range(weights.ndim)])
    stored = np.clip(np.round(weights / along), -127, 127).astype(np.int8)
    zeros = np.zeros(scales.size, np.int64)
    name, shape = f"{layer.name}/weights", weights.shape
    yield writer.tensor(name, shape, tfl.TensorType.INT8, scales, zeros, axis=axis, data=stored)
    bias_scales = (np.float32(input_scale) * scales).astype(np.float32)
    sums = np.round(bias / bias_scales).astype(np.int32)
    yield writer.tensor(f"{layer.name}/bias", sums.shape, tfl.TensorType.INT32, bias_scales, zeros, data=sums)


def classify(model: bytes, images: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The file's answers as LiteRT's reference kernels compute them, for (n, 32, 32) uint8 images."""
    interpreter = Interpreter(model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    interpreter.allocate_tensors()
    source, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    answers = []
    for image in images:
        interpreter.set_tensor(source, (image.astype(np.int16) - 128).astype(np.int8)[None, :, :, None])
        interpreter.invoke()
        answers.append(int(interpreter.get_tensor(result).argmax()))
    return np.array(answers)


def main() -> None:
    """Train, quantize, print both accuracies, and write the demo's files."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--output", type=Path, default=DEMO, help="folder for digits.tflite and the sample images")
    folder: Path = parser.parse_args().output
    images, labels = load_images()
    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    network = train(to_input(train_images), torch.from_numpy(train_labels))
    model = quantize(network, to_input(train_images))
    with torch.no_grad():
        float_answers = network(to_input(test_images))["scores"].argmax(1).numpy()
    int8_answers = classify(model, test_images)
    print(f"{len(train_images)} training images, {len(test_images)} held out; file {len(model)} bytes")
    print(f"float accuracy {np.mean(float_answers == test_labels):.2%}")
    print(f"INT8 accuracy  {np.mean(int8_answers == test_labels):.2%}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "digits.tflite").write_bytes(model)
    for digit in range(CLASSES):  # the first held-out image of each digit, whatever the network makes of it
        Image.fromarray(test_images[np.flatnonzero(test_labels == digit)[0]]).save(folder / f"digit_{digit}.png")


if __name__ == "__main__":
    main()
