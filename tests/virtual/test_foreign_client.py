"""Mesa's own driver, as Debian builds it, on the virtual device: programs that nobody here has written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rocketnpu.virtual.preload import cache_folder

TOOL = Path(__file__).parents[2] / "tools" / "foreign_client.py"
CACHE = cache_folder() / "foreign-client"
HOPPER_CLASS = 653
"""What a CPU makes of the picture (vectors/README.md)."""

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def prepared() -> None:
    """The client's packages; without them a failure where CI=true, which prepares them, else a skip."""
    if not (CACHE / "ready.json").exists():
        message = "no foreign client: run `python tools/foreign_client.py prepare` once"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def run(*models: str, code: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What the tool says of each model, and of the device."""
    done = subprocess.run([sys.executable, str(TOOL), "run", *models], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    *lines, device = map(json.loads, done.stdout.splitlines())
    return lines, device


def undisturbed(device: dict[str, Any]) -> None:
    """Nothing failed, and nothing is left."""
    assert device["messages"] == []
    counters = device["counters"]
    for name in ("timeouts", "page faults", "bus errors", "refused jobs", "files", "buffers", "mappings"):
        assert counters.get(name, 0) == 0, f"{name}: {counters}"


def test_mesas_programs_for_its_own_models_are_within_1_of_litert(shared: Path):
    models = sorted(str(file) for file in (shared / "models" / "mesa-ops").glob("*.tflite"))
    lines, device = run(*models)
    undisturbed(device)
    assert len(lines) == 33
    assert {line["model"]: line["largest"] for line in lines if line["largest"] > 1} == {}
    # 27 layers of MobileNetV1, its classifier, two in mb01, conv2d: every convolution was a job.
    assert device["counters"]["jobs"] == 31
    assert sum(sum(line["delegated"].values()) for line in lines) == 31


def test_mesa_runs_mobilenet_and_finds_the_class(shared: Path):
    model = shared / "models" / "mobilenet_v1_1.0_224_quant.tflite"
    (line,), device = run(f"{model}={shared / 'vectors' / 'golden' / 'grace_hopper_224.bin'}")
    undisturbed(device)
    assert line["top"] == [HOPPER_CLASS, HOPPER_CLASS]
    # 28 layers in a row, each within 1 by itself; LiteRT and the golden scores differ by 4 (vectors/README.md).
    assert line["largest"] <= 4
    assert device["counters"]["jobs"] == 28


def test_rows_that_mesa_makes_too_short_are_wrong_as_on_boards(shared: Path):
    """Mesa's DATA_ENTRIES is too small where C mod 64 is 33 to 48; boards fail there (hardware/convolution.md)."""
    (line,), device = run(str(shared / "cases" / "conv48.tflite"))
    assert line["delegated"] == {"CONV_2D": 1}
    assert line["largest"] > 1
    assert any("CNA.CBUF_CON1.DATA_ENTRIES is 6, the row takes 8" in message for message in device["messages"])


def test_an_operator_that_mesa_leaves_to_litert_is_equal_with_all_its_inputs(shared: Path):
    (line,), device = run(str(shared / "cases" / "concat2.tflite"))
    undisturbed(device)
    assert (line["delegated"], line["operators"], line["different"]) == ({}, 1, 0)


def test_a_model_that_ends_the_client_does_not_take_the_others_with_it(shared: Path, tmp_path: Path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    ends = str(shared / "models" / "deeplabv3_mnv2_dm05_pascal_quant.tflite")
    lines, _ = run(str(broken), ends, str(shared / "cases" / "concat2.tflite"), code=1)
    assert ["error" in line for line in lines] == [True, True, False]
