"""Commands whose output nobody reads, and files that a command must not write."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from rocketnpu.cli import main

ROCKETNPU = (sys.executable, "-m", "rocketnpu")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's model as a file."""
    path = tmp_path / "digits.tflite"
    path.write_bytes(files("rocketnpu.demo").joinpath("digits.tflite").read_bytes())
    return path


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_a_failed_check_keeps_its_code_when_nobody_reads(tmp_path: Path, options: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as gone:  # an empty root has no board: the check fails
        command = (*ROCKETNPU, "doctor", "--root", str(tmp_path), *options)
        found = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, text=True)
    assert (found.returncode, found.stderr) == (1, "")


def test_a_closed_output_is_no_failure() -> None:
    closed = f"{' '.join(ROCKETNPU)} devices >&- "
    found = subprocess.run(["sh", "-c", closed], stderr=subprocess.PIPE, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line that `argv` fails with."""
    assert main([str(argument) for argument in argv]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1), (out, err)
    return err


def test_compile_never_overwrites_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    link = model.with_name("link.rnpu")
    link.symlink_to(model)
    assert "link.rnpu is the input itself" in refused(capsys, "compile", model, "-o", link)
    for name in ("digits.tflite", "other.ONNX", "other.rknn"):
        message = f"{name} has the name of a model: --output names a .rnpu file"
        assert message in refused(capsys, "compile", model, "-o", model.with_name(name))
    assert model.read_bytes() == before
    assert sorted(path.name for path in model.parent.iterdir()) == ["digits.tflite", "link.rnpu"]


def test_run_never_overwrites_its_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = model.read_bytes()
    assert "--output names a .npz file" in refused(capsys, "run", model, "--random", 1, "--output", model)
    assert model.read_bytes() == before
