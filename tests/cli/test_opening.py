"""--input-shape, --dim and --outputs, in every command that opens a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.cli import main
from support.onnx_models import OnnxBuilder, normal


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A float network of free height and width; its output `end` follows on `y=1`."""
    model = OnnxBuilder()
    x = model.input((1, 3, "h", "w"), name="x:0")
    y = model.node("Conv", x, model.constant(normal((8, 3, 3, 3), 0.2, seed=1)), pads=[1] * 4, name="y=1")
    model.output(model.node("Exp", y, name="end"), np.float32)
    path = tmp_path / "m.onnx"
    path.write_bytes(model.proto().SerializeToString())
    return path


def arguments(command: str, model: Path, folder: Path) -> list[str]:
    """A command line that opens the model."""
    if command == "quantize":
        np.savez(folder / "inputs.npz", **{"x:0": normal((2, 3, 8, 12), 1.0, seed=2)})
        return [command, str(model), "--calibration", str(folder / "inputs.npz"), "-o", str(folder / "q.onnx")]
    further = {
        "compile": ["-o", str(folder / "m.rnpu")],
        "run": ["--random", "1", "--device", "emulator"],
        "bench": ["--frames", "1", "--device", "emulator"],
        "verify": ["--inputs", "1"],
    }
    return [command, str(model), *further.get(command, [])]


def fails_with(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    try:
        code: object = main(argv)
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), (code, out, err)
    return err


@pytest.mark.parametrize("command", ["compile", "run", "verify", "profile", "bench", "quantize"])
def test_every_command_takes_sizes_and_outputs(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = arguments(command, model, tmp_path)
    assert "give numbers for h and w with" in fails_with(capsys, *line)
    shape = ["--input-shape", "x:0=1,3,8,12"]
    symbols = ["--dim", "h=8", "--dim", "w=12"]
    for given in (shape, symbols):
        assert main([*line, *given, "--outputs", "y=1"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    if command == "compile":
        assert rn.load(tmp_path / "m.rnpu").outputs == ("y=1",)


def test_several_outputs_have_commas_between_them(model: Path, tmp_path: Path) -> None:
    line = [*arguments("compile", model, tmp_path), "--dim", "h=8", "--dim", "w=8"]
    for given in (["--outputs", "end,y=1"], ["--outputs", "end", "--outputs", "y=1"]):
        assert main([*line, *given]) == 0
        assert rn.load(tmp_path / "m.rnpu").outputs == ("end", "y=1")


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["--input-shape", "1,3,8,12"], "'1,3,8,12' is not NAME=N,N,..."),
        (["--input-shape", "x:0=1,3,8,w"], "'x:0=1,3,8,w' has the size 'w', which is no whole number of at least 1"),
        (["--dim", "h"], "'h' is not SYMBOL=N"),
        (["--dim", "h=0"], "'h=0' has the size '0'"),
        (["--dim", "h=8", "--dim", "h=9"], "--dim is given twice for 'h'"),
        (["--input-shape", "y=1,1"], "has no input 'y'; its inputs are 'x:0'"),
        (["--outputs", "a,,b"], "'a,,b' names an empty tensor"),
    ],
)
def test_what_is_wrong_is_one_line(
    given: list[str], line: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in fails_with(capsys, *arguments("compile", model, tmp_path), *given)


def test_a_program_that_is_compiled_has_all_this_behind_it(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments("compile", model, tmp_path), "--dim", "h=8", "--dim", "w=8"]) == 0
    capsys.readouterr()
    for command in ("run", "profile", "bench"):
        line = fails_with(capsys, command, str(tmp_path / "m.rnpu"), "--dim", "h=8")
        assert line == f"rocketnpu: --dim is for a model; {tmp_path / 'm.rnpu'} is compiled already\n"
