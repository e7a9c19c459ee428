"""Incremental lists made full."""

from __future__ import annotations

from collections import Counter

import pytest

from rocketnpu.errors import ModelError
from rocketnpu.hw.registers import DPU, register_of
from rocketnpu.program.model import NpuStep, Program
from rocketnpu.rknn import load_rknn, materialise

from .patch import body, with_register

FULL = {0x1D: 122, 0x18: 69, 0x60: 26}
"""Entries of a full list by enable mask (hardware/regcmd.md, Task list layout)."""


def test_no_task_is_shorter_than_a_full_one(vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor["b_channel"], "b")
    full = materialise(program)
    short = Counter(task.body_entries for task in program.tasks if task.body_entries < FULL[task.enable_mask])
    assert short == {9: 6}
    assert not [task for task in full.tasks if task.body_entries < FULL[task.enable_mask]]
    for number, task in enumerate(full.tasks):
        assert len({(c.target, c.offset) for c in body(full, number)}) >= FULL[task.enable_mask], task.name


def test_an_incremental_list_inherits_from_the_task_two_back(vendor: dict[str, bytes]) -> None:
    """Of a resize's four lists the last two are incremental; the first two get different values to inherit."""
    program = load_rknn(vendor["b_channel"], "b")
    resize = next(step for step in program.steps if step.name == "resize")
    assert isinstance(resize, NpuStep)
    numbers = resize.tasks[1][0][0]
    marked = with_register(program, DPU.OFFSET_PEND, lambda _: 7, (numbers[0],))
    marked = with_register(marked, DPU.OFFSET_PEND, lambda _: 9, (numbers[1],))
    full = materialise(marked)
    new = next(step for step in full.steps if step.name == "resize").tasks[1][0][0]
    found = [
        next(c.value for c in body(full, number) if register_of(c.target, c.offset) is DPU.OFFSET_PEND)
        for number in new
    ]
    assert found == [7, 9, 7, 9]


def test_an_inherited_lookup_table_access_is_not_repeated(vendor: dict[str, bytes]) -> None:
    full = materialise(load_rknn(vendor["b_channel"], "b"))
    for number, task in enumerate(full.tasks):
        entries = [c.value for c in body(full, number) if register_of(c.target, c.offset) is DPU.LUT_ACCESS_DATA]
        loads = task.body_entries == 1097
        assert (len(entries) == 1 + 2 * 513) if loads else (set(entries) <= {0}), task.name


def test_a_list_that_inherits_what_nobody_wrote_is_refused(vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor["b_channel"], "b")
    resize = next(step for step in program.steps if step.name == "resize")
    assert isinstance(resize, NpuStep)
    alone = NpuStep("resize", (), (), (), {1: ((resize.tasks[1][0][0][2:],),)})
    lonely = Program(
        "alone",
        program.segments,
        program.relocations,
        program.tasks,
        (alone,),
        program.tensors,
        ("concat",),
        ("resize",),
    )
    with pytest.raises(
        ModelError, match=r"task 'resize\[2\]' relies on registers that no earlier task wrote: DPU\.BN_ALU"
    ):
        materialise(lonely)
