"""`python -m benchmarks.network_models FOLDER`: published architectures with random weights, as exporters write them.

Detectors come from ultralytics by its `export(format="onnx")`. The others come from torchvision and timm by
`torch.onnx.export` with its defaults, which puts the weights into a file beside the model. Nothing else here needs
these packages. In an environment of its own: `pip install torch torchvision ultralytics timm onnxscript onnxslim`.

Weights are drawn from a fixed seed. Batch normalization learns its statistics from smooth images, and no factor of a
residual branch is zero, so that all layers matter as they do in a trained network.
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.yolo_images import smooth_images
from benchmarks.yolo_model import BIAS_MEAN, BIAS_STD, COMMON

SEED = 0
IMAGES, IMAGES_SEED = 4, 1
"""Smooth images that the batch normalizations see."""

DETECTORS = {
    "yolov5n": "yolov5n.yaml",
    "yolov8n": "yolov8n.yaml",
    "yolov10n": "yolov10n.yaml",
    "yolo11n": "yolo11n.yaml",
    "yolo26n": "yolo26n.yaml",
    "yolov8s": "yolov8s.yaml",
}
"""Names of files, and the architectures that ultralytics knows them by."""

DETECTOR_SIZE = 640
OTHER_SIZE = 224

SMALLEST_FACTOR = 1e-3
"""A factor of a residual branch below this counts as not trained."""


def _torchvision(name: str) -> nn.Module:
    return importlib.import_module("torchvision.models").get_model(name, weights=None)


def _timm(name: str) -> nn.Module:
    return importlib.import_module("timm").create_model(name, pretrained=False)


OTHERS: dict[str, tuple[Callable[[str], nn.Module], str]] = {
    "resnet18": (_torchvision, "resnet18"),
    "mobilenet_v3": (_torchvision, "mobilenet_v3_large"),
    "convnext_tiny": (_torchvision, "convnext_tiny"),
    "vit_tiny": (_timm, "vit_tiny_patch16_224"),
    "swin_tiny": (_torchvision, "swin_t"),
}

NAMES = (*DETECTORS, *OTHERS)


def make_plausible(network: nn.Module, size: int) -> None:
    """Give a network with fresh weights the statistics of a trained one, in place.

    `size` is the height and width in pixels of the images that batch normalization learns from.
    """
    norms: list[nn.BatchNorm2d] = []
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                module.weight += COMMON * module.weight.std() / math.sqrt(module.weight[0].numel())
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.8, 1.2)
                nn.init.normal_(module.bias, BIAS_MEAN, BIAS_STD)
                module.momentum = None  # the mean over all images
                module.reset_running_stats()
                norms.append(module)
        for name, values in network.named_parameters():
            if name.rsplit(".", 1)[-1] in ("gamma", "layer_scale") and values.abs().max() < SMALLEST_FACTOR:
                nn.init.uniform_(values, 0.1, 0.3)
        network.eval()
        for norm in norms:
            norm.train()
        if norms:
            network(torch.from_numpy(smooth_images(IMAGES, size, IMAGES_SEED)))
    network.eval()


def export_detector(name: str, target: Path) -> None:
    """Write one of DETECTORS by ultralytics' default export."""
    ultralytics = importlib.import_module("ultralytics")
    torch.manual_seed(SEED)
    with tempfile.TemporaryDirectory() as folder:
        detector: Any = ultralytics.YOLO(DETECTORS[name])
        make_plausible(detector.model, DETECTOR_SIZE)
        weights = Path(folder) / f"{name}.pt"
        detector.save(weights)  # the export's name is that of the weights
        written = ultralytics.YOLO(weights).export(format="onnx", imgsz=DETECTOR_SIZE)
        shutil.copyfile(written, target)


def export_other(name: str, target: Path) -> None:
    """Write one of OTHERS by torch.onnx.export with its defaults."""
    make, architecture = OTHERS[name]
    torch.manual_seed(SEED)
    network = make(architecture)
    make_plausible(network, OTHER_SIZE)
    image = torch.from_numpy(smooth_images(1, OTHER_SIZE, IMAGES_SEED))
    torch.onnx.export(network, (image,), str(target))


def export(name: str, target: Path) -> None:
    """Write the network `name` (one of NAMES) to `target`; torch's exporter puts the weights beside it."""
    (export_detector if name in DETECTORS else export_other)(name, target)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.network_models", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)} (default: all)")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("YOLO_OFFLINE", "true")
    for name in arguments.names or NAMES:
        export(name, arguments.folder / f"{name}.onnx")


if __name__ == "__main__":
    main()
