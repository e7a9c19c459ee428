"""`rocketnpu quantize`: one command from a float model and pictures to a quantized model or a program."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import rocketnpu as rn
from rocketnpu.cli import main
from support.models import ModelBuilder
from support.onnx_models import small_network


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(3):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    builder = ModelBuilder(1)
    data = builder.build(builder.conv2d(builder.input((1, 8, 8, 3), "float32", name="x"), 4, name="y"))
    path = tmp_path / "float.tflite"
    path.write_bytes(data)
    return path


def test_one_command_makes_a_program_that_runs(model, pictures, tmp_path, capsys):
    program = tmp_path / "out.rnpu"
    assert main(["quantize", str(model), "--calibration", str(pictures), "-o", str(program)]) == 0
    printed = capsys.readouterr().out
    for line in (
        "calibrated on 3 inputs",
        "output y: ",
        "1 of 3 operators, 100 % of the MACs on the NPU (1 core)",
        f"{program}: ",
    ):
        assert line in printed
    with rn.Session(program, device="emulator") as session:
        assert session.run(np.zeros((1, 8, 8, 3), np.float32))["y"].dtype == np.float32


def test_the_output_s_name_decides_what_is_written(model, pictures, tmp_path):
    quantized = tmp_path / "out.tflite"
    assert main(["quantize", str(model), "--calibration", str(pictures), "-o", str(quantized)]) == 0
    assert "npu" in [step.place for step in rn.compile(quantized).steps]
    network = tmp_path / "float.onnx"
    network.write_bytes(small_network().SerializeToString())
    for name in ("out.onnx", "again.rnpu"):
        assert main(["quantize", str(network), "--calibration", str(pictures), "-o", str(tmp_path / name)]) == 0
    assert rn.compile(tmp_path / "out.onnx").outputs == rn.load(tmp_path / "again.rnpu").outputs == ("y",)


def test_json_has_the_loss_of_every_layer_and_what_runs_where(model, pictures, tmp_path, capsys):
    command = ["quantize", str(model), "--calibration", str(pictures), "-o", str(tmp_path / "out.rnpu"), "--json"]
    assert main([*command, "--count", "2", "--mean", "0", "--std", "255"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["inputs"], found["evaluated"]) == (2, 2)
    assert [layer["tensor"] for layer in found["layers"]] == ["x", "y"]
    assert found["outputs"]["y"] > 30
    assert [step["place"] for step in found["steps"]] == ["cpu", "npu", "cpu"]


def test_a_poor_result_warns_and_names_the_layers(model, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("rocketnpu.quantizer.report.POOR", 1e-9)
    output = tmp_path / "quantized.tflite"
    options = ["--calibration", str(pictures), "-o", str(output), "--method", "mse", "--keep-float", "no*such"]
    assert main(["quantize", str(model), *options]) == 2
    assert "keep_float: the model has no tensor 'no*such'" in capsys.readouterr().err
    assert main(["quantize", str(model), *options[:-2]]) == 0
    err = capsys.readouterr().err
    assert "by themselves lose most: " in err
    assert "try --method auto" in err


def test_the_rule_for_pictures_counts(model, pictures, tmp_path):
    scales: list[float] = []
    for std in ("255", "51"):
        output = tmp_path / "out.tflite"
        options = ["--mean", "0", "--std", std]
        assert main(["quantize", str(model), "--calibration", str(pictures), "-o", str(output), *options]) == 0
        tensors = {tensor.name: tensor for tensor in rn.Session(output, device="emulator").tensors}
        scales.append(float(tensors["x_quantized"].quantization.scales[0]))
    assert scales[1] == pytest.approx(5 * scales[0], rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--calibration", "nowhere", "-o", "out.rnpu"], "can't read nowhere: no such file or folder"),
        (["--calibration", "PICTURES", "-o", "out.onnx"], "--output ends in .tflite (the quantized model) or .rnpu"),
        (["--calibration", "PICTURES", "-o", "out.bin"], "--output ends in .tflite (the quantized model) or .rnpu"),
        (["--calibration", "PICTURES", "-o", "MODEL"], "is the float model itself"),
        (["--calibration", "PICTURES", "-o", "out.rnpu", "--mean", "1,2"], "2 values for 3 channels"),
        (["--calibration", "PICTURES", "-o", "out.rnpu", "--evaluation", "MODEL"], "no folder, no picture"),
    ],
)
def test_bad_usage_is_one_line_and_writes_nothing(arguments, line, model, pictures, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = model.read_bytes()
    names = {"PICTURES": str(pictures), "MODEL": str(model)}
    assert main(["quantize", str(model), *(names.get(argument, argument) for argument in arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert line in printed.err
    assert printed.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.tflite", "pictures"]
    assert model.read_bytes() == before
