"""What must not be programmed: `check` finds the rules that a task's register values break.

The rules are those of hardware/convolution.md (Must not emit), registers.md, dpu.md and ppu.md. Each says in its
docstring where it comes from and how strong the evidence is; `report` lists them all.
"""

from __future__ import annotations

from rocketnpu.hw.rules import _convolution, _general, _pool, _post
from rocketnpu.hw.rules._model import Effect, RegisterTask, Rule, Violation, task_of

__all__ = ["RULES", "Effect", "RegisterTask", "Rule", "Violation", "check", "report", "task_of"]

RULES: tuple[Rule, ...] = (*_general.RULES, *_convolution.RULES, *_post.RULES, *_pool.RULES)
"""Every rule."""


def check(task: RegisterTask) -> list[Violation]:
    """The rules that the task breaks, in the order of `RULES`; empty for a legal task."""
    return [
        Violation(rule.name, text, rule.effect, rule.disputed)
        for rule in RULES
        if rule.applies(task)
        for text in rule.find(task)
    ]


def report() -> str:
    """All rules as a Markdown table: name, effect, statement."""
    lines = ["| rule | effect | statement | disputed |", "|---|---|---|---|"]
    lines += [f"| {rule.name} | {rule.effect} | {rule.statement} | {rule.disputed} |" for rule in RULES]
    return "\n".join(lines) + "\n"
