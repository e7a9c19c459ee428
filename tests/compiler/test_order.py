"""The order of steps: operators on the CPU do not end a submission that they have nothing to do with."""

from __future__ import annotations

import rocketnpu as rn
from support.models import Grid, ModelBuilder


def places(program: rn.Program) -> list[tuple[str, ...]]:
    return [(step.place, *step.outputs) for step in program.steps]


def test_outputs_on_the_cpu_wait_for_all_of_the_npu() -> None:
    model = ModelBuilder(seed=1)
    first = model.conv2d(model.input((1, 6, 7, 8)), 8, output=Grid(0.05, 4))
    near = model.softmax(first)
    second = model.conv2d(first, 8, output=Grid(0.05, 4))
    far = model.softmax(second)
    program = rn.compile(model.build(near, far))
    assert places(program) == [("npu", first), ("npu", second), ("cpu", near, far)]


def test_what_the_npu_reads_comes_before_it() -> None:
    model = ModelBuilder(seed=2)
    first = model.conv2d(model.input((1, 6, 7, 8)), 8, output=Grid(0.05, 4))
    between = model.softmax(first)
    second = model.conv2d(between, 8, output=Grid(0.05, 4))
    beside = model.conv2d(first, 8, output=Grid(0.05, 4))
    program = rn.compile(model.build(second, beside))
    assert places(program) == [("npu", first), ("npu", beside), ("cpu", between), ("npu", second)]


def test_a_model_on_the_npu_alone_keeps_its_order() -> None:
    model = ModelBuilder(seed=3)
    x = model.input((1, 6, 7, 8))
    names = [model.conv2d(x, 8, output=Grid(0.05, 4))]
    names += [model.conv2d(names[0], 8, output=Grid(0.05, 4)) for _ in range(2)]
    names.append(model.add(names[2], names[1], output=Grid(0.05, 4)))
    program = rn.compile(model.build(names[3]), keep=names)
    assert places(program) == [("npu", name) for name in names]


def test_the_cpu_does_all_that_it_can_before_the_npu_goes_on() -> None:
    model = ModelBuilder(seed=4)
    x = model.input((1, 6, 7, 8))
    first = model.softmax(x)
    second = model.softmax(first)
    beside = model.conv2d(first, 8, output=Grid(0.05, 4))
    behind = model.conv2d(second, 8, output=Grid(0.05, 4))
    program = rn.compile(model.build(beside, behind))
    assert places(program) == [("cpu", first, second), ("npu", beside), ("npu", behind)]
