"""How two programs differ: their tasks aligned, and the registers and fields of each pair that are not the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rocketnpu.hw.registers import Register
from rocketnpu.inspect.summary import operation
from rocketnpu.inspect.view import Place, ProgramView, TaskView


@dataclass(frozen=True)
class FieldChange:
    """A field's values on both sides; None where the register is not known."""

    field: str
    old: int | None
    new: int | None


@dataclass(frozen=True)
class RegisterChange:
    """A register that differs: the texts of its values, and the fields behind the difference."""

    register: Register
    old: str
    new: str
    fields: tuple[FieldChange, ...]


@dataclass(frozen=True, eq=False)
class TaskPair:
    """Tasks that stand for each other, and what differs; one is None where the other has no counterpart."""

    old: TaskView | None
    new: TaskView | None
    changes: tuple[RegisterChange, ...] = ()

    @property
    def is_equal(self) -> bool:
        """Whether both tasks exist and have the same register values."""
        return self.old is not None and self.new is not None and not self.changes


def compare(old: ProgramView, new: ProgramView) -> list[TaskPair]:
    """All tasks of both programs in order, those that stand for each other in pairs.

    Tasks of one step name and operation are aligned first, or of one operation if the programs share no step names;
    then those between them, kind by kind.
    """
    shared = _step_names(old) & _step_names(new)
    pairs: list[TaskPair] = []
    matcher = SequenceMatcher(None, _keys(old.tasks, shared), _keys(new.tasks, shared), autojunk=False)
    for tag, first, last, other_first, other_last in matcher.get_opcodes():
        left, right = old.tasks[first:last], new.tasks[other_first:other_last]
        pairs += _paired(left, right) if tag == "equal" else _aligned(left, right, shared)
    return pairs


def changes(old: TaskView, new: TaskView) -> tuple[RegisterChange, ...]:
    """The registers that two tasks give different values or places, inherited ones included, by address."""
    registers = {register for view in (old, new) for register in _known(view)}
    found: list[RegisterChange] = []
    for register in sorted(registers, key=lambda item: item.offset):
        a, b = _value(old, register), _value(new, register)
        if a != b:
            found.append(RegisterChange(register, _text(a), _text(b), _field_changes(register, a, b)))
    return tuple(found)


def _step_names(program: ProgramView) -> set[str]:
    return {view.step.name for view in program.tasks if view.step is not None}


def _keys(tasks: Sequence[TaskView], shared: set[str]) -> list[tuple[str, str]]:
    return [(_step(view, shared), operation(view.registers)) for view in tasks]


def _step(view: TaskView, shared: set[str]) -> str:
    return view.step.name if view.step is not None and view.step.name in shared else ""


def _aligned(old: Sequence[TaskView], new: Sequence[TaskView], shared: set[str]) -> list[TaskPair]:
    """Tasks that have no exact counterpart: paired where step and kind agree."""
    kinds = [[(_step(view, shared), _kind(view)) for view in views] for views in (old, new)]
    pairs: list[TaskPair] = []
    for tag, first, last, other_first, other_last in SequenceMatcher(None, *kinds, autojunk=False).get_opcodes():
        left, right = old[first:last], new[other_first:other_last]
        if tag == "equal":
            pairs += _paired(left, right)
        else:
            pairs += [TaskPair(view, None) for view in left]
            pairs += [TaskPair(None, view) for view in right]
    return pairs


def _kind(view: TaskView) -> str:
    """The operation without its shapes: "conv 3x3 int8"."""
    return operation(view.registers).partition(",")[0]


def _paired(old: Sequence[TaskView], new: Sequence[TaskView]) -> list[TaskPair]:
    return [TaskPair(a, b, changes(a, b)) for a, b in zip(old, new, strict=True)]


def _known(view: TaskView) -> set[Register]:
    return {*view.registers.written, *view.registers.inherited}


def _value(view: TaskView, register: Register) -> Place | int | None:
    if register in view.addresses:
        return view.addresses[register]
    return view.registers.word(register) if view.registers.knows(register) else None


def _text(value: Place | int | None) -> str:
    if value is None:
        return "not written"
    return f"{value:#010x}" if isinstance(value, int) else f"{value.segment}+{value.offset_bytes:#x}"


def _field_changes(register: Register, old: Place | int | None, new: Place | int | None) -> tuple[FieldChange, ...]:
    if isinstance(old, Place) or isinstance(new, Place):
        return ()
    a = {} if old is None else register.decode(old)
    b = {} if new is None else register.decode(new)
    return tuple(
        FieldChange(field.name, a.get(field.name), b.get(field.name))
        for field in reversed(register.fields)
        if a.get(field.name) != b.get(field.name) and (a.get(field.name) or b.get(field.name))
    )
