"""`python -m benchmarks.batch`: eight images in one submission, beside eight submissions of one.

MobileNetV1 of the shared models up to its last layer, and a residual network of int8 QDQ nodes. The bytes must be
equal; cycles are those of the vendor's model (docs/cost.md). Exit code 1 if a target is missed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

import rocketnpu as rn
from benchmarks.figures import Figure
from benchmarks.models import shared_folder
from rocketnpu.frontends import load_model
from rocketnpu.profile import profile

BATCH = 8
SIDE = 32
CHANNELS = 32
BLOCKS = 4


def main() -> int:
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        for figure in (*_mobilenet(), *_residual(Path(folder))):
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def _mobilenet() -> Iterator[Figure]:
    model = shared_folder() / "models" / "mobilenet_v1_1.0_224_quant.tflite"
    graph = load_model(model)
    (name,) = graph.inputs
    end = [op.outputs[0] for op in graph.operators if op.kind == "CONV_2D"][-1]  # the RESHAPE behind it says 1 x 1001
    shape = (BATCH, *graph.tensors[name].shape[1:])
    batch = rn.compile(model, input_shapes={name: shape}, outputs=end)
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    yield from _figures("MobileNetV1", batch, rn.compile(model, outputs=end), images)


def _residual(folder: Path) -> Iterator[Figure]:
    programs: list[rn.Program] = []
    for count in (BATCH, 1):
        source, target = folder / "float.onnx", folder / f"int8_{count}.onnx"
        source.write_bytes(_network(count))
        quantize_static(
            source,
            target,
            _Noise(count),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        programs.append(rn.compile(target))
    images = np.random.default_rng(0).normal(0, 1, (BATCH, CHANNELS, SIDE, SIDE)).astype(np.float32)
    yield from _figures("residual network", *programs, images)


def _figures(name: str, batch: rn.Program, single: rn.Program, images: np.ndarray[Any, Any]) -> Iterator[Figure]:
    with rn.Session(batch, device="emulator") as together, rn.Session(single, device="emulator") as alone:
        (found,) = together.run(images).values()
        parts = [next(iter(alone.run(images[index : index + 1]).values())) for index in range(BATCH)]
    many, one = profile(batch).totals[0], profile(single).totals[0]
    weights = [
        sum(segment.size_bytes for segment in program.segments if segment.name == "constants")
        for program in (batch, single)
    ]
    yield Figure(f"{name}, {BATCH} images: submissions", many.kicks, "", 1)
    yield Figure(f"{name}: bytes that differ from single runs", int((found != np.concatenate(parts)).sum()), "", 0)
    yield Figure(f"{name}: cycles beside {BATCH} single runs", many.cycles / one.cycles / BATCH, "", 1.0)
    yield Figure(f"{name}: bytes moved beside {BATCH} single runs", many.moved_bytes / one.moved_bytes / BATCH, "", 1.0)
    yield Figure(f"{name}: constants beside those of one image", weights[0] / weights[1], "", 1.01)


class _Noise(CalibrationDataReader):
    """The same inputs for each image, so that both sizes get the same scales."""

    def __init__(self, count: int) -> None:
        image = np.random.default_rng(1).normal(0, 1, (1, CHANNELS, SIDE, SIDE)).astype(np.float32)
        self._left = [np.repeat(image, count, axis=0)]

    def get_next(self) -> dict[str, Any] | None:
        return {"x": self._left.pop()} if self._left else None


def _network(count: int) -> bytes:
    rng, nodes, weights = np.random.default_rng(2), list[Any](), list[Any]()
    name = "x"
    for block in range(BLOCKS):
        for layer, source in (("a", name), ("b", f"relu{block}")):
            values = rng.normal(0, 0.08, (CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
            weights.append(numpy_helper.from_array(values, f"w{block}{layer}"))
            nodes.append(helper.make_node("Conv", [source, f"w{block}{layer}"], [f"{layer}{block}"], pads=[1] * 4))
            if layer == "a":
                nodes.append(helper.make_node("Relu", [f"a{block}"], [f"relu{block}"]))
        nodes.append(helper.make_node("Add", [name, f"b{block}"], [f"sum{block}"]))
        name = f"sum{block}"
    shape = (count, CHANNELS, SIDE, SIDE)
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end in ("x", name)]
    graph = helper.make_graph(nodes, "residual", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


if __name__ == "__main__":
    sys.exit(main())
