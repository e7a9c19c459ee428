"""What runs where: the steps of a session or of a program as a table and as JSON."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from rocketnpu.cli.terminal import LONGEST_NAME, print_line, print_table
from rocketnpu.cli.text import plain
from rocketnpu.compiler import FLOAT_MODEL
from rocketnpu.inspect import document
from rocketnpu.inspect.names import shorten
from rocketnpu.program.model import OperatorEntry, Program, Step

MOST_REASONS = 3
"""Reasons that the one line of `placement` gives; `compile` prints all."""


NO_FORM = "has no NPU form"
"""How a reason ends that is no rule (compiler/constraints/, `check`)."""


def kinds(operators: Sequence[OperatorEntry]) -> str:
    """The operators' kinds in order of appearance, counted."""
    counts = Counter(operator.kind for operator in operators)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def task_count(step: Step, cores: int) -> int:
    """Register command lists of a step when it runs on `cores` cores; 0 on the CPU."""
    if step.place == "cpu":
        return 0
    return sum(len(tasks) for segment in step.tasks[cores] for tasks in segment)


def print_steps(program: Program, cores: int) -> None:
    """One row a step: where it runs, its operators and tasks, and why an operator is on the CPU."""
    rows = [
        (
            step.place.upper(),
            shorten(step.name, LONGEST_NAME),
            kinds(step.operators),
            _tasks(step, cores),
            "; ".join(_reasons([step])),
        )
        for step in program.steps
    ]
    print_table(("place", "step", "operators", "tasks>", "why on the CPU"), rows)
    print_line(share(program))
    print_notes(program)


def print_notes(program: Program) -> None:
    """What was decided when the model was opened and compiled, a line each."""
    for note in program.notes:
        print_line(f"note: {note}")


def warn_of_idle_npu(program: Program, consequence: str = "") -> None:
    """A line on standard error where nothing of a program runs on the NPU; `consequence` ends the sentence."""
    if program.placement.npu_operators == 0:
        is_float = FLOAT_MODEL in program.notes
        reasons = FLOAT_MODEL if is_float else _shown(_reasons(program.steps))
        why = f" ({reasons})" if reasons else ""
        complain(f"warning: nothing of {program.name} runs on the NPU{consequence}{why}")


def share(program: Program) -> str:
    """How much of a program runs on the NPU: operators, and MACs where they are known."""
    found = program.placement
    line = f"{found.npu_operators} of {found.operators} operators"
    if found.macs:
        line += f", {percent(found.npu_percent)} of the MACs"
    return f"{line} on the NPU"


def percent(value: float) -> str:
    """A share, rounded down: 100 % means all."""
    return f"{math.floor(10 * value) / 10:g} %"


def placement(program: Program, device: str) -> str:
    """One line: how much runs on the NPU, and the first reasons for the CPU."""
    found = program.placement
    line = f"{share(program)} ({device})"
    if found.npu_operators == found.operators:
        return line
    reasons = _shown(_reasons(program.steps))
    return f"{line}, {found.operators - found.npu_operators} on the CPU" + (f": {reasons}" if reasons else "")


def _shown(reasons: Sequence[str]) -> str:
    return "; ".join([*reasons[:MOST_REASONS], *(["..."] if len(reasons) > MOST_REASONS else [])])


def _tasks(step: Step, cores: int) -> object:
    if step.place == "cpu":
        return ""
    return task_count(step, cores) or "in place"


def _reasons(steps: Iterable[Step]) -> list[str]:
    """The distinct reasons that put the steps' operators on the CPU, as sentences."""
    found = dict.fromkeys(operator.reason for step in steps for operator in step.operators if operator.reason)
    return [reason if reason.endswith(NO_FORM) else f"breaks the rule: {reason}" for reason in found]


def to_json(program: Program) -> dict[str, Any]:
    """The counts, each step with its operators, and the notes as JSON values."""
    return {
        "placement": document.placement(program),
        "steps": [
            {
                "name": step.name,
                "place": step.place,
                "operators": [asdict(operator) for operator in step.operators],
            }
            for step in program.steps
        ],
        "notes": list(program.notes),
    }


def add_require_npu(parser: argparse.ArgumentParser) -> None:
    """--require-npu."""
    percent_help = "exit with 1 if less of the model's MACs runs on the NPU (of its operators, if it has no MACs)"
    parser.add_argument("--require-npu", type=_percent, metavar="PERCENT", help=percent_help)


def exit_code(arguments: argparse.Namespace, program: Program) -> int:
    """1, with a line on standard error, for a program that does not fulfil --require-npu."""
    required: float | None = arguments.require_npu
    if required is None or program.placement.npu_percent >= required:
        return 0
    complain(f"--require-npu {required:g}: {share(program)}")
    return 1


def _percent(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0.0 <= value <= 100.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 100")
    return value


def complain(text: str) -> None:
    """A line on standard error."""
    print(f"rocketnpu: {plain(text)}", file=sys.stderr)
