"""`python -m benchmarks.yolo_model FILE.onnx`: YOLOv5s with random weights and three raw heads, quantized to 8 bits.

The network is the published layer table (YOLOv5 v6, depth 0.33, width 0.50, 80 classes), written out in `LAYERS`. It
needs PyTorch, which nothing else here does: in an environment of its own, `pip install torch onnx onnxruntime`.
Random weights keep the scale of activations (He), and batch normalization is calibrated on inputs like those measured
later, so that all layers use their 8 bits as in a trained network. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from benchmarks.yolo_images import INPUT, smooth_images

OPSET = 17
SEED = 0
CALIBRATION_SEED, CALIBRATION_INPUTS = 1, 4
PERCENTILE = 99.5
"""Of each tensor's elements that its range holds; the borders, where padding is seen, have a few much larger ones."""
HEAD_CHANNELS = 255
"""Three anchors with 80 classes, a box of 4 numbers and a score each."""

BIAS_MEAN, BIAS_STD = 1.0, 0.2
"""Of the batch normalizations, in standard deviations of what they normalize."""
COMMON = 1.35
"""Mean of a filter's weights, in their standard deviation over the root of their number: what its inputs have in common
then counts about as much as where they differ.

Both keep rounding from growing. With means of 0 a random network is chaotic: at 160x160 one pixel changed by 2/255
moves the heads by 3 to 20 steps on average in ONNX Runtime itself, and its optimizer moves them by 2 to 17."""
HEAD_BIAS = 2.0
"""Channels of a head lie around different values, as box, score and classes do."""

PREVIOUS = -1
LAYERS = (
    # from, kind, arguments: channels, kernel, stride; for c3 channels, repeats, shortcut
    (PREVIOUS, "conv", (32, 6, 2)),
    (PREVIOUS, "conv", (64, 3, 2)),
    (PREVIOUS, "c3", (64, 1, True)),
    (PREVIOUS, "conv", (128, 3, 2)),
    (PREVIOUS, "c3", (128, 2, True)),
    (PREVIOUS, "conv", (256, 3, 2)),
    (PREVIOUS, "c3", (256, 3, True)),
    (PREVIOUS, "conv", (512, 3, 2)),
    (PREVIOUS, "c3", (512, 1, True)),
    (PREVIOUS, "sppf", (512,)),
    (PREVIOUS, "conv", (256, 1, 1)),
    (PREVIOUS, "double", ()),
    ((PREVIOUS, 6), "concat", ()),
    (PREVIOUS, "c3", (256, 1, False)),
    (PREVIOUS, "conv", (128, 1, 1)),
    (PREVIOUS, "double", ()),
    ((PREVIOUS, 4), "concat", ()),
    (PREVIOUS, "c3", (128, 1, False)),
    (PREVIOUS, "conv", (128, 3, 2)),
    ((PREVIOUS, 14), "concat", ()),
    (PREVIOUS, "c3", (256, 1, False)),
    (PREVIOUS, "conv", (256, 3, 2)),
    ((PREVIOUS, 10), "concat", ()),
    (PREVIOUS, "c3", (512, 1, False)),
)
"""Width and depth applied; the numbers behind `from` are places in this table."""
HEADS = (17, 20, 23)
"""Layers that a head reads: strides 8, 16 and 32."""

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU}


class Conv(nn.Module):
    """Convolution, batch normalization, activation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, activation: str) -> None:
        super().__init__()
        padding = 2 if kernel == 6 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=None)  # None: the mean over all calibration inputs
        self.activation = ACTIVATIONS[activation]()
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")
        with torch.no_grad():
            weights = self.conv.weight
            weights += COMMON * weights.std() / math.sqrt(weights[0].numel())
        nn.init.uniform_(self.norm.weight, 0.8, 1.2)
        nn.init.normal_(self.norm.bias, BIAS_MEAN, BIAS_STD)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1, then 3x3, added to the input where `shortcut` says so."""

    def __init__(self, channels: int, shortcut: bool, activation: str) -> None:
        super().__init__()
        self.first = Conv(channels, channels, 1, 1, activation)
        self.second = Conv(channels, channels, 3, 1, activation)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        made = self.second(self.first(x))
        return x + made if self.shortcut else made


class C3(nn.Module):
    """Bottlenecks on one half of the channels, the other half beside them."""

    def __init__(self, inputs: int, outputs: int, repeats: int, shortcut: bool, activation: str) -> None:
        super().__init__()
        half = outputs // 2
        self.deep = Conv(inputs, half, 1, 1, activation)
        self.beside = Conv(inputs, half, 1, 1, activation)
        self.blocks = nn.Sequential(*(Bottleneck(half, shortcut, activation) for _ in range(repeats)))
        self.join = Conv(outputs, outputs, 1, 1, activation)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.blocks(self.deep(x)), self.beside(x)), 1))


class Sppf(nn.Module):
    """Three maxima over 5x5 windows, each of the one before, concatenated."""

    def __init__(self, inputs: int, outputs: int, activation: str) -> None:
        super().__init__()
        self.narrow = Conv(inputs, inputs // 2, 1, 1, activation)
        self.widen = Conv(inputs * 2, outputs, 1, 1, activation)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.narrow(x)]
        for _ in range(3):
            found.append(self.pool(found[-1]))
        return self.widen(torch.cat(found, 1))


class Concat(nn.Module):
    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, 1)


class YoloV5s(nn.Module):
    """Images (N, 3, size, size) in [0, 1] to three heads (N, 255, size / stride, size / stride)."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        channels: list[int] = []
        layers: list[nn.Module] = []
        for source, kind, arguments in LAYERS:
            inputs = sum(channels[at] for at in _places(source)) if channels else 3
            layer, outputs = _layer(kind, inputs, arguments, activation)
            layers.append(layer)
            channels.append(outputs)
        self.layers = nn.ModuleList(layers)
        self.heads = nn.ModuleList(nn.Conv2d(channels[at], HEAD_CHANNELS, 1) for at in HEADS)
        for head in self.heads:
            nn.init.kaiming_normal_(head.weight, nonlinearity="linear")
            nn.init.uniform_(head.bias, -HEAD_BIAS, HEAD_BIAS)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        made: list[Tensor] = []
        for (source, _, _), layer in zip(LAYERS, self.layers, strict=True):
            made.append(layer(*(made[at] for at in _places(source))) if made else layer(x))
        return tuple(head(made[at]) for at, head in zip(HEADS, self.heads, strict=True))


def _places(source: int | tuple[int, ...]) -> tuple[int, ...]:
    return source if isinstance(source, tuple) else (source,)


def _layer(kind: str, inputs: int, arguments: tuple[int, ...], activation: str) -> tuple[nn.Module, int]:
    """A line of the table as a module, and the channels it makes."""
    match kind:
        case "conv":
            return Conv(inputs, *arguments, activation), arguments[0]
        case "c3":
            return C3(inputs, *arguments, activation), arguments[0]
        case "sppf":
            return Sppf(inputs, *arguments, activation), arguments[0]
        case "double":
            return nn.Upsample(scale_factor=2, mode="nearest"), inputs
        case _:
            return Concat(), inputs


class _Inputs(CalibrationDataReader):
    """What the quantizer asks for: one input after the other, then None."""

    def __init__(self, images: np.ndarray) -> None:
        self._images: Iterator[np.ndarray] = iter(images)

    def get_next(self) -> dict[str, np.ndarray] | None:
        image = next(self._images, None)
        return None if image is None else {INPUT: image[None]}


def build(activation: str, size: int, path: Path) -> None:
    """Write the quantized model (QDQ; int8 weights per channel, uint8 activations) for images of size x size."""
    torch.manual_seed(SEED)
    network = YoloV5s(activation)
    images = smooth_images(CALIBRATION_INPUTS, size, CALIBRATION_SEED)
    with torch.no_grad():
        network.train()(torch.from_numpy(images))
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        exported, prepared = Path(folder, "float.onnx"), Path(folder, "prepared.onnx")
        torch.onnx.export(
            network,
            (torch.from_numpy(images[:1]),),
            exported,
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=["stride_8", "stride_16", "stride_32"],
        )  # which folds the batch normalizations into the convolutions
        quant_pre_process(exported, prepared)
        quantize_static(
            prepared,
            path,
            _Inputs(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QUInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": PERCENTILE},
        )
        path.with_suffix(".float.onnx").write_bytes(prepared.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yolo_model", description=__doc__)
    parser.add_argument("file", type=Path, help="the model to write; its float original goes beside it")
    parser.add_argument("--activation", choices=tuple(ACTIVATIONS), default="relu")
    parser.add_argument("--size", type=int, default=640, help="height and width of the image (default: 640)")
    arguments = parser.parse_args()
    build(arguments.activation, arguments.size, arguments.file)


if __name__ == "__main__":
    main()
