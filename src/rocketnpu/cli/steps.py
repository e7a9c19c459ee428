"""What runs where: the steps of a session or of a program as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rocketnpu.cli.terminal import LONGEST_NAME, print_line, print_table
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
    if hint := float_hint(program):
        print_line(f"{program.name}{hint}")


def placement(program: Program, device: str) -> str:
    """One line: how many operators run where, and the first reasons for the CPU."""
    places = Counter({"npu": 0, "cpu": 0})
    for step in program.steps:
        places[step.place] += len(step.operators)
    line = f"{places['npu']} of {places.total()} operators on the NPU ({device})"
    if not places["cpu"]:
        return line
    reasons = _reasons(program.steps)
    shown = "; ".join([*reasons[:MOST_REASONS], *(["..."] if len(reasons) > MOST_REASONS else [])])
    return f"{line}, {places['cpu']} on the CPU" + (f": {shown}" if shown else "") + float_hint(program)


def float_hint(program: Program) -> str:
    """What to do about a program that stays on the CPU because its model is a float one; else nothing."""
    entries = [entry for entry in program.tensors if entry.name in program.inputs]
    if any(step.place == "npu" for step in program.steps) or not entries:
        return ""
    if any(entry.dtype != "float32" for entry in entries):
        return ""
    return " (a float model has to be quantized for the NPU: see `rocketnpu quantize`)"


def _tasks(step: Step, cores: int) -> object:
    if step.place == "cpu":
        return ""
    return task_count(step, cores) or "in place"


def _reasons(steps: Iterable[Step]) -> list[str]:
    """The distinct reasons that put the steps' operators on the CPU, as sentences."""
    found = dict.fromkeys(operator.reason for step in steps for operator in step.operators if operator.reason)
    return [reason if reason.endswith(NO_FORM) else f"breaks the rule: {reason}" for reason in found]


def to_json(steps: Sequence[Step]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [
        {
            "name": step.name,
            "place": step.place,
            "operators": [
                {"name": operator.name, "kind": operator.kind, "reason": operator.reason} for operator in step.operators
            ],
        }
        for step in steps
    ]
