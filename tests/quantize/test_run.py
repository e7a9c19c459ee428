"""`rocketnpu.quantize` and its report, whatever the kind of model."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.errors import Error, ModelError
from rocketnpu.frontends import load_model
from rocketnpu.quantizer.report import Sqnr
from support.models import ModelBuilder
from support.onnx_models import OnnxBuilder, normal, small_network

SHAPE = (1, 8, 8, 3)


def small(dtype: str = "float32") -> bytes:
    model = ModelBuilder(1)
    return model.build(model.conv2d(model.input(SHAPE, dtype, name="x"), 4, name="y"))


def values(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (count, *SHAPE)).astype(np.float32)


def test_the_ratio_is_that_of_powers_in_decibels():
    ratio = Sqnr()
    ratio.add(np.array([1.0, 2.0]), np.array([1.1, 2.2]))
    ratio.add(np.array([3.0]), np.array([3.3]))
    assert ratio.decibels == pytest.approx(10 * math.log10((1.21 + 4.84 + 10.89) / (0.01 + 0.04 + 0.09)))
    exact, silent = Sqnr(), Sqnr()
    exact.add(np.ones(3), np.ones(3))
    silent.add(np.ones(3), np.zeros(3))
    assert (exact.decibels, silent.decibels) == (math.inf, -math.inf)


def test_the_report_counts_inputs_and_lists_tensors_in_the_model_s_order():
    calls: list[tuple[str, int, int]] = []
    quantized = rn.quantize(small(), values(20), count=12, progress=lambda *call: calls.append(call))
    report = quantized.report
    assert (report.inputs, report.evaluated) == (12, 8)
    assert [layer.tensor for layer in report.layers] == ["x", "y"]
    assert calls == [("calibrating", n, 12) for n in range(1, 13)] + [("measuring", n, 8) for n in range(1, 9)]
    for layer in report.layers:
        assert 30 < layer.end_to_end <= layer.grid + 0.1
    assert report.outputs["y"] == pytest.approx(report.layers[-1].end_to_end, abs=0.01)


def uneven() -> bytes:
    """Channels of unlike sizes that a function squeezes: no grid has steps for all of them."""
    model = OnnxBuilder(opset=17)
    scales = np.geomspace(1e-4, 1e2, 8).astype(np.float32).reshape(1, 8, 1, 1)
    x = model.node("Conv", model.input((1, 3, 8, 8), name="x"), model.constant(normal((8, 3, 3, 3), 0.3, 0)))
    y = model.node("Mul", model.node("Tanh", x), model.constant(scales), name="uneven")
    weights = (normal((4, 8, 1, 1), 0.3, 1) / scales.reshape(1, 8, 1, 1)).astype(np.float32)
    return model.build(model.node("Conv", y, model.constant(weights), name="z"), dtype=np.float32)


def test_tensors_that_are_named_stay_float():
    everything, left = rn.quantize(small(), values(4)), rn.quantize(small(), values(4), keep_float=["y*"])
    assert rn.compile(everything.model).placement.npu_macs > rn.compile(left.model).placement.npu_macs == 0
    with pytest.raises(ModelError, match=r"keep_float: the model has no tensor 'yy' .*; did you mean 'y'"):
        rn.quantize(small(), values(4), keep_float="yy")


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse", "auto"])
def test_other_methods_cut_off_what_lies_far_out(method: str):
    samples = values(128)
    samples[0, 0, 0, 0] = 100

    def scale(method: Any) -> float:
        graph = load_model(rn.quantize(small(), samples, method=method).model)
        (layer,) = (op for op in graph.operators if op.kind == "CONV_2D")
        grid = graph.tensors[layer.outputs[0]].quantization
        assert grid is not None
        return float(grid.scales[0])

    assert scale(method) < 0.9 * scale("min-max")


def test_a_method_that_does_not_exist_is_refused():
    with pytest.raises(ModelError, match="method is auto, min-max, percentile, entropy or mse, not 'magic'"):
        rn.quantize(small(), values(2), method="magic")


def test_a_poor_result_says_which_layers_lose_most():
    inputs = np.random.default_rng(0).normal(0, 1, (4, 1, 3, 8, 8)).astype(np.float32)
    report = rn.quantize(uneven(), inputs).report
    assert report.poor or report.kept_float
    assert report.blamed[0].alone == max(layer.alone for layer in report.layers)


def test_the_report_sees_what_the_calibration_has_missed():
    calibrated = values(8)
    honest = rn.quantize(small(), calibrated, evaluation=10 * values(4)).report
    assert honest.evaluated == 4
    assert honest.outputs["y"] < rn.quantize(small(), calibrated).report.outputs["y"] - 20


def test_the_model_is_saved_under_the_name_of_its_own_kind(tmp_path: Path):
    quantized = rn.quantize(small(), values(2))
    quantized.save(tmp_path / "y.tflite")
    assert rn.compile(tmp_path / "y.tflite").inputs == ("x",)
    with pytest.raises(ModelError, match=r"a \.tflite file"):
        quantized.save(tmp_path / "y.onnx")


def test_quantizing_twice_gives_the_same_bytes():
    for model, arrays in ((small(), values(3)), (small_network().SerializeToString(), np.ones((2, 3, 32, 32)))):
        assert rn.quantize(model, arrays).model == rn.quantize(model, arrays).model


def test_the_original_file_is_left_alone(tmp_path: Path):
    for name, data, arrays in (
        ("x.tflite", small(), values(2)),
        ("x.onnx", small_network().SerializeToString(), np.ones((1, 3, 32, 32))),
    ):
        (tmp_path / name).write_bytes(data)
        rn.quantize(tmp_path / name, arrays)
        assert (tmp_path / name).read_bytes() == data
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]
        (tmp_path / name).unlink()


def test_quantized_models_are_refused(tmp_path: Path):
    (tmp_path / "q.tflite").write_bytes(small("int8"))
    with pytest.raises(ModelError, match=r"q\.tflite is quantized already \(tensor x is int8\); give the float model"):
        rn.quantize(tmp_path / "q.tflite", values(1))


def test_constant_inputs_of_all_zeros_are_no_problem():
    quantized = rn.quantize(small(), np.zeros((2, *SHAPE), np.float32))
    assert load_model(quantized.model).outputs == ("y",)
    assert quantized.report.outputs["y"] > 30  # the bias


@pytest.mark.parametrize(("name", "value"), [("fit", "squash"), ("count", 0)])
def test_options_that_mean_nothing_are_refused(name: str, value: object):
    with pytest.raises(ModelError, match=f"{name} is .*, not"):
        rn.quantize(small(), values(1), **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"mean": float("nan")}, {"std": 0}, {"std": (1.0, -1.0, 1.0)}])
def test_numbers_that_normalize_nothing_are_refused(given, tmp_path: Path):
    with pytest.raises(ModelError, match="std above 0"):
        rn.quantize(small(), tmp_path, **given)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.quantizer", None)
    with pytest.raises(Error, match=r"ai-edge-quantizer; install it with: pip install 'rocketnpu\[quantize\]'"):
        rn.quantize(small(), values(1))


def test_nothing_is_written_to_the_terminal(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture):
    for model, arrays in ((small(), values(2)), (small_network().SerializeToString(), np.ones((2, 3, 32, 32)))):
        rn.quantize(model, arrays)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""
