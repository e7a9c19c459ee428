"""The arena: tensors that live at the same time never share a byte, and those that don't may."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

import rocketnpu as rn
from rocketnpu.compiler.passes.allocate import Lifetime, allocate
from support.agreement import assert_sound
from support.models import ModelBuilder

BUFFERS = st.lists(st.tuples(st.integers(1, 5000), st.integers(0, 20), st.integers(0, 8)), max_size=40)


@settings(derandomize=True, max_examples=200, deadline=None)
@given(BUFFERS)
def test_buffers_that_live_together_lie_apart(sizes: list[tuple[int, int, int]]) -> None:
    buffers = [Lifetime(f"t{n}", size, first, first + span) for n, (size, first, span) in enumerate(sizes)]
    arena = allocate(buffers)
    for step in range(30):
        live = sorted((arena.offsets[b.name], b.size_bytes) for b in buffers if b.first <= step <= b.last)
        for (start, size), (following, _) in pairwise(live):
            assert start + size <= following, f"step {step}: {start} + {size} overlaps {following}"
    assert all(arena.offsets[b.name] % 64 == 0 for b in buffers)
    assert arena.size_bytes <= sum(b.size_bytes + 63 for b in buffers)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(BUFFERS)
def test_trying_more_orders_never_makes_the_arena_larger(sizes: list[tuple[int, int, int]]) -> None:
    buffers = [Lifetime(f"t{n}", size, first, first + span) for n, (size, first, span) in enumerate(sizes)]
    assert allocate(buffers, 2).size_bytes <= allocate(buffers, 1).size_bytes


def test_the_order_of_places_decides_the_size() -> None:
    """By size alone, the small tensor that lives throughout lands above two large ones, and the last above it."""
    buffers = [
        Lifetime(name, size, first, last)
        for name, size, first, last in (("a", 640, 0, 1), ("b", 576, 1, 2), ("all", 128, 0, 4), ("c", 640, 3, 4))
    ]
    sizes = [allocate(buffers, level).size_bytes for level in (1, 2)]
    assert sizes[1] <= sizes[0]
    assert sizes[1] == 640 + 576 + 128


def test_a_chain_of_equal_layers_needs_two_places() -> None:
    arena = allocate([Lifetime(f"t{n}", 6400, n, n + 1) for n in range(20)])
    assert arena.size_bytes == 2 * 6400


def arena_bytes(program: rn.Program) -> int:
    return next(segment.size_bytes for segment in program.segments if segment.name == "activations")


def test_a_long_model_reuses_the_memory_of_its_first_layers() -> None:
    model = ModelBuilder(seed=1)
    x = model.input((1, 16, 16, 32))
    for _ in range(12):
        x = model.conv2d(x, 32)
    program = rn.compile(model.build(x))
    assert_sound(program)
    # Two of the chain's tensors, and the last, which the host reads at the end.
    assert arena_bytes(program) <= 3 * 16 * 16 * 32


def test_residuals_around_several_layers_survive() -> None:
    model = ModelBuilder(seed=2)
    first = model.conv2d(model.input((1, 12, 12, 24)), 40)
    x = first
    for _ in range(3):
        start = x
        for _ in range(4):
            x = model.depthwise(model.conv2d(x, 40))
        x = model.add(start, x)
    assert_sound(rn.compile(model.build(model.add(x, first))))


def test_tensors_that_cross_to_the_cpu_and_back_survive() -> None:
    """`first` is computed in one run of NPU steps and read in the next; the host touches memory in between."""
    model = ModelBuilder(seed=3)
    first = model.conv2d(model.input((1, 8, 8, 16)), 16)
    around = model.conv2d(model.softmax(model.conv2d(first, 16)), 16)
    program = rn.compile(model.build(model.add(first, around)))
    assert [step.place for step in program.steps] == ["npu", "npu", "cpu", "npu", "npu"]
    assert_sound(program)


def test_several_inputs_and_outputs_survive_the_whole_run() -> None:
    model = ModelBuilder(seed=4)
    a, b = model.input((1, 8, 8, 16)), model.input((1, 8, 8, 16))
    early = model.conv2d(a, 16)
    late = model.add(model.conv2d(model.conv2d(early, 16), 16), b)
    assert_sound(rn.compile(model.build(early, late)))
