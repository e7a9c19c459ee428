"""Both cost models, against the vendor's own figures for MobileNetV1 and the arithmetic of hardware/performance.md."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

import rocketnpu as rn
from rocketnpu.cli import main
from rocketnpu.hw import cost
from rocketnpu.profile import profile
from support.models import Grid, ModelBuilder

MOBILENET = "models/mobilenet_v1_1.0_224_quant.tflite"


@pytest.fixture(scope="module")
def mobilenet(shared: Path) -> rn.Program:
    return rn.compile(shared / MOBILENET, cores=3)


def test_mobilenet_costs_no_more_than_the_vendors_program(mobilenet: rn.Program) -> None:
    """hardware/performance.md: 1,198,203 cycles of which 1,145,056 compute; 1.20 million and 38 tasks in all."""
    alone = profile(mobilenet).totals[0]
    assert alone.cycles <= 1.20e6
    assert alone.mac_cycles == pytest.approx(1_145_056, abs=16 * 32)  # partly filled groups of pixels between bands
    assert alone.moved_bytes <= 14_605_712
    assert (alone.tasks, alone.kicks) == (38, 1)


def test_the_measured_model_adds_tasks_and_kicks(mobilenet: rn.Program) -> None:
    """hardware/performance.md, Calibration advice: 1.2 + 38 * 0.005 + 0.05 = 1.44 ms."""
    alone = profile(mobilenet).totals[0]
    assert 1000 * alone.rknpu_seconds == pytest.approx(1.44, abs=0.01)
    assert alone.rocket_seconds is not None
    assert alone.rocket_seconds > alone.rknpu_seconds


def test_three_cores_come_near_the_formulas_bound(mobilenet: rn.Program) -> None:
    """The bound of MobileNetV1 is 1.89 (sum of max(compute, memory) over that of max(compute / 3, memory))."""
    alone, _, three = profile(mobilenet).totals
    assert three.gain_bound == pytest.approx(1.89, abs=0.005)
    assert three.gain >= 0.95 * three.gain_bound
    assert alone.mac_cycles >= 2.4 * three.mac_cycles


def test_one_layer_is_the_formula() -> None:
    """8x8 pixels are 4 groups of 16; 32 kernels over 64 channels take 9 * 2 cycles a pixel."""
    model = ModelBuilder(seed=1)
    program = rn.compile(model.build(model.conv2d(model.input((1, 8, 8, 64)), 32, output=Grid(0.03, 5))))
    (layer,) = profile(program).layers
    assert layer.mac_cycles == 64 * 18
    assert layer.written_bytes == 64 * 32
    assert layer.read_bytes == 64 * 64 + 9 * 64 * 32 + 4 * 32  # input, weights, biases
    assert layer.once_bytes == layer.read_bytes + layer.written_bytes
    assert layer.memory_cycles == pytest.approx(layer.once_bytes / cost.DDR_BYTES_PER_CYCLE)
    assert layer.cycles == max(layer.mac_cycles, layer.memory_cycles)


def test_cores_share_the_dram() -> None:
    two = [cost.ChainCost(100.0, 80, 2365), cost.ChainCost(60.0, 60, 2365)]
    assert cost.kick_cycles(two) == pytest.approx(2 * 2365 / cost.DDR_BYTES_PER_CYCLE)
    assert cost.kick_cycles([cost.ChainCost(300.0, 300, 2365), two[1]]) == 300.0


def test_a_program_without_tasks_has_no_totals_but_a_profile() -> None:
    model = ModelBuilder(seed=1)
    found = profile(rn.compile(model.build(model.softmax(model.input((1, 8))))))
    assert (found.layers, found.totals) == ((), ())


def test_the_command_prints_both_models_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelBuilder(seed=1)
    path = tmp_path / "small.tflite"
    path.write_bytes(model.build(model.conv2d(model.input((1, 40, 40, 64)), 32)))
    assert main(["profile", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [total["cores"] for total in document["totals"]] == [1, 2, 3]
    assert document["layers"][0]["bound"] == "compute"
    assert main(["profile", str(path), "--target", "rocket"]) == 0
    assert "compute" in capsys.readouterr().out


def test_the_trace_is_as_long_as_the_total_and_keeps_cores_apart(tmp_path: Path) -> None:
    model, path, trace = ModelBuilder(seed=1), tmp_path / "small.tflite", tmp_path / "trace.json"
    path.write_bytes(model.build(model.conv2d(model.conv2d(model.input((1, 60, 40, 32)), 64), 32)))
    assert main(["profile", str(path), "--trace", str(trace)]) == 0
    events = json.loads(trace.read_text())["traceEvents"]
    assert {event["tid"] for event in events} == {0, 1, 2}
    total = profile(rn.compile(path, cores=3)).totals[-1]
    assert max(event["ts"] + event["dur"] for event in events) == pytest.approx(total.cycles / 1000)
    for core in range(3):
        own = sorted((event["ts"], event["dur"]) for event in events if event["tid"] == core)
        for (start, duration), (following, _) in pairwise(own):
            assert start + duration <= following * (1 + 1e-9), f"core {core} does two things at a time"


def test_options_of_the_compiler_are_refused_with_a_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, path = ModelBuilder(seed=1), tmp_path / "small.rnpu"
    rn.compile(model.build(model.conv2d(model.input((1, 8, 8, 16)), 32))).save(path)
    assert main(["profile", str(path)]) == 0
    assert main(["profile", str(path), "--cores", "2"]) == 2
    assert "--cores is for a model" in capsys.readouterr().err


def test_the_page_holds_the_tables(tmp_path: Path) -> None:
    model, path, page = ModelBuilder(seed=1), tmp_path / "small.tflite", tmp_path / "cost.html"
    path.write_bytes(model.build(model.conv2d(model.input((1, 8, 8, 16)), 32, name="<conv>")))
    assert main(["profile", str(path), "--html", str(page)]) == 0
    text = page.read_text()
    assert "&lt;conv&gt;" in text
    assert "One inference" in text
    assert main(["profile", str(path), "--html", str(path)]) == 2
