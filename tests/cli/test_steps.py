"""What runs where, in words."""

from __future__ import annotations

import pytest

import rocketnpu as rn
from rocketnpu.cli.steps import percent, placement, print_steps, share, warn_of_idle_npu
from rocketnpu.program.model import CpuStep, OperatorEntry, Program, Segment
from support.models import Grid, ModelBuilder
from support.onnx_models import OnnxBuilder


def program(*reasons: str, segments: tuple[Segment, ...] = (Segment("commands", 0, b""),)) -> Program:
    """A program whose operators are all on the CPU."""
    operators = tuple(OperatorEntry(f"op{index}", "OP", reason) for index, reason in enumerate(reasons))
    return Program("m", segments, (), (), (CpuStep("s", operators, (), (), b""),), (), (), ())


def test_one_line_counts_operators_and_names_the_reasons() -> None:
    model = ModelBuilder()
    y = model.conv2d(model.input((1, 4, 4, 8)), 8)
    line = placement(rn.compile(model.build(model.softmax(y))), "emulator")
    assert line == "1 of 2 operators, 100 % of the MACs on the NPU (emulator), 1 on the CPU: SOFTMAX has no NPU form"


def test_a_rule_reads_as_what_is_broken() -> None:
    line = placement(program("the batch is 1"), "emulator")
    assert line == "0 of 1 operators on the NPU (emulator), 1 on the CPU: breaks the rule: the batch is 1"


def test_the_line_gives_three_reasons_and_each_once() -> None:
    line = placement(program("a has no NPU form", "a has no NPU form", "b", "c", "d"), "emulator")
    assert line.endswith("5 on the CPU: a has no NPU form; breaks the rule: b; breaks the rule: c; ...")


def test_what_only_the_models_runtime_can_compute_breaks_no_rule() -> None:
    line = placement(program("WHILE is control flow, which has no NPU form"), "emulator")
    assert line.endswith("1 on the CPU: WHILE is control flow, which has no NPU form")


def test_tables_shorten_names_and_say_what_happens_in_place(capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelBuilder()
    y = model.conv2d(model.input((1, 4, 4, 8)), 16, name="first;second;third;fourth;fifth;sixth;seventh")
    z = model.reshape(y, (1, 16, 16))
    print_steps(rn.compile(model.build(z)), cores=1)
    out = capsys.readouterr().out
    assert " ...rd;fourth;fifth;sixth;seventh " in out, out
    assert "in place" in out, out


def test_a_float_model_is_sent_to_the_quantizer(capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelBuilder()
    found = rn.compile(model.build(model.softmax(model.input((1, 4), dtype="float32"))))
    advice = "a float model has to be quantized for the NPU: see `rocketnpu quantize`"
    assert found.notes == (advice,)
    print_steps(found, cores=1)
    assert f"note: {advice}\n" in capsys.readouterr().out
    warn_of_idle_npu(found)
    assert capsys.readouterr().err == f"rocketnpu: warning: nothing of the model runs on the NPU ({advice})\n"


@pytest.mark.parametrize("kind", ["TFLite", "ONNX"])
def test_a_quantized_model_is_not(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Both have float inputs and quantize them; nothing that follows has a form on the NPU."""
    if kind == "TFLite":
        model = ModelBuilder()
        x = model.input((1, 4), dtype="float32")
        data = model.build(model.softmax(model.quantize(x, Grid(1 / 256, -128), "int8")))
    else:
        network = OnnxBuilder()
        grid = (1 / 256, -128)
        x = network.real(network.quantized(network.input((1, 4)), grid), grid)
        data = network.build(network.quantized(network.node("Softmax", x), grid))
    found = rn.compile(data)
    assert found.placement.npu_operators == 0
    assert not found.notes
    warn_of_idle_npu(found, "; this is said, too")
    err = capsys.readouterr().err
    assert err.startswith("rocketnpu: warning: nothing of the model runs on the NPU; this is said, too (")
    assert "quantized for the NPU" not in err


def test_what_runs_there_is_no_warning(capsys: pytest.CaptureFixture[str]) -> None:
    model = ModelBuilder()
    warn_of_idle_npu(rn.compile(model.build(model.conv2d(model.input((1, 4, 4, 8)), 8))))
    assert capsys.readouterr() == ("", "")


def test_a_share_is_rounded_down() -> None:
    assert [percent(value) for value in (0.0, 99.99, 100.0, 12.34)] == ["0 %", "99.9 %", "100 %", "12.3 %"]


def test_programs_that_count_no_macs_count_operators() -> None:
    assert share(program("a", "b")) == "0 of 2 operators on the NPU"
