"""Differences: tasks are aligned, and only what differs is shown."""

from __future__ import annotations

from collections import Counter

from rocketnpu.hw.registers import DPU
from rocketnpu.inspect import compare, view
from rocketnpu.inspect.diff import TaskPair
from rocketnpu.program.model import Program
from rocketnpu.rknn import materialise

from .mutate import with_fields, with_place


def differing(old: Program, new: Program) -> list[TaskPair]:
    return [pair for pair in compare(view(old), view(new)) if not pair.is_equal]


def test_a_program_equals_itself(vendor: dict[str, Program], small: Program) -> None:
    for program in (vendor["b_channel"], small):
        assert differing(program, program) == []


def test_one_changed_field_is_one_difference(small: Program) -> None:
    (pair,) = differing(small, with_fields(small, 2, DPU.OUT_CVT_SHIFT, OUT_CVT_SHIFT=9))
    assert pair.old is not None
    assert pair.new is not None
    assert (pair.old.index, pair.new.index) == (2, 2)
    (change,) = pair.changes
    assert change.register is DPU.OUT_CVT_SHIFT
    (field,) = change.fields
    assert (field.field, field.new) == ("OUT_CVT_SHIFT", 9)
    assert field.old != 9


def test_another_place_is_a_difference_though_the_word_is_the_same(small: Program) -> None:
    (pair,) = differing(small, with_place(small, 3, DPU.DST_BASE_ADDR, "activations", 0x40))
    ((register, new, fields),) = [(change.register, change.new, change.fields) for change in pair.changes]
    assert (register, new, fields) == (DPU.DST_BASE_ADDR, "activations+0x40", ())


def test_an_incremental_list_equals_its_full_form(vendor: dict[str, Program]) -> None:
    """Inherited registers count, whoever writes them: the resize's last lists hold 9 registers, then 69."""
    program = vendor["b_channel"]
    full = materialise(program)
    assert any(task.body_entries < 69 for task in program.tasks)
    old, new = view(program), view(full)
    (resize,) = [step for step in program.steps if step.name == "resize"]
    (full_resize,) = [step for step in full.steps if step.name == "resize"]
    assert resize.place == full_resize.place == "npu"
    for a, b in zip(resize.tasks[1][0][0], full_resize.tasks[1][0][0], strict=True):
        assert TaskPair(old.tasks[a], new.tasks[b]).is_equal
        assert [pair for pair in compare(old, new) if pair.old is old.tasks[a] and pair.new is new.tasks[b]]


def test_tasks_that_one_program_lacks_stand_alone(vendor: dict[str, Program]) -> None:
    pairs = compare(view(vendor["a_channel"]), view(vendor["b_channel"]))
    sides = Counter((pair.old is not None, pair.new is not None) for pair in pairs)
    assert sides[True, True] + sides[True, False] == len(vendor["a_channel"].tasks)
    assert sides[True, True] + sides[False, True] == len(vendor["b_channel"].tasks)
    assert sides[False, True] > 0


def test_quantization_per_channel_and_per_layer_differ_in_the_dpu_alone(vendor: dict[str, Program]) -> None:
    pairs = differing(vendor["a_channel"], vendor["a_layer"])
    convolutions = [pair for pair in pairs if pair.old is not None and pair.old.task.enable_mask == 0x1D]
    assert convolutions
    for pair in convolutions:
        assert {change.register.block for change in pair.changes} == {"DPU", "DPU_RDMA"}
