"""Programs for several cores: the bytes of one core, every output computed once, and no core waits for another."""

from __future__ import annotations

import random

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.inspect import lint, view
from rocketnpu.inspect.memory import program_memory
from rocketnpu.inspect.spans import size_bytes
from rocketnpu.profile import profile
from rocketnpu.program.container import decode_program, encode_program
from rocketnpu.program.model import NpuStep
from rocketnpu.program.schedule import kicks
from support.models import Grid, ModelBuilder

GRID = Grid(0.03, 5)


def npu_steps(program: rn.Program) -> list[NpuStep]:
    return [step for step in program.steps if isinstance(step, NpuStep)]


def assert_same_on_all_cores(program: rn.Program, model: ModelBuilder) -> None:
    inputs = model.random_inputs()
    results = []
    for cores in (1, 2, 3):
        with rn.Session(program, device="emulator", cores=cores) as session:
            results.append(session.run(inputs))
    for cores, found in enumerate(results[1:], 2):
        for name, array in found.items():
            np.testing.assert_array_equal(array, results[0][name], err_msg=f"{name} on {cores} cores")


def windows(model: ModelBuilder, *, stride: int = 1, kernel: int = 3, rows: int = 41) -> str:
    """Windows over windows: each band of rows lacks what the neighbour's rows would give it."""
    x = model.input((1, rows, 19, 3))
    x = model.conv2d(x, 48, kernel=kernel, stride=stride, output=GRID)
    x = model.depthwise(x, output=GRID)
    x = model.conv2d(x, 64, kernel=1, output=GRID)
    return model.depthwise(x, output=GRID)


def branches(model: ModelBuilder) -> str:
    """Element-wise operators, a concatenation made in place and a lookup on bands of rows."""
    x = model.conv2d(model.input((1, 40, 36, 3)), 48, stride=2, output=GRID)
    y = model.conv2d(x, 160, kernel=1, output=GRID)
    y = model.conv2d(y, 48, kernel=1, output=GRID)
    both = model.concat([model.add(x, y), model.unary("LOGISTIC", y)])
    return model.conv2d(both, 32, output=GRID)


def narrow(model: ModelBuilder) -> str:
    """Few rows and many channels."""
    x = model.conv2d(model.input((1, 7, 7, 64)), 512, kernel=1, output=GRID)
    x = model.depthwise(x, output=GRID)
    x = model.conv2d(x, 512, kernel=1, output=GRID)
    return model.fully_connected(model.mean(model.depthwise(x, output=GRID), keep_dims=False), 70)


NETS = {"windows": windows, "branches": branches, "narrow": narrow}


@pytest.mark.parametrize("net", NETS)
def test_two_and_three_cores_give_the_bytes_of_one(net: str) -> None:
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(NETS[net](model)), cores=3)
    shared = [kick for kick in kicks(npu_steps(program), 3) if len(kick) > 1]
    assert shared, "nothing is shared: this test would show nothing"
    assert_same_on_all_cores(program, model)


@pytest.mark.parametrize("net", NETS)
def test_no_core_touches_what_another_one_writes_at_the_same_time(net: str) -> None:
    model = ModelBuilder(seed=3)
    assert [str(found) for found in lint(view(rn.compile(model.build(NETS[net](model)), cores=3)))] == []


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("rows", [9, 24, 41])
def test_seams_between_bands_are_computed(kernel: int, stride: int, rows: int) -> None:
    model = ModelBuilder(seed=5)
    program = rn.compile(model.build(windows(model, stride=stride, kernel=kernel, rows=rows)), cores=3)
    assert lint(view(program)) == []
    assert_same_on_all_cores(program, model)


def network(model: ModelBuilder, seed: int) -> str:
    """Ten layers over random earlier ones: windows, strides, branches, pools, lookups."""
    choose = random.Random(seed)
    made = [model.input((1, choose.randint(24, 60), choose.randint(20, 40), choose.choice([3, 16, 48])))]
    for _ in range(10):
        x = choose.choice(made[-2:])
        match choose.choice(["conv", "conv", "depthwise", "lookup", "pool", "sum", "concat"]):
            case "conv":
                size, stride = choose.choice([(1, 1), (3, 1), (3, 2), (5, 1)])
                x = model.conv2d(x, choose.choice([24, 64, 130]), kernel=size, stride=stride, output=GRID)
            case "depthwise":
                x = model.depthwise(x, output=GRID)
            case "lookup":
                x = model.unary("LOGISTIC", x)
            case "pool":
                x = model.max_pool(x, kernel=3, stride=1, padding="SAME")
            case kind:
                a, b = model.conv2d(x, 32, output=GRID), model.conv2d(x, 32, kernel=1, output=GRID)
                x = model.add(a, b, output=GRID) if kind == "sum" else model.concat([a, b])
        made.append(x)
    return made[-1]


@pytest.mark.parametrize("seed", range(6))
def test_any_network_gives_the_same_bytes_on_any_number_of_cores(seed: int) -> None:
    model = ModelBuilder(seed=seed)
    program = rn.compile(model.build(network(model, seed)), cores=3, optimize=seed % 3)
    assert lint(view(program)) == []
    assert_same_on_all_cores(program, model)


def test_several_layers_are_one_kick_and_one_more_for_their_seams() -> None:
    """Without that, each of the four layers would be a kick."""
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(windows(model, rows=120)), cores=3)
    assert [len(kick) for kick in kicks(npu_steps(program), 3)] == [3, 2]


@pytest.mark.parametrize("net", NETS)
def test_every_output_is_written_once(net: str) -> None:
    """The tasks of a step write as many bytes as those of one core. The scratch of a table load is no output."""
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(NETS[net](model)), cores=3)
    memory, tensors = program_memory(view(program)), {tensor.name for tensor in program.tensors}
    for step in npu_steps(program):
        written = {}
        for cores, segments in step.tasks.items():
            own = [task for segment in segments for chain in segment for task in chain]
            areas = [memory[task].writes for task in own if program.tasks[task].name in tensors]
            written[cores] = sum(size_bytes(spans) for area in areas for spans in area.values())
        assert written[1] == written[2] == written[3], step.name


def test_fetching_a_tensor_cuts_a_kick_where_it_must() -> None:
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(windows(model)), cores=3)
    inputs, found = model.random_inputs(), []
    for cores in (1, 3):
        with rn.Session(program, device="emulator", cores=cores) as session:
            found.append(session.run(inputs, fetch="all"))
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == 4
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


def test_isolated_steps_run_on_several_cores_too() -> None:
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(windows(model)), cores=3)
    inputs = dict(zip(program.inputs, model.random_inputs(), strict=True))
    with rn.Session(program, device="emulator") as session:
        reference = {**session.run(inputs, fetch="all"), **inputs}
    with rn.Session(program, device="emulator", cores=3) as session:
        for name, array in session.run_isolated(reference).items():
            np.testing.assert_array_equal(array, reference[name], err_msg=name)


def test_a_saved_program_keeps_its_kicks() -> None:
    model = ModelBuilder(seed=3)
    program = rn.compile(model.build(windows(model)), cores=3)
    loaded = decode_program(encode_program(program))
    assert kicks(npu_steps(loaded), 3) == kicks(npu_steps(program), 3)


@pytest.mark.parametrize("net", NETS)
def test_no_level_costs_more_than_the_one_below(net: str) -> None:
    costs: dict[int, list[float]] = {}
    for level in (0, 1, 2):
        model = ModelBuilder(seed=3)
        program = rn.compile(model.build(NETS[net](model)), cores=3, optimize=level)
        assert lint(view(program)) == []
        for total in profile(program).totals:
            costs.setdefault(total.cores, []).append(total.cost)
    for cores, found in costs.items():
        assert found == sorted(found, reverse=True), f"{cores} cores"
    assert all(three <= two for two, three in zip(costs[2], costs[3], strict=True))


def test_little_work_stays_on_one_core() -> None:
    model = ModelBuilder()
    program = rn.compile(model.build(model.conv2d(model.input((1, 1, 1, 16)), 16, kernel=1)), cores=3)
    assert [len(kick) for kick in kicks(npu_steps(program), 3)] == [1]


def test_a_program_says_which_core_counts_it_has() -> None:
    model = ModelBuilder()
    program = rn.compile(model.build(model.conv2d(model.input((1, 8, 8, 16)), 16)), cores=2)
    with pytest.raises(rn.CompileError, match="compile it with cores=3"), rn.Session(program, cores=3) as session:
        session.run(model.random_inputs())
