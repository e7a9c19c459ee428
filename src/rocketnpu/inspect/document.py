"""What `rocketnpu inspect` finds, as JSON values."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import Register, register_of
from rocketnpu.inspect.diff import TaskPair
from rocketnpu.inspect.findings import Finding
from rocketnpu.inspect.names import Names
from rocketnpu.inspect.summary import name_of, operation, tensors
from rocketnpu.inspect.view import Place, ProgramView, TaskView
from rocketnpu.program.model import NpuStep, Program, Step

Document = dict[str, Any]


def overview(view: ProgramView) -> Document:
    """The whole program: segments, tensors, steps, and a summary of each task."""
    program, names = view.program, Names(view.program)
    return {
        "program": program.name,
        "segments": [
            {"name": segment.name, "size_bytes": segment.size_bytes, "has_data": segment.data is not None}
            for segment in program.segments
        ],
        "tensors": [
            {
                "name": tensor.name,
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "cube": None if tensor.cube is None else asdict(tensor.cube),
            }
            for tensor in program.tensors
        ],
        "target": program.target,
        "inputs": list(program.inputs),
        "outputs": list(program.outputs),
        "placement": placement(program),
        "notes": list(program.notes),
        "steps": [_step(step) for step in program.steps],
        "tasks": [_task(task, names) for task in view.tasks],
    }


def placement(program: Program) -> Document:
    """How much runs on the NPU: operators, and MACs of one inference, which are null where they are not known.

    `npu_percent` is the share of the MACs, or of the operators where no operator has MACs.
    """
    return {**asdict(program.placement), "npu_percent": program.placement.npu_percent}


def task_listing(view: ProgramView, task: TaskView) -> Document:
    """One task: its summary, every command word with fields and place, and the registers it inherits."""
    names = Names(view.program)
    inherited = {name: value for name, value in task.registers.inherited.items() if name not in task.registers.written}
    return {
        "program": view.program.name,
        **_task(task, names),
        "entries": [
            _entry(word, task.relocated.get(index), task, names) for index, word in enumerate(task.words.tolist())
        ],
        "inherited": [
            {
                "register": str(register),
                "value": value,
                "place": _place(task.addresses.get(register), register, task, names),
            }
            for register, value in inherited.items()
        ],
    }


def findings(view: ProgramView, found: Iterable[Finding]) -> Document:
    """The result of a lint."""
    return {"program": view.program.name, "tasks": len(view.tasks), "findings": [asdict(item) for item in found]}


def differences(old: ProgramView, new: ProgramView, pairs: Iterable[TaskPair]) -> Document:
    """The tasks that differ, register by register, and how many don't."""
    pairs = list(pairs)
    return {
        "old": old.program.name,
        "new": new.program.name,
        "equal_tasks": sum(pair.is_equal for pair in pairs),
        "differences": [_pair(pair) for pair in pairs if not pair.is_equal],
    }


def _step(step: Step) -> Document:
    return {
        "name": step.name,
        "place": step.place,
        "operators": [asdict(operator) for operator in step.operators],
        "inputs": list(step.inputs),
        "outputs": list(step.outputs),
        "tasks": {str(cores): segments for cores, segments in step.tasks.items()} if isinstance(step, NpuStep) else {},
    }


def _task(task: TaskView, names: Names) -> Document:
    return {
        "task": task.index,
        "name": task.task.name,
        "step": None if task.step is None else task.step.name,
        "first_word": task.task.first_word,
        "body_entries": task.task.body_entries,
        "enable_mask": task.task.enable_mask,
        "operation": operation(task.registers),
        "tensors": tensors(task, names),
    }


def _entry(word: int, place: Place | None, task: TaskView, names: Names) -> Document:
    command = regcmd.decode(word)
    register = register_of(command.target, command.offset)
    return {
        "target": command.target,
        "offset": command.offset,
        "value": command.value,
        "register": None if register is None else str(register),
        "fields": {} if register is None else _fields(register, command.value),
        "place": _place(place, register, task, names),
    }


def _fields(register: Register, value: int) -> dict[str, int]:
    return {name: part for name, part in register.decode(value).items() if part}


def _place(place: Place | None, register: Register | None, task: TaskView, names: Names) -> Document | None:
    return None if place is None else {**asdict(place), "name": name_of(task, names, register, place)}


def _pair(pair: TaskPair) -> Document:
    return {
        "old": _side(pair.old),
        "new": _side(pair.new),
        "registers": [
            {
                "register": str(change.register),
                "old": change.old,
                "new": change.new,
                "fields": [asdict(field) for field in change.fields],
            }
            for change in pair.changes
        ],
    }


def _side(task: TaskView | None) -> Document | None:
    if task is None:
        return None
    return {"task": task.index, "name": task.task.name, "operation": operation(task.registers)}
