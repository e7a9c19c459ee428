"""The command `rocketnpu inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocketnpu.cli import main
from rocketnpu.hw.assembly import assemble
from rocketnpu.hw.registers import CNA
from rocketnpu.program.model import Program

from .mutate import with_fields, words_of


@pytest.fixture
def file(small: Program, tmp_path: Path) -> Path:
    path = tmp_path / "small.rnpu"
    small.save(path)
    return path


@pytest.fixture
def broken(small: Program, tmp_path: Path) -> Path:
    """Task 1 has 13 CBUF banks."""
    path = tmp_path / "broken.rnpu"
    with_fields(small, 1, CNA.CBUF_CON0, DATA_BANK=2, WEIGHT_BANK=11).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> str:
    assert main(["inspect", *map(str, argv)]) == code
    return capsys.readouterr().out


def run_json(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> dict[str, Any]:
    return json.loads(run(capsys, *argv, "--json", code=code))


def test_the_overview_names_segments_tensors_steps_and_tasks(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, file)
    for part in ("activations", "16x16x48, planes of 256 atoms", "DEPTHWISE_CONV_2D", "first, second -> total"):
        assert part in text, text
    document = run_json(capsys, file)
    assert [task["step"] for task in document["tasks"]] == ["first", "second", "total", "last"]
    assert document["tasks"][2]["tensors"] == "first, second -> total"
    assert {tensor["name"] for tensor in document["tensors"]} == {"x", "first", "second", "total", "last"}


def test_a_task_is_disassembled_word_by_word(file: Path, small: Program, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, file, "--task", 1)
    entry = small.tasks[1]
    words = words_of(small)[entry.first_word : entry.first_word + entry.body_entries + 4]
    assert assemble(text).tolist() == words.tolist()
    assert "CNA.FEATURE_DATA_ADDR" in text
    assert ", first\n" in text
    document = run_json(capsys, file, "--task", 1)
    assert len(document["entries"]) == len(words)
    (source,) = [entry for entry in document["entries"] if entry["register"] == "CNA.FEATURE_DATA_ADDR"]
    assert source["place"]["name"] == "first"


def test_inherited_registers_are_shown_as_such(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared / "vectors" / "vendor" / "b_channel.rknn"
    text = run(capsys, path, "--task", 9)
    assert "# kept from an earlier task: DPU.FEATURE_MODE_CFG = 0x000001e5" in text
    assert {entry["register"] for entry in run_json(capsys, path, "--task", 9)["inherited"]} >= {"DPU.SURFACE_ADD"}


def test_lint_exits_with_1_when_it_finds_something(
    file: Path, broken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(capsys, file, "--lint") == "small.rnpu: 0 findings in 4 tasks\n"
    text = run(capsys, broken, "--lint", code=1)
    assert "task 1 (second): banks_are_at_most_twelve: 2 data banks and 11 weight banks (illegal)" in text
    (found,) = run_json(capsys, broken, "--lint", code=1)["findings"]
    assert (found["task"], found["rule"], found["effect"]) == (1, "banks_are_at_most_twelve", "illegal")
    assert run_json(capsys, broken, "--lint", "--task", 0)["findings"] == []


def test_diff_shows_only_what_differs(file: Path, broken: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys, file, "--diff", broken)
    assert "3 tasks are equal, 1 differ, 0 are only in small.rnpu, 0 only in broken.rnpu" in text
    assert "DATA_BANK" in text
    assert "DPU." not in text
    document = run_json(capsys, file, "--diff", broken)
    (pair,) = document["differences"]
    assert (document["equal_tasks"], [item["register"] for item in pair["registers"]]) == (3, ["CNA.CBUF_CON0"])
    assert run_json(capsys, file, "--diff", broken, "--task", 0)["differences"] == []


def test_bare_commands_can_be_inspected(small: Program, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump.bin"
    path.write_bytes(words_of(small).tobytes())
    assert "depthwise 3x3 int8" in run(capsys, path)
    assert run(capsys, path, "--lint") == "dump.bin: 0 findings in 4 tasks\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--task", "4"), "--task 4: small.rnpu has 4 tasks, counted from 0"),
        (("--task", "x"), "'x' is not a whole number"),
        (("--lint", "--diff", "other"), "not allowed with argument"),
        (("--diff", "/none"), "/none: No such file"),
    ],
)
def test_bad_use_is_one_line_and_code_2(
    options: tuple[str, ...], message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(["inspect", str(file), *options])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert message in err
