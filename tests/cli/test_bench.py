"""The bench command measures frames and tells their parts."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

from rocketnpu.cli import main


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "digits.tflite"
    path.write_bytes(files("rocketnpu.demo").joinpath("digits.tflite").read_bytes())
    return path


def test_bench_tells_host_submit_and_device_apart(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--device", "emulator", "--frames", "3", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["device"], report["frames"]) == ("emulator", 3)
    medians = {name: part["median"] for name, part in report["milliseconds"].items()}
    assert medians.keys() == {"host", "submit", "device", "total"}
    assert 0 < medians["device"] < medians["total"]
    assert 0 < medians["host"] < medians["total"]
    assert report["frames_per_second"] > 0


def test_bench_prints_a_table(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(model), "--device", "emulator", "--frames", "1"]) == 0
    out = capsys.readouterr().out
    assert "1 frames on emulator" in out
    assert "frames/s" in out
