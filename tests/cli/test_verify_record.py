"""`verify --reference`: a compiled program against tensors that someone else recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rocketnpu.cli import main


@pytest.mark.parametrize("cores", ["1", "3"])
def test_the_vendors_program_is_within_one_step_of_its_record(
    shared: Path, cores: str, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = shared / "vectors" / "vendor" / "b_layer"
    record = f"{vector}.tensors.npz"
    assert main(["verify", f"{vector}.rknn", "--reference", record, "--cores", cores, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    layers = {layer["tensor"]: layer["isolated"] for layer in report["layers"]}
    assert max(layer["max"] for layer in layers.values()) == 1
    assert all(layers[name]["max"] == 0 for name in ("maxpool", "concat", "resize", "gap"))


def test_a_changed_record_is_found(shared: Path, tmp_path: Path) -> None:
    vector = shared / "vectors" / "vendor" / "a_layer"
    with np.load(f"{vector}.tensors.npz") as record:
        arrays = dict(record)
    arrays["conv1_relu"] = arrays["conv1_relu"] ^ 4
    np.savez(tmp_path / "changed.npz", **arrays)
    assert main(["verify", f"{vector}.rknn", "--reference", str(tmp_path / "changed.npz")]) == 1


def test_a_record_without_the_input_is_one_line(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vector = shared / "vectors" / "vendor" / "a_layer"
    with np.load(f"{vector}.tensors.npz") as record:
        np.savez(tmp_path / "short.npz", conv1_relu=record["conv1_relu"])
    assert main(["verify", f"{vector}.rknn", "--reference", str(tmp_path / "short.npz")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
