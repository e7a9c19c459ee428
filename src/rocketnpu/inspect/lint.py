"""What is wrong with a program: every rule that a task breaks, and every access that goes where it must not."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rocketnpu.hw import regcmd, rules
from rocketnpu.hw.registers import CNA, PC, register_of
from rocketnpu.inspect.findings import Finding, finding
from rocketnpu.inspect.memory import TaskMemory, program_memory
from rocketnpu.inspect.overlaps import overlaps
from rocketnpu.inspect.view import Place, ProgramView, TaskView
from rocketnpu.program.model import COMMANDS, RKNPU, NpuStep
from rocketnpu.program.schedule import kicks
from rocketnpu.program.target import unseen_by_rocket

BANKS = ("DATA_BANK", "WEIGHT_BANK")


def lint(program: ProgramView) -> list[Finding]:
    """All findings; empty for a program in which nothing is wrong.

    Programs that are only commands have no memory to check accesses against, and no order that is known to be a chain.
    """
    memories = program_memory(program)
    found = [item for memory in memories for item in _task_findings(program, memory)]
    if not program.is_bare:
        found += _chain_findings(program)
        found += _target_findings(program)
        found += _reuse_findings(program)
        found += overlaps(program.program, memories)
    return list(dict.fromkeys(found))


def _task_findings(program: ProgramView, memory: TaskMemory) -> Iterator[Finding]:
    view = memory.view
    for violation in rules.check(view.registers):
        doubt = f"; disputed: {violation.disputed}" if violation.disputed else ""
        yield finding(view, violation.rule, violation.text + doubt, violation.effect)
    if memory.problem is not None:
        reason = f" ({program.incomplete})" if program.incomplete else ""
        yield finding(view, "accesses_are_known", memory.problem + reason, "illegal")
    yield from _trailer(view)
    if not program.is_bare:
        yield from _bounds(memory)


def _bounds(memory: TaskMemory) -> Iterator[Finding]:
    """Every byte that a task reads or writes is in the segment that its register points to."""
    for touch in memory.touches:
        register, place = touch.access.register, touch.place
        verb = "writes" if touch.access.writes else "reads"
        if place is None:
            value = memory.view.registers.word(register)
            text = f"{verb} {touch.access.role} at {register} = {value:#x}, which is no place in a segment"
            yield finding(memory.view, "addresses_are_places", text, "corrupt")
        elif not touch.is_inside:
            low, high = touch.access.bounds(place.offset_bytes)
            text = (
                f"{verb} {touch.access.role} through {register} in bytes {low:#x}..{high:#x} of segment "
                f"{place.segment}, which has {touch.size_bytes:#x}"
            )
            yield finding(memory.view, "accesses_stay_in_their_segment", text, "corrupt")


def _trailer(view: TaskView) -> Iterator[Finding]:
    """The list ends with the marker and an enable entry of the task's mask (hardware/regcmd.md, Task list layout)."""
    *_, marker, enable = (regcmd.decode(word) for word in view.words.tolist())
    is_enable = register_of(enable.target, enable.offset) is PC.TARGET_BROADCAST
    if marker.target != regcmd.MARKER_TARGET or not is_enable:
        yield finding(view, "lists_end_with_a_trailer", "no marker and enable entry at its end", "hang")
    elif enable.value != view.task.enable_mask:
        text = f"its enable entry starts {enable.value:#x}, the task says {view.task.enable_mask:#x}"
        yield finding(view, "lists_end_with_a_trailer", text, "hang")


def _chain_findings(program: ProgramView) -> Iterator[Finding]:
    """The trailer of a list leads to the one that follows it on its core (hardware/regcmd.md, Chaining)."""
    for step in program.program.steps:
        if isinstance(step, NpuStep):
            for core in (core for segments in step.tasks.values() for cores in segments for core in cores):
                yield from _chain(program, core)


def _reuse_findings(program: ProgramView) -> Iterator[Finding]:
    """What a task keeps in the CBUF was loaded by the task just before it in its kick, into the same banks
    (hardware/regcmd.md, Weight and data reuse)."""
    for on_npu, run in itertools.groupby(program.program.steps, key=lambda step: isinstance(step, NpuStep)):
        steps = [step for step in run if isinstance(step, NpuStep)]
        for count in steps[0].tasks if on_npu else ():
            for kick in kicks([step for step in steps if count in step.tasks], count):
                for chain in kick:
                    for before, index in zip((None, *chain), chain, strict=False):
                        yield from _reuse(None if before is None else program.tasks[before], program.tasks[index])


def _reuse(before: TaskView | None, view: TaskView) -> Iterator[Finding]:
    for field, register, what in (
        ("WEIGHT_REUSE", CNA.DCOMP_ADDR0, (CNA.WEIGHT_SIZE0,)),
        ("DATA_REUSE", CNA.FEATURE_DATA_ADDR, (CNA.DATA_SIZE0, CNA.DMA_CON1, CNA.DMA_CON2)),
    ):
        task = view.registers
        if not (task.enables(CNA) and task.knows(CNA.CBUF_CON0) and task.get(CNA.CBUF_CON0, field)):
            continue
        same = before is not None and before.registers.enables(CNA)
        if before is not None and same:
            banks = [[item.get(CNA.CBUF_CON0, name) for name in BANKS] for item in (before.registers, task)]
            same = banks[0] == banks[1] and before.addresses.get(register) == view.addresses.get(register)
            same = same and all(before.registers.word(item) == task.word(item) for item in what)
        if not same:
            text = f"{field} is set, but the task before it loaded something else, or into other banks"
            yield finding(view, "reuse_is_of_what_the_task_before_loaded", text, "corrupt")


def _target_findings(program: ProgramView) -> Iterator[Finding]:
    """The driver that the program is for sees the end of each of its tasks (hardware/regcmd.md, What completes a
    task)."""
    if program.program.target != RKNPU:
        for index in unseen_by_rocket(program.program):
            text = f"a program for {program.program.target} has a task of the pooling unit alone"
            yield finding(program.tasks[index], "the_driver_sees_the_end", text, "hang")


def _chain(program: ProgramView, core: Sequence[int]) -> Iterator[Finding]:
    for first, second in itertools.pairwise(core):
        view, following = program.tasks[first], program.tasks[second]
        trailer = len(view.words) - regcmd.TRAILER_ENTRIES
        base, amounts = (regcmd.decode(word) for word in view.words.tolist()[trailer : trailer + 2])
        place = Place(COMMANDS, following.task.first_word * regcmd.WORD_BYTES)
        leads = register_of(base.target, base.offset) is PC.BASE_ADDRESS and view.relocated.get(trailer) == place
        code = regcmd.length_code(following.task.body_entries)
        if not leads:
            yield finding(view, "trailers_lead_to_the_next_list", f"its trailer does not lead to {following}", "hang")
        elif PC.REGISTER_AMOUNTS.field_value(amounts.value, "PC_DATA_AMOUNT") != code:
            text = f"its trailer gives {following} the length code {amounts.value & 0xFFFF:#x}, it is {code:#x}"
            yield finding(view, "trailers_lead_to_the_next_list", text, "hang")
