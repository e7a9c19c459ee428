"""Show, check or compare the register programs in a file.

A .rnpu or .rknn file, or bare 64-bit register commands. Exit code 1: --lint found something.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rocketnpu.cli.arguments import add_json, seed
from rocketnpu.cli.steps import kinds, print_notes, share
from rocketnpu.cli.terminal import LONGEST_NAME, print_json, print_line, print_table, progress
from rocketnpu.errors import ModelError
from rocketnpu.hw import regcmd
from rocketnpu.hw.assembly import disassemble
from rocketnpu.hw.registers import register_of
from rocketnpu.inspect import (
    Names,
    Place,
    ProgramView,
    TaskPair,
    TaskView,
    compare,
    lint,
    name_of,
    operation,
    read_program,
    tensors,
    view,
)
from rocketnpu.inspect.document import differences, findings, overview, task_listing
from rocketnpu.ir import shape_text
from rocketnpu.program.model import ANY, Cube, NpuStep, Step, TensorEntry


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("file", type=Path, metavar="FILE", help="a .rnpu or .rknn file, or bare register commands")
    parser.add_argument("--task", type=seed, metavar="N", help="only task N; disassembled, unless compared or checked")
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--diff", type=Path, metavar="OTHER", help="show how the tasks of OTHER differ")
    modes.add_argument("--lint", action="store_true", help="check registers, accesses and overlaps")
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    program = _read(arguments.file)
    task = None if arguments.task is None else _task(program, arguments.task)
    if arguments.lint:
        return _lint(program, task, as_json=arguments.json)
    if arguments.diff is not None:
        return _diff(program, _read(arguments.diff), task, as_json=arguments.json)
    if arguments.json:
        print_json(overview(program) if task is None else task_listing(program, task))
    elif task is None:
        _print_overview(program)
    else:
        _print_task(task, Names(program.program))
    return 0


def _read(path: Path) -> ProgramView:
    return view(read_program(path))


def _task(program: ProgramView, index: int) -> TaskView:
    if index >= len(program.tasks):
        raise ModelError(f"--task {index}: {program.program.name} has {len(program.tasks)} tasks, counted from 0")
    return program.tasks[index]


def _lint(program: ProgramView, task: TaskView | None, *, as_json: bool) -> int:
    with progress() as bar:
        bar.add_task("checking", total=None)
        found = [item for item in lint(program) if task is None or item.task == task.index]
    if as_json:
        print_json(findings(program, found))
    else:
        for item in found:
            print_line(str(item))
        print_line(
            f"{program.program.name}: {len(found)} findings in {len(program.tasks) if task is None else 1} tasks"
        )
    return 1 if found else 0


def _diff(old: ProgramView, new: ProgramView, task: TaskView | None, *, as_json: bool) -> int:
    pairs = [pair for pair in compare(old, new) if task is None or pair.old is task]
    if as_json:
        print_json(differences(old, new, pairs))
        return 0
    for pair in pairs:
        if not pair.is_equal:
            _print_pair(pair)
    equal = sum(pair.is_equal for pair in pairs)
    only_old, only_new = sum(pair.new is None for pair in pairs), sum(pair.old is None for pair in pairs)
    print_line(
        f"{equal} tasks are equal, {len(pairs) - equal - only_old - only_new} differ, "
        f"{only_old} are only in {old.program.name}, {only_new} only in {new.program.name}"
    )
    return 0


def _print_pair(pair: TaskPair) -> None:
    if pair.old is None or pair.new is None:
        alone, sign = (pair.old, "-") if pair.new is None else (pair.new, "+")
        assert alone is not None
        print_line(f"{sign} {alone}: {operation(alone.registers)}")
        return
    print_line(f"- {pair.old}: {operation(pair.old.registers)}")
    print_line(f"+ {pair.new}: {operation(pair.new.registers)}")
    rows: list[tuple[str, str, str]] = []
    for change in pair.changes:
        rows.append((str(change.register), change.old, change.new))
        if len(change.register.fields) > 1:
            rows += [(f"  {field.field}", _number(field.old), _number(field.new)) for field in change.fields]
    print_table(("register", "old", "new"), rows)


def _number(value: int | None) -> str:
    return "" if value is None else str(value)


def _print_overview(program: ProgramView) -> None:
    names = Names(program.program, LONGEST_NAME)
    drivers = "either driver" if program.program.target == ANY else program.program.target
    rows: list[tuple[object, ...]] = [
        (item.name, item.size_bytes, "given" if item.data is not None else "undefined at the start")
        for item in program.program.segments
    ]
    print_table(("segment", "bytes>", "content"), rows, title=f"{program.program.name}, for {drivers}")
    rows = [_tensor_row(tensor, names) for tensor in program.program.tensors]
    if rows:
        print_table(("tensor", "shape", "dtype", "place"), rows)
    rows = [
        (step.place.upper(), names.shorten(step.name), kinds(step.operators), _counts(step))
        for step in program.program.steps
    ]
    print_table(("place", "step", "operators", "tasks by cores"), rows)
    print_line(share(program.program))
    print_notes(program.program)
    rows = [
        (
            task.index,
            "" if task.step is None else names.shorten(task.step.name),
            operation(task.registers),
            tensors(task, names),
        )
        for task in program.tasks
    ]
    if rows:
        print_table(("task>", "step", "operation", "from -> to"), rows)


def _tensor_row(tensor: TensorEntry, names: Names) -> tuple[str, str, str, str]:
    place = "host only" if tensor.cube is None else _place(tensor.cube)
    return names.shorten(tensor.name), shape_text(tensor.shape), tensor.dtype, place


def _place(cube: Cube) -> str:
    layout = f"rows of {cube.row_pitch_pixels} pixels" if cube.dense else f"planes of {cube.pitch_atoms} atoms"
    return f"{cube.segment}+{cube.offset_bytes:#x} {cube.height}x{cube.width}x{cube.channels}, {layout}"


def _counts(step: Step) -> str:
    if not isinstance(step, NpuStep):
        return ""
    counts = {cores: sum(len(core) for part in parts for core in part) for cores, parts in step.tasks.items()}
    return ", ".join(f"{cores}: {count}" for cores, count in counts.items())


def _print_task(task: TaskView, names: Names) -> None:
    print_line(f"# {task}: {operation(task.registers)}")
    print_line(f"# {tensors(task, names)}")
    for index, (word, line) in enumerate(zip(task.words.tolist(), disassemble(task.words).splitlines(), strict=True)):
        place = task.relocated.get(index)
        print_line(line if place is None else f"{line}  # {_target(task, names, word, place)}")
    for register, value in task.registers.inherited.items():
        if register not in task.registers.written:
            print_line(f"# kept from an earlier task: {disassemble([regcmd.write(register, value)]).rstrip()}")


def _target(task: TaskView, names: Names, word: int, place: Place) -> str:
    """Where a word leads: segment and offset, and the tensor there."""
    command = regcmd.decode(word)
    exact = f"{place.segment}+{place.offset_bytes:#x}"
    name = name_of(task, names, register_of(command.target, command.offset), place)
    return exact if name == exact else f"{exact}, {name}"
