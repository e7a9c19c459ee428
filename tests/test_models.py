"""Real models end to end: each layer against LiteRT's reference kernels, and the models' answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import rocketnpu as rn
from rocketnpu.cpu.litert import Reference
from rocketnpu.frontends import load_model
from rocketnpu.program.model import Program
from rocketnpu.runtime.device import Part, Timing
from rocketnpu.runtime.emulated import EmulatedDevice
from support.agreement import Agreement, agreement, assert_close, assert_sound

MOBILENET = "mobilenet_v1_1.0_224_quant.tflite"
CLASSIFIERS = (
    "mobilenet_v1_0.25_128_quant.tflite",
    "mobilenet_v2_1.0_224_quant.tflite",
    "efficientnet_lite0_int8.tflite",
    "tiny/resnet8_int8.tflite",
    "tiny/kws_dscnn_int8.tflite",
)
DEEPLAB = "deeplabv3_mnv2_dm05_pascal_quant.tflite"
MODELS = (MOBILENET, *CLASSIFIERS, DEEPLAB)
SMALL = ("mobilenet_v1_0.25_128_quant.tflite", "tiny/resnet8_int8.tflite", "tiny/kws_dscnn_int8.tflite")
"""Models whose run takes a fraction of a second."""

HOPPER_CLASS = 653
"""military uniform, which Grace Hopper wears."""
RANDOM_INPUTS = 5


@pytest.fixture
def models(shared: Path) -> Path:
    return shared / "models"


@pytest.fixture
def hopper(shared: Path) -> NDArray[np.uint8]:
    """The photograph, (224, 224, 3)."""
    return np.fromfile(shared / "vectors/golden/grace_hopper_224.bin", np.uint8).reshape(224, 224, 3)


def test_each_of_mesas_single_layers(models: Path) -> None:
    paths = sorted(models.glob("mesa-ops/*.tflite"))
    assert len(paths) == 33
    results = [_on_noise(path.read_bytes(), seed=0) for path in paths]
    elements = sum(result.expected[name].size for result in results for name in result.npu_tensors)
    unequal = sum(result.unequal * sum(result.expected[n].size for n in result.npu_tensors) for result in results)
    assert unequal / elements <= 0.00001, f"{unequal:.0f} of all {elements} bytes differ"


def test_mobilenet_tells_what_grace_hopper_wears(models: Path, shared: Path, hopper: NDArray[np.uint8]) -> None:
    data = (models / MOBILENET).read_bytes()
    result = agreement(data, [hopper[None]])
    (output,) = result.program.outputs
    with rn.Session(result.program) as session:
        scores = session.run(hopper[None])[output]
    assert int(scores.argmax()) == HOPPER_CLASS
    assert_close({output: scores}, result.expected, tolerance=4)
    golden = np.fromfile(shared / "vectors/golden/golden_mobilenet_output.bin", np.uint8)
    # LiteRT's own kernels differ by up to 4 from this record of another CPU, and we by up to 4 from LiteRT's.
    assert_close({"scores": scores.reshape(-1)}, {"scores": golden}, tolerance=8)


def test_mobilenet_is_compact(models: Path, hopper: NDArray[np.uint8]) -> None:
    data = (models / MOBILENET).read_bytes()
    program = rn.compile(data)
    sizes = {segment.name: segment.size_bytes for segment in program.segments}
    weights = sum(tensor.data.nbytes for tensor in load_model(data).tensors.values() if tensor.data is not None)
    assert sizes["constants"] <= 1.05 * weights, f"{sizes['constants']} bytes for {weights} of the model"
    assert sizes["activations"] <= 2_500_000
    assert len(program.tasks) <= 45
    device = _CountingDevice(2 * sum(segment.size_bytes + 4096 for segment in program.segments))
    try:
        with rn.Session(program, device) as session:
            session.run(hopper[None])
    finally:
        device.close()
    convolutions = sum(op.kind.endswith("CONV_2D") for step in program.steps for op in step.operators)
    assert convolutions == 28
    assert device.submits == 1, f"{device.submits} submissions for {convolutions} convolutions"


@pytest.mark.parametrize("name", MODELS)
def test_programs_are_legal_and_keep_their_tensors_apart(models: Path, name: str) -> None:
    assert_sound(rn.compile(models / name))


@pytest.mark.parametrize("name", SMALL)
def test_each_layer_of_a_small_model(models: Path, name: str) -> None:
    result = _on_noise((models / name).read_bytes(), seed=7)
    assert len(result.npu_tensors) >= 10


@pytest.mark.slow
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_layer_and_the_answer_of_a_classifier(models: Path, hopper: NDArray[np.uint8], name: str) -> None:
    data = (models / name).read_bytes()
    for found, expected in _answers(data, hopper):
        assert found.argmax() == expected.argmax(), f"class {found.argmax()}, the reference {expected.argmax()}"


@pytest.mark.slow
def test_each_layer_and_the_pixels_of_deeplab(models: Path, hopper: NDArray[np.uint8]) -> None:
    data = (models / DEEPLAB).read_bytes()
    for found, expected in _answers(data, hopper):
        assert np.mean(found == expected) >= 0.98, f"{np.mean(found == expected):.2%} of pixels have the same class"


def test_the_layer_that_was_captured_from_silicon(shared: Path) -> None:
    """Compiled by us, on the captured input (it is constant) and on noise."""
    folder = shared / "vectors/silicon/teflon-dw"
    data = (folder / "dw_pt.tflite").read_bytes()
    captured = np.fromfile(folder / "mesa-input-000-000.bin", np.int8)[:4096].reshape(1, 8, 8, 64)
    assert not agreement(data, [captured]).reasons()
    assert not _on_noise(data, seed=2).reasons()


def test_the_small_models_of_the_golden_vectors(shared: Path) -> None:
    paths = sorted((shared / "vectors/golden").glob("*.tflite"))
    assert len(paths) == 8
    for path in paths:
        _on_noise(path.read_bytes(), seed=1)


def test_the_golden_fully_connected_model(shared: Path) -> None:
    """Input and output as a CPU computed them; the model's int8 input is the recorded byte - 128."""
    folder = shared / "vectors/golden"
    recorded = np.fromfile(folder / "fc_test_input.bin", np.uint8).reshape(1, 32, 32, 3)
    golden = np.fromfile(folder / "fc_cpu_golden.bin", np.int8)
    with rn.Session(folder / "fc_model_int8.tflite") as session:
        (found,) = session.run((recorded.astype(np.int16) - 128).astype(np.int8)).values()
    assert_close({"scores": found.reshape(-1)}, {"scores": golden})


class _CountingDevice(EmulatedDevice):
    """The emulator, with a count of submissions."""

    submits = 0

    def submit(self, parts: Sequence[Part]) -> Timing:
        self.submits += 1
        return super().submit(parts)


def _answers(data: bytes, hopper: NDArray[np.uint8]) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """The only output, found and expected, for each input; every layer alone has agreed."""
    program = rn.compile(data)
    reference = Reference(data)
    (output,) = program.outputs
    with rn.Session(program) as session:
        for image in _inputs(program, hopper):
            expected = reference.tensors([image])
            assert_close(_npu_only(program, session.run_isolated(expected)), expected)
            yield session.run(image)[output], expected[output]


def _npu_only(program: Program, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name: tensors[name] for step in program.steps if step.place == "npu" for name in step.outputs}


def _inputs(program: Program, hopper: NDArray[np.uint8]) -> Iterator[NDArray[Any]]:
    """Noise, and the photograph in the input's size and type when the input is a picture."""
    entry = next(tensor for tensor in program.tensors if tensor.name == program.inputs[0])
    generator = np.random.default_rng(0)
    for _ in range(RANDOM_INPUTS):
        if entry.dtype in ("int8", "uint8"):
            limits = np.iinfo(entry.dtype)
            yield generator.integers(limits.min, limits.max, entry.shape, entry.dtype, endpoint=True)
        else:
            yield generator.random(entry.shape, np.float32)
    if entry.shape[-1] == 3:
        picture = np.asarray(Image.fromarray(hopper).resize(entry.shape[2:0:-1], Image.Resampling.BILINEAR))[None]
        match entry.dtype:
            case "uint8":
                yield picture
            case "int8":
                yield (picture.astype(np.int16) - 128).astype(np.int8)
            case _:
                yield picture.astype(np.float32) / 255


def _on_noise(data: bytes, seed: int) -> Agreement:
    """`agreement` on random inputs."""
    graph = load_model(data)
    generator = np.random.default_rng(seed)
    inputs: list[NDArray[Any]] = []
    for tensor in (graph.tensors[name] for name in graph.inputs):
        limits = np.iinfo(tensor.dtype.name)
        inputs.append(generator.integers(limits.min, limits.max, tensor.shape, tensor.dtype.name, endpoint=True))
    return agreement(data, inputs)
