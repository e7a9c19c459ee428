"""One thing that is wrong with a program."""

from __future__ import annotations

from dataclasses import dataclass

from rocketnpu.hw.rules import Effect
from rocketnpu.inspect.view import TaskView


@dataclass(frozen=True)
class Finding:
    """`rule` is broken by a task (None: by no single one) as `text` says; `effect` is what the hardware does then."""

    task: int | None
    where: str
    rule: str
    text: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.where}: {self.rule}: {self.text} ({self.effect})"


def finding(view: TaskView, rule: str, text: str, effect: Effect) -> Finding:
    """A finding about one task."""
    return Finding(view.index, str(view), rule, text, effect)
