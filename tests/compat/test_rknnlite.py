"""The vendor's Python interface on the vendor's own models."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rocketnpu.compat.rknnlite import RKNNLite
from rocketnpu.compat.rknnlite_inputs import Port, quantized
from rocketnpu.rknn.container import parse_container
from rocketnpu.rknn.normalization import input_normalizations
from rocketnpu.runtime.session import Session
from support.models import ModelBuilder

NAMES = ("a_channel", "a_layer", "a2_channel", "a2_layer", "b_channel", "b_layer")

END_TO_END = {"conv1_relu": 1, "conv3": 3, "sigmoid": 40, "fc": 1}
"""Largest difference, in int8 steps, from the tensors that the vendor's float simulator recorded, when each layer gets
the results of the one before: its rounding differences pass through (vectors/README.md; tests/rknn)."""

MEAN, DEVIATION = 127.5, 58.0
"""What model b was converted with."""


class Vector:
    """One vendor model: its file and what its simulator recorded for one input."""

    def __init__(self, folder: Path, name: str):
        self.path = str(folder / f"{name}.rknn")
        self.tensors: dict[str, NDArray[np.int8]] = dict(np.load(folder / f"{name}.tensors.npz"))
        with (folder / f"{name}.tensors.csv").open() as file:
            rows = list(csv.DictReader(file))
        self.grids = {row["tensor"]: (float(row["scale"]), int(row["zero_point"])) for row in rows}

    def real(self, tensor: str) -> NDArray[np.float32]:
        """A recorded tensor in real numbers."""
        scale, zero = self.grids[tensor]
        return ((self.tensors[tensor].astype(np.float32) - zero) * np.float32(scale)).astype(np.float32)

    def nhwc(self) -> NDArray[np.float32]:
        """Real numbers before normalisation that make the recorded input, as an image in NHWC."""
        real = self.real("x").transpose(0, 2, 3, 1)
        return real * np.float32(DEVIATION) + np.float32(MEAN) if Path(self.path).name.startswith("b_") else real


@pytest.fixture(scope="module")
def folder(shared: Path) -> Path:
    return shared / "vectors" / "vendor"


@pytest.fixture(scope="module")
def vectors(folder: Path) -> dict[str, Vector]:
    return {name: Vector(folder, name) for name in NAMES}


def started(path: str, core_mask: int = RKNNLite.NPU_CORE_AUTO) -> RKNNLite:
    rknn = RKNNLite()
    assert rknn.load_rknn(path) == 0
    assert rknn.init_runtime(core_mask=core_mask) == 0
    return rknn


def quantized_bytes(path: str) -> NDArray[np.int8]:
    """What the bytes 0..255 become as input of model b."""
    with Session(path) as session:
        (tensor,) = session.inputs
    tensor = replace(tensor, shape=(1, 1, 1, 256))
    (normalization,) = input_normalizations(parse_container(Path(path).read_bytes())).values()
    assert (normalization.mean, normalization.deviation) == ((MEAN,) * 3, (DEVIATION,) * 3)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (1, 3, 1, 1))
    return quantized(ramp, Port(tensor, normalization))[0, 0, 0]


def byte_image(vector: Vector) -> NDArray[np.uint8]:
    """Bytes that become the recorded input of model b, in NHWC."""
    byte_of = {int(value): byte for byte, value in enumerate(quantized_bytes(vector.path))}
    image = np.array([byte_of[int(value)] for value in vector.tensors["x"].ravel()], np.uint8)
    return image.reshape(vector.tensors["x"].shape).transpose(0, 2, 3, 1)


@pytest.mark.parametrize("core_mask", [RKNNLite.NPU_CORE_0, RKNNLite.NPU_CORE_0_1, RKNNLite.NPU_CORE_0_1_2])
@pytest.mark.parametrize("name", NAMES)
def test_results_are_those_that_the_vendor_recorded(name: str, core_mask: int, vectors: dict[str, Vector]) -> None:
    vector = vectors[name]
    rknn = started(vector.path, core_mask)
    outputs = rknn.inference(inputs=[vector.nhwc()])
    rknn.release()
    assert outputs is not None
    names = ("sigmoid", "fc") if name.startswith("b_") else ("conv1_relu",) if name.startswith("a_") else ("conv3",)
    assert [(value.shape, value.dtype) for value in outputs] == [
        (vector.tensors[tensor].shape, np.float32) for tensor in names
    ]
    for tensor, value in zip(names, outputs, strict=True):
        steps = np.abs(value - vector.real(tensor)).max() / vector.grids[tensor][0]
        assert steps <= END_TO_END[tensor] + 0.01, f"{tensor} is off by {steps} steps"


def test_a_model_that_is_not_the_vendors_takes_its_own_bytes(tmp_path: Path) -> None:
    builder = ModelBuilder(seed=4)
    x = builder.input((1, 6, 5, 3), "uint8", 0.02, 128)
    path = tmp_path / "model.tflite"
    path.write_bytes(builder.build(builder.conv2d(x, 8, name="y")))
    image = np.random.default_rng(1).integers(0, 256, (1, 6, 5, 3)).astype(np.uint8)
    with Session(path, device="emulator") as session:
        stored = session.run(image)["y"]
        (tensor,) = session.outputs
    assert tensor.quantization is not None
    real = (stored.astype(np.float32) - tensor.quantization.zero_points[0]) * tensor.quantization.scales[0]
    rknn = started(str(path), RKNNLite.NPU_CORE_0_1_2)
    for arguments in ({}, {"data_format": "nhwc"}):
        assert np.allclose(rknn.inference([image], **arguments)[0], real)
    assert np.allclose(rknn.inference([image.transpose(0, 3, 1, 2)], data_format="nchw")[0], real)
    assert np.allclose(rknn.inference([(image - 128.0) * 0.02])[0], real)
    assert rknn.inference([image.transpose(0, 3, 1, 2)]) is None


def test_application_of_a_user(vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]) -> None:
    model, image = vectors["b_layer"].path, byte_image(vectors["b_layer"])[0]

    rknn_lite = RKNNLite()
    ret = rknn_lite.load_rknn(model)
    assert ret == 0, "Load RKNN model failed"
    ret = rknn_lite.init_runtime(core_mask=RKNNLite.NPU_CORE_0_1_2)
    assert ret == 0, "Init runtime environment failed"
    img = np.expand_dims(image, 0)
    outputs = rknn_lite.inference(inputs=[img])
    top = np.argsort(outputs[1].reshape(-1))[::-1][:5]
    rknn_lite.release()

    assert top[0] == np.argmax(vectors["b_layer"].tensors["fc"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["b_channel", "b_layer"])
def test_bytes_are_quantized_as_the_vendor_does(name: str, vectors: dict[str, Vector]) -> None:
    """The recorded input is noise: it has every value that a byte can become, and no other."""
    recorded = set(vectors[name].tensors["x"].ravel().tolist())
    assert set(quantized_bytes(vectors[name].path).tolist()) == recorded


def test_layout_type_and_pass_through_say_what_the_numbers_are(vectors: dict[str, Vector]) -> None:
    vector = vectors["b_layer"]
    rknn = started(vector.path)
    image = byte_image(vector)
    first = rknn.inference([image])
    assert first is not None
    nchw, values = image.transpose(0, 3, 1, 2), vector.tensors["x"]
    same = {
        "nchw": rknn.inference([nchw], data_format="nchw"),
        "a list of formats": rknn.inference([nchw], data_format=["nchw"]),
        "float32": rknn.inference([image.astype(np.float32)]),
        "data_type": rknn.inference([image.astype(np.float64)], data_type="float16", data_format=["nhwc"]),
        "pass through": rknn.inference([values], data_format=["nchw"], inputs_pass_through=[1]),
        "no pass through": rknn.inference([image], inputs_pass_through=[0]),
    }
    rknn.release()
    for case, outputs in same.items():
        assert outputs is not None, case
        for one, other in zip(outputs, first, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=case)


def failed(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """Exactly one line was printed, on stderr, and it has these words."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    missing = [word for word in ("E RKNNLite: ", *words) if word not in err]
    assert not missing, err


def test_a_model_that_is_no_model_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rknn = RKNNLite()
    assert rknn.load_rknn("/no/such.rknn") == -1
    failed(capsys, "/no/such.rknn", "No such file")
    path = tmp_path / "x.rknn"
    path.write_bytes(b"RKNN")
    assert rknn.load_rknn(path) == -1
    failed(capsys, "RKNN file is damaged or cut short")
    assert rknn.init_runtime() == -1
    failed(capsys, "load_rknn first")


def test_a_failed_load_forgets_the_model_before(vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]) -> None:
    rknn = RKNNLite()
    assert rknn.load_rknn(vectors["a_layer"].path) == 0
    assert rknn.load_rknn("/no/such.rknn") == -1
    capsys.readouterr()
    assert rknn.init_runtime() == -1
    failed(capsys, "load_rknn first")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"core_mask": 5}, "core_mask 5"),
        ({"core_mask": [1]}, "core_mask [1]"),
        ({"target": "rk3566"}, "rk3566"),
        ({"async_mode": True}, "async_mode"),
    ],
)
def test_a_runtime_that_cannot_be_had_is_refused(
    arguments: dict[str, object], words: str, vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    rknn = RKNNLite()
    assert rknn.load_rknn(vectors["a_layer"].path) == 0
    assert rknn.init_runtime(**arguments) == -1  # type: ignore[arg-type]
    failed(capsys, words)


def test_inference_needs_a_runtime(vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]) -> None:
    image = vectors["a_layer"].nhwc()
    rknn = RKNNLite()
    assert rknn.inference([image]) is None
    failed(capsys, "init_runtime first")
    assert rknn.get_sdk_version() is None
    failed(capsys, "init_runtime first")
    rknn = started(vectors["a_layer"].path)
    rknn.release()
    rknn.release()
    assert rknn.inference([image]) is None
    failed(capsys, "init_runtime first")
    assert rknn.init_runtime() == -1
    failed(capsys, "load_rknn first")


IMAGE = np.zeros((1, 64, 64, 3), np.uint8)


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        ([IMAGE[0]], {}, "(1, 64, 64, 3) (nhwc); (64, 64, 3) was given"),
        ([IMAGE], {"data_format": "nchw"}, "(1, 3, 64, 64) (nchw)"),
        ([IMAGE, IMAGE], {}, "1 input; 2 were given"),
        (IMAGE, {}, "list of arrays"),
        ([IMAGE.tolist()], {}, "numpy array"),
        ([IMAGE.astype(np.complex64)], {}, "complex64"),
        ([np.full(IMAGE.shape, np.nan, np.float32)], {}, "NaN"),
        ([IMAGE], {"data_format": ["nhwc", "nhwc"]}, "data_format"),
        ([IMAGE], {"data_format": "chwn"}, "chwn"),
        ([IMAGE], {"data_type": "int4"}, "int4"),
        ([IMAGE + 0.5], {"data_type": "uint8"}, "0.5"),
        ([IMAGE], {"inputs_pass_through": [1]}, "int8"),
        ([IMAGE], {"get_frame_id": True}, "get_frame_id"),
    ],
)
def test_inputs_that_do_not_fit_are_one_line_and_no_result(
    inputs: object,
    options: dict[str, object],
    words: str,
    vectors: dict[str, Vector],
    capsys: pytest.CaptureFixture[str],
) -> None:
    rknn = started(vectors["b_layer"].path)
    assert rknn.inference(inputs, **options) is None  # type: ignore[arg-type]
    failed(capsys, words)


def test_a_model_without_a_normalisation_is_refused(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "b_layer.rknn").read_bytes()
    path = tmp_path / "model.rknn"
    for old, new, words in (
        (b"'mean': [127.5,", b"'maen': [127.5,", "'mean' of input 'x'"),
        (b"'std': [58.0, 58.0, 58.0]", b"'std': [58.0, -8.0, 58.0]", "positive"),
        (b"'std': [58.0, 58.0, 58.0]", b"'std': [58.0, 58.0, 1e99]", "'std' of input 'x'"),
        (b"'std': [58.0, 58.0, 58.0]", b"'std': [58.0, 58.0,     ]", "'std' of input 'x'"),
        (b"'rgb2bgr': False", b"'rgb2bgr': True ", "rgb2bgr"),
        (b"{'attrs': ", b"[([([([(((", "not a Python literal"),
    ):
        assert len(old) == len(new)
        path.write_bytes(data.replace(old, new))
        assert RKNNLite().load_rknn(path) == -1, new
        failed(capsys, words)


def test_versions_and_platforms(vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]) -> None:
    path = vectors["a_layer"].path
    rknn = started(path)
    report = rknn.get_sdk_version()
    assert report is not None
    assert [line.partition(":")[0].strip() for line in report.splitlines()[1:-1]] == ["RKNN VERSION", "API", "DRV"]
    assert rknn.list_support_target_platform(path) == {
        "filled_target_platform": ["rk3588"],
        "support_target_platform": ["RK3588"],
    }
    assert "['RK3588']" in capsys.readouterr().out
    assert rknn.list_support_target_platform() is None
    assert "RK3588" in capsys.readouterr().out
    assert rknn.list_support_target_platform("/no/such.rknn") is None
    failed(capsys, "No such file")


def test_verbose_tells_what_happens_also_to_a_file(
    tmp_path: Path, vectors: dict[str, Vector], capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "inference.log"
    rknn = RKNNLite(verbose=True, verbose_file=str(log))
    assert rknn.load_rknn(vectors["a_layer"].path) == 0
    assert rknn.init_runtime() == 0
    assert rknn.init_runtime(core_mask=6) == -1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:2] for line in err.splitlines()] == ["I ", "I ", "E "]
    assert log.read_text() == err


def test_core_masks_are_the_vendors_numbers() -> None:
    names = ("AUTO", "0", "1", "2", "0_1", "0_1_2", "ALL")
    assert [getattr(RKNNLite, f"NPU_CORE_{name}") for name in names] == [0, 1, 2, 4, 3, 7, 0xFFFF]
