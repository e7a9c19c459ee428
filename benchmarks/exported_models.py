"""`python -m benchmarks.exported_models FOLDER`: small networks of many styles, exported by PyTorch and quantized.

Random weights; quantized per channel by ONNX Runtime's tool. It needs PyTorch, as `benchmarks.yolo_model` does.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn
from torch.nn import functional

OPSETS = (13, 17, 20)
Activation = Callable[[], nn.Module]
Shape = tuple[int, ...]


def layer(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1, act: Activation = nn.ReLU
) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), act())


class Excitation(nn.Module):
    """Squeeze and excite."""

    def __init__(self, channels: int, act: Activation, gate: Activation) -> None:
        super().__init__()
        inner = channels // 4
        first, second = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), first, act(), second, gate())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale(x)


class Residual(nn.Module):
    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def inverted(inputs: int, outputs: int, stride: int, act: Activation, gate: Activation) -> nn.Module:
    """A block of MobileNetV3 and EfficientNet."""
    wide = 4 * inputs
    body = nn.Sequential(
        layer(inputs, wide, 1, act=act),
        layer(wide, wide, 5, stride, wide, act=act),
        Excitation(wide, nn.ReLU, gate),
        layer(wide, outputs, 1, act=nn.Identity),
    )
    return Residual(body) if stride == 1 and inputs == outputs else body


def classifier(act: Activation, gate: Activation) -> nn.Module:
    blocks = (inverted(16, 24, 2, act, gate), inverted(24, 24, 1, act, gate), layer(24, 64, 1, act=act))
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), act(), nn.Linear(64, 10))
    return nn.Sequential(layer(3, 16, 3, 2, act=act), *blocks, *head)


def resnet() -> nn.Module:
    blocks = [Residual(nn.Sequential(layer(16, 16), layer(16, 16, act=nn.Identity))) for _ in range(2)]
    pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    return nn.Sequential(layer(3, 16, 7, 2), nn.MaxPool2d(3, 2, 1, ceil_mode=True), *blocks, *pooled)


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = layer(3, 16), layer(16, 32)
        self.up = nn.ConvTranspose2d(32, 16, 4, 2, 1)
        self.out = nn.Sequential(layer(32, 16, act=nn.Mish), nn.Conv2d(16, 2, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        wide = self.down(x)
        return self.out(torch.cat([self.up(self.deep(functional.max_pool2d(wide, 2))), wide], 1))


def enlarger() -> nn.Module:
    """ESPCN: pixels out of channels."""
    return nn.Sequential(nn.Conv2d(1, 64, 5, 1, 2), nn.Tanh(), nn.Conv2d(64, 9, 3, 1, 1), nn.PixelShuffle(3))


def generator() -> nn.Module:
    """DCGAN's half that draws."""
    first, second = nn.ConvTranspose2d(32, 16, 4, 1, 0), nn.ConvTranspose2d(16, 16, 3, 2, 1, 1)
    return nn.Sequential(first, nn.BatchNorm2d(16), nn.ELU(), second, nn.LeakyReLU(0.2), layer(16, 3, act=nn.Hardtanh))


class Detector(nn.Module):
    """YOLOv8's neck and SSD's heads in small: split branches, a pyramid of pools, channels last at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(layer(3, 16, 3, 2, act=nn.SiLU), layer(16, 32, 3, 2, act=nn.SiLU))
        self.branch, self.joined = layer(16, 16, act=nn.SiLU), layer(48, 32, 1, act=nn.SiLU)
        self.pool, self.mixed = nn.MaxPool2d(5, 1, 2), layer(96, 32, 1, act=nn.SiLU)
        self.head = nn.Conv2d(64, 18, 1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.stem(x).chunk(2, 1)
        x = self.joined(torch.cat([left, right, self.branch(right)], 1))
        once = self.pool(x)
        deep = self.mixed(torch.cat([x, once, self.pool(once)], 1))
        small = functional.max_pool2d(deep, 2)
        x = torch.cat([functional.interpolate(small, scale_factor=2.0), deep], 1)
        return self.head(x).permute(0, 2, 3, 1)


class Products(nn.Module):
    """A block of ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.spread = nn.Conv2d(3, 24, 4, 4), nn.Conv2d(24, 24, 7, 1, 3, groups=24)
        self.norm, self.wide, self.narrow = nn.LayerNorm(24), nn.Linear(24, 96), nn.Linear(96, 24)
        self.scores = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        last = self.norm(self.spread(x).permute(0, 2, 3, 1))
        last = self.narrow(functional.gelu(self.wide(last)))
        return self.scores((x + last.permute(0, 3, 1, 2)).mean([2, 3]))


IMAGE = (1, 3, 64, 64)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], Shape]] = {
    "mobilenetv3": (lambda: classifier(nn.Hardswish, nn.Hardsigmoid), IMAGE),
    "efficientnet": (lambda: classifier(nn.SiLU, nn.Sigmoid), IMAGE),
    "resnet": (resnet, IMAGE),
    "unet": (UNet, IMAGE),
    "espcn": (enlarger, (1, 1, 32, 32)),
    "dcgan": (generator, (1, 32, 4, 4)),
    "detector": (Detector, IMAGE),
    "convnext": (Products, IMAGE),
}


class Samples(CalibrationDataReader):
    """Random images."""

    def __init__(self, shape: Shape) -> None:
        random = np.random.default_rng(1)
        self._samples: Iterator[Any] = iter([{"x": random.standard_normal(shape).astype(np.float32)} for _ in range(4)])

    def get_next(self) -> Any:
        return next(self._samples, None)


def build(name: str, opset: int, target: Path) -> None:
    """Make, export and quantize one network."""
    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        network(torch.randn(4, *shape[1:]))  # normalizations learn what they see
    network.eval()
    with tempfile.TemporaryDirectory() as folder:
        exported, prepared = Path(folder) / "exported.onnx", Path(folder) / "prepared.onnx"
        torch.onnx.export(
            network, (torch.randn(shape),), str(exported), input_names=["x"], opset_version=opset, dynamo=False
        )
        quant_pre_process(str(exported), str(prepared))
        types = {"activation_type": QuantType.QInt8, "weight_type": QuantType.QInt8}
        quantize_static(prepared, target, Samples(shape), quant_format=QuantFormat.QDQ, per_channel=True, **types)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported_models", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in NETWORKS:
        for opset in OPSETS:
            build(name, opset, folder / f"{name}-{opset}.onnx")


if __name__ == "__main__":
    main()
