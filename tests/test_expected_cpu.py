"""The report of what runs on the CPU, and why, against a list that is written by hand: expected_cpu.toml."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

import rocketnpu as rn
from rocketnpu.frontends import load_model

LIST = Path(__file__).with_name("expected_cpu.toml")
EXPECTED = tomllib.loads(LIST.read_text())
FOLDERS = ("models", "vectors/golden", "vectors/silicon")


def test_every_model_is_listed(shared: Path) -> None:
    files = (file for folder in FOLDERS for file in (shared / folder).rglob("*") if file.is_file())
    found = {file.relative_to(shared).as_posix() for file in files if file.suffix in (".tflite", ".onnx")}
    assert found == set(EXPECTED), f"not in {LIST.name}, or there alone: {found ^ set(EXPECTED)}"


@pytest.mark.parametrize("name", EXPECTED)
def test_what_stays_on_the_cpu(shared: Path, name: str) -> None:
    with rn.Session(shared / name, device="emulator") as session:
        steps = session.steps
    operators = [(step.place, op) for step in steps for op in step.operators]
    on_cpu = Counter((op.kind, op.reason) for place, op in operators if place == "cpu")
    assert on_cpu == {(kind, line["constraint"]): line["count"] for kind, line in EXPECTED[name].items()}
    assert {op.reason for place, op in operators if place == "npu"} <= {None}
    assert Counter(op.name for _, op in operators) == Counter(op.name for op in load_model(shared / name).operators)
