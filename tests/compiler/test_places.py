"""Tensors that share places on the device: random networks of operators that join, split and move."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from support.agreement import agreement, run_on_npu
from support.models import Grid, ModelBuilder

GRID = Grid(0.05, 4)
MOST_CHANNELS = 300


def random_network(seed: int) -> tuple[ModelBuilder, list[str]]:
    """A model whose operators take any tensors made before, with one or two outputs."""
    model = ModelBuilder(seed)
    choose = model.rng.choice
    size = (int(choose(range(6, 12))), int(choose(range(6, 12))))
    x = model.input((1, *size, int(choose([3, 8, 16]))), scale=0.05, zero=4)
    made = [model.conv2d(x, int(choose([16, 32, 48])), output=GRID)]
    for _ in range(8):
        a = str(choose(made))
        _, height, width, channels = shape = model.tensors[a].shape
        alike = [name for name in made if model.tensors[name].shape[1:3] == (height, width)]
        match choose(["conv", "depthwise", "concat", "concat", "split", "pool", "add", "resize", "slice"]):
            case "conv":
                made.append(model.conv2d(a, int(choose([8, 16, 20, 32, 64])), int(choose([1, 3])), output=GRID))
            case "depthwise":
                made.append(model.depthwise(a, output=GRID))
            case "concat":
                parts = [str(choose(alike)) for _ in range(int(choose([2, 3, 4])))]
                if sum(model.tensors[part].shape[3] for part in parts) <= MOST_CHANNELS:
                    made.append(model.concat(parts))
            case "split" if channels % 2 == 0:
                made += model.split(a, 2)
            case "pool":
                made.append(model.max_pool(a, 3, 1, "SAME"))
            case "add":
                peers = [name for name in made if model.tensors[name].shape == shape]
                made.append(model.add(a, str(choose(peers)), output=GRID))
            case "resize":
                made.append(model.resize(model.max_pool(a), 2))
            case "slice":
                made.append(model.slice(a, (0, 0, 0, int(choose(channels))), (1, -1, -1, -1)))
            case _:
                pass
    return model, list(dict.fromkeys([made[-1], str(choose(made))]))


@pytest.mark.parametrize("seed", range(16))
def test_a_whole_run_gives_the_bytes_of_every_step_alone(seed: int) -> None:
    """Fed with the whole run's own tensors, each step gives them again: none had been overwritten."""
    model, outputs = random_network(seed)
    inputs = model.random_inputs()
    result = agreement(model.build(*outputs), inputs)
    made = [name for step in result.program.steps for name in step.outputs]
    with rn.Session(result.program, device="emulator") as session:
        whole = session.run(inputs, fetch=made)
        given = {tensor.name: value for tensor, value in zip(session.inputs, inputs, strict=True)}
        alone = session.run_isolated({**given, **whole})
    for name, values in alone.items():
        np.testing.assert_array_equal(whole[name], values, err_msg=name)


def test_a_tensor_and_a_view_of_it_can_both_be_given() -> None:
    """The view of 4 channels shares an atom with the other 4."""
    model = ModelBuilder(seed=1)
    x = model.conv2d(model.input((1, 5, 5, 8)), 8, output=GRID)
    first, second = model.split(x, 2)
    run_on_npu(model, model.concat([second, x, first]))
