"""Which task lists run as one kick, and programs whose numbers for that make no sense."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rocketnpu as rn
from rocketnpu.hw.limits import MAX_TASKS_PER_KICK
from rocketnpu.program.check import check_program
from rocketnpu.program.model import NpuStep
from rocketnpu.program.schedule import kicks
from support.models import ModelBuilder

Segments = tuple[tuple[tuple[int, ...], ...], ...]


def step(segments: Segments, numbers: tuple[int, ...] | None = None) -> NpuStep:
    return NpuStep("s", (), (), (), {3: segments}, kicks={} if numbers is None else {3: numbers})


def test_segments_of_one_number_are_joined_core_by_core_in_the_order_of_the_numbers() -> None:
    first = step((((0,), (2,), (4,)), ((6,), (8,))), (0, 1))
    second = step((((1,), (3,), (5,)), ((7,), (9,)), ((10,),)), (0, 1, 2))
    assert kicks([first, second], 3) == [((0, 1), (2, 3), (4, 5)), ((6, 7), (8, 9)), ((10,),)]


def test_steps_that_are_left_out_leave_the_rest_as_it_was() -> None:
    second = step((((1,), (3,), (5,)), ((7,), (9,))), (0, 1))
    assert kicks([second], 3) == [((1,), (3,), (5,)), ((7,), (9,))]


def test_cores_without_tasks_are_left_out() -> None:
    assert kicks([step((((0,), ()),), (0,))], 3) == [((0,),)]
    assert kicks([step((((), ()),), (0,)), step((), ())], 3) == []


def test_without_numbers_only_lists_for_one_core_that_follow_one_another_are_joined() -> None:
    steps = [step((((0,),),)), step((((1, 2),),)), step((((7,),),)), step((((3,), (4,)), ((5,), (6,))))]
    assert kicks(steps, 3) == [((0, 1, 2),), ((7,),), ((3,), (4,)), ((5,), (6,))]


def test_a_chain_longer_than_the_counter_is_kicked_in_pieces() -> None:
    found = kicks([step(((tuple(range(MAX_TASKS_PER_KICK + 2)),),), (0,))], 3)
    assert [len(chain) for (chain,) in found] == [MAX_TASKS_PER_KICK, 2]


@pytest.fixture(scope="module")
def program() -> rn.Program:
    model = ModelBuilder(seed=3)
    x = model.conv2d(model.input((1, 41, 19, 16)), 48)
    return rn.compile(model.build(model.depthwise(x)), cores=3)


@pytest.mark.parametrize("numbers", [(), (0,), (1, 0), (0, 0), (0, 1, 2)])
def test_numbers_that_are_not_those_of_the_segments_are_refused(program: rn.Program, numbers: tuple[int, ...]) -> None:
    last = program.steps[-1]
    assert isinstance(last, NpuStep)
    assert last.kicks[3] == (0, 1)
    spoilt = replace(last, kicks={**last.kicks, 3: numbers})
    with pytest.raises(rn.ModelError, match="does not number its segments for 3 cores in order"):
        check_program(replace(program, steps=(*program.steps[:-1], spoilt)))


def test_a_kick_of_chains_for_different_numbers_of_cores_is_refused(program: rn.Program) -> None:
    last = program.steps[-1]
    assert isinstance(last, NpuStep)
    spoilt = replace(last, tasks={**last.tasks, 3: tuple(segment[:-1] for segment in last.tasks[3])})
    with pytest.raises(rn.ModelError, match="joins a kick of 3 cores that has another number of chains"):
        check_program(replace(program, steps=(*program.steps[:-1], spoilt)))
