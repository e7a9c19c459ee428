"""What runs where: the steps of a session or of a program as a table and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from rocketnpu.cli.terminal import print_table
from rocketnpu.program.model import OperatorEntry, Step


def kinds(operators: Sequence[OperatorEntry]) -> str:
    """The operators' kinds in order of appearance, counted."""
    counts = Counter(operator.kind for operator in operators)
    return ", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in counts.items())


def task_count(step: Step, cores: int) -> int:
    """Register command lists of a step when it runs on `cores` cores; 0 on the CPU."""
    if step.place == "cpu":
        return 0
    return sum(len(tasks) for segment in step.tasks[cores] for tasks in segment)


def print_steps(steps: Sequence[Step], cores: int) -> None:
    """One row a step: where it runs, its operators and tasks, and why an operator is on the CPU."""
    rows = [
        (step.place.upper(), step.name, kinds(step.operators), task_count(step, cores) or "", "; ".join(reasons(step)))
        for step in steps
    ]
    print_table(("place", "step", "operators", "tasks>", "why on the CPU"), rows)


def reasons(step: Step) -> Iterable[str]:
    """The distinct constraints that put a step's operators on the CPU."""
    return dict.fromkeys(operator.reason for operator in step.operators if operator.reason)


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
