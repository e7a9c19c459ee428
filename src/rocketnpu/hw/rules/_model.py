"""The nouns of the rules: the register values of one task, a rule about them, and its violation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Block, Register, register_of

Effect: TypeAlias = Literal["hang", "corrupt", "illegal"]
"""hang: the task never completes; corrupt: it completes with wrong bytes; illegal: outside what anyone has run."""


@dataclass(frozen=True)
class RegisterTask:
    """What the hardware sees of one task.

    `written` are the registers its list writes and `enable_mask` is the value of its enable entry. `inherited` are
    registers that keep a value from earlier tasks (hardware/regcmd.md, register persistence); `written` wins.
    `undocumented` are writes to a (target, offset) that no table names.
    """

    written: Mapping[Register, int]
    enable_mask: int
    inherited: Mapping[Register, int] = field(default_factory=dict[Register, int])
    undocumented: Mapping[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def knows(self, register: Register) -> bool:
        """Whether the register's value is known."""
        return register in self.written or register in self.inherited

    def word(self, register: Register) -> int:
        """The register's value; KeyError if it is not known."""
        return self.written[register] if register in self.written else self.inherited[register]

    def get(self, register: Register, name: str) -> int:
        """One field of a register whose value is known."""
        return register.field_value(self.word(register), name)

    def enables(self, block: Block) -> bool:
        """Whether the enable entry starts this block."""
        return block.enable_bit is not None and bool(self.enable_mask >> block.enable_bit & 1)


def task_of(words: Iterable[int], enable_mask: int) -> RegisterTask:
    """The task of a command list (body, or body and trailer); of several writes to a register the last counts."""
    written: dict[Register, int] = {}
    undocumented: dict[tuple[int, int], int] = {}
    for word in words:
        command = regcmd.decode(int(word))
        register = register_of(command.target, command.offset)
        if register is not None:
            written[register] = command.value
        elif word and command.target != regcmd.MARKER_TARGET:
            undocumented[command.target, command.offset] = command.value
    return RegisterTask(written, enable_mask, undocumented=undocumented)


@dataclass(frozen=True)
class Rule:
    """A statement about legal register values.

    `find` gives a text for each violation; its docstring states the rule, its source and the level of evidence.
    A rule is asked only about tasks that start the block, and know the value, of every register of `needs`.
    `disputed` says what speaks against the rule, for rules that programs break which their authors run on boards.
    """

    find: Callable[[RegisterTask], Iterator[str]]
    effect: Effect
    needs: tuple[Register, ...] = ()
    disputed: str = ""

    @property
    def name(self) -> str:
        """The rule's name, from its function."""
        return self.find.__name__

    def applies(self, task: RegisterTask) -> bool:
        """Whether the task has all that the rule needs."""
        started = {block.name for block in regcmd.enabled_blocks(task.enable_mask)}
        return all(register.block in started and task.knows(register) for register in self.needs)

    @property
    def statement(self) -> str:
        """The docstring as one line."""
        return " ".join((self.find.__doc__ or "").split())


@dataclass(frozen=True)
class Violation:
    """A rule that a task breaks: which one, how, what the hardware does then, and what speaks against the rule."""

    rule: str
    text: str
    effect: Effect
    disputed: str = ""

    def __str__(self) -> str:
        doubt = f"; disputed: {self.disputed}" if self.disputed else ""
        return f"{self.rule}: {self.text} ({self.effect}{doubt})"
