"""Lint finds nothing in programs that are right, and every planted error by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.hw import regcmd
from rocketnpu.hw.registers import CNA, DPU, DPU_RDMA, PC, Register
from rocketnpu.inspect import Finding, lint, view
from rocketnpu.program.model import (
    COMMANDS,
    CpuStep,
    Cube,
    NpuStep,
    Program,
    Segment,
    TensorEntry,
)

from .conftest import VENDOR
from .mutate import place_of, with_fields, with_place, with_value, with_words, word_of, words_of

Mutation = Callable[[Program], Program]


def findings(program: Program) -> list[Finding]:
    return lint(view(program))


@pytest.mark.parametrize("name", VENDOR)
def test_vendor_programs_have_no_findings(name: str, vendor: dict[str, Program]) -> None:
    assert findings(vendor[name]) == []


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize(
    "name",
    [
        "tiny/kws_dscnn_int8",
        "tiny/resnet8_int8",
        "mobilenet_v1_1.0_224_quant",
        "mobilenet_v2_1.0_224_quant",
        "deeplabv3_mnv2_dm05_pascal_quant",
        "mesa-ops/mb3",
        "mesa-ops/conv2d",
    ],
)
def test_own_programs_have_no_findings(name: str, cores: int, shared: Path) -> None:
    assert findings(rn.compile(shared / "models" / f"{name}.tflite", cores=cores)) == []


def test_the_small_program_has_no_findings(small: Program) -> None:
    assert findings(small) == []


def _odd_kernels(program: Program) -> Program:
    each = CNA.WEIGHT_SIZE1.field_value(
        int(words_of(program)[word_of(program, 0, CNA.WEIGHT_SIZE1)]) >> 16, "WEIGHT_BYTES_PER_KERNEL"
    )
    program = with_fields(program, 0, CNA.WEIGHT_SIZE2, WEIGHT_KERNELS=47)
    return with_fields(program, 0, CNA.WEIGHT_SIZE0, WEIGHT_BYTES=47 * each)


def _absolute(program: Program) -> Program:
    index = word_of(program, 0, DPU.DST_BASE_ADDR)
    return replace(program, relocations=tuple(item for item in program.relocations if item.word != index))


def _without(register: Register) -> Mutation:
    """The first list writes another register twice instead of this one."""

    def change(program: Program) -> Program:
        words = words_of(program)
        words[word_of(program, 0, register)] = words[word_of(program, 0, CNA.DMA_CON0)]
        return with_words(program, words)

    return change


def _onto(task: int, other: int) -> Mutation:
    """The output of a task led to that of another."""

    def change(program: Program) -> Program:
        place = place_of(program, other, DPU.DST_BASE_ADDR)
        return with_place(program, task, DPU.DST_BASE_ADDR, place.segment, place.addend_bytes)

    return change


def _over_constants(program: Program) -> Program:
    place = place_of(program, 1, CNA.DCOMP_ADDR0)
    return with_place(program, 3, DPU.DST_BASE_ADDR, place.segment, place.addend_bytes // 64 * 64)


def _end_of(segment: str, program: Program) -> int:
    return next(item.size_bytes for item in program.segments if item.name == segment)


PLANTED: dict[str, tuple[Mutation, int, str, str]] = {
    "13 banks": (
        lambda program: with_fields(program, 0, CNA.CBUF_CON0, DATA_BANK=2, WEIGHT_BANK=11),
        0,
        "banks_are_at_most_twelve",
        "2 data banks and 11 weight banks",
    ),
    "47 kernels": (_odd_kernels, 0, "kernel_count_is_even", "WEIGHT_KERNELS is 47"),
    "48 channels in the writer": (
        lambda program: with_fields(program, 0, DPU.WDMA_SIZE_0, CHANNEL_WDMA=47),
        0,
        "channel_counts_fill_groups",
        "48 channels, not a multiple of 32",
    ),
    "an undocumented bit": (
        lambda program: with_fields(program, 2, DPU.EW_CFG, EW_BINARY_EN=1),
        2,
        "undocumented_bits_are_zero",
        "DPU.EW_CFG.EW_BINARY_EN = 0x1",
    ),
    "output past the end": (
        lambda program: with_place(
            program, 3, DPU.DST_BASE_ADDR, "activations", _end_of("activations", program) - 3 * 64 * 16
        ),
        3,
        "accesses_stay_in_their_segment",
        "writes padding through DPU.DST_BASE_ADDR",
    ),
    "input past the end": (
        lambda program: with_place(program, 1, CNA.FEATURE_DATA_ADDR, "activations", _end_of("activations", program)),
        1,
        "accesses_stay_in_their_segment",
        "reads features through CNA.FEATURE_DATA_ADDR",
    ),
    "weights past the end": (
        lambda program: with_place(program, 1, CNA.DCOMP_ADDR0, "constants", _end_of("constants", program) - 16),
        1,
        "accesses_stay_in_their_segment",
        "reads weights through CNA.DCOMP_ADDR0",
    ),
    "operands past the end": (
        lambda program: with_place(program, 1, DPU_RDMA.RDMA_BS_BASE_ADDR, "constants", _end_of("constants", program)),
        1,
        "accesses_stay_in_their_segment",
        "reads operands through DPU_RDMA.RDMA_BS_BASE_ADDR",
    ),
    "element operand past the end": (
        lambda program: with_place(program, 2, DPU_RDMA.RDMA_EW_BASE_ADDR, "constants", 0),
        2,
        "accesses_stay_in_their_segment",
        "reads element through DPU_RDMA.RDMA_EW_BASE_ADDR",
    ),
    "a plane stride too large": (
        lambda program: with_fields(program, 1, CNA.DMA_CON2, SURF_STRIDE=1 << 20),
        1,
        "accesses_stay_in_their_segment",
        "reads features",
    ),
    "an address that is no place": (_absolute, 0, "addresses_are_places", "writes output at DPU.DST_BASE_ADDR"),
    "a stride that nobody writes": (
        _without(CNA.DMA_CON1),
        0,
        "accesses_are_known",
        "CNA.DMA_CON1 is not written, neither by this list nor by an earlier one",
    ),
    "an address that nobody writes": (
        _without(CNA.FEATURE_DATA_ADDR),
        0,
        "accesses_are_known",
        "CNA.FEATURE_DATA_ADDR is not written, neither by this list nor by an earlier one",
    ),
    "output over a tensor that is needed later": (
        _onto(1, 0),
        1,
        "live_tensors_are_left_alone",
        "where tensor first is still needed",
    ),
    "output over the task's own input": (
        _onto(3, 2),
        3,
        "live_tensors_are_left_alone",
        "where tensor total is still needed",
    ),
    "output over weights": (_over_constants, 3, "constants_are_not_written", "read as weights"),
    "output over command lists": (
        lambda program: with_place(program, 3, DPU.DST_BASE_ADDR, COMMANDS, 0),
        3,
        "constants_are_not_written",
        "writes command lists",
    ),
    "weights kept from a task with others": (
        lambda program: with_fields(program, 1, CNA.CBUF_CON0, WEIGHT_REUSE=1),
        1,
        "reuse_is_of_what_the_task_before_loaded",
        "WEIGHT_REUSE is set, but the task before it loaded something else",
    ),
    "data kept by the first task": (
        lambda program: with_fields(program, 0, CNA.CBUF_CON0, DATA_REUSE=1),
        0,
        "reuse_is_of_what_the_task_before_loaded",
        "DATA_REUSE is set",
    ),
    "an enable entry of other blocks": (
        lambda program: with_value(program, 2, PC.TARGET_BROADCAST, lambda _: regcmd.POOL_MASK),
        2,
        "lists_end_with_a_trailer",
        "its enable entry starts 0x60, the task says 0x18",
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_error_is_found(what: str, small: Program) -> None:
    mutate, task, rule, text = PLANTED[what]
    found = [item for item in findings(mutate(small)) if item.rule == rule]
    assert any(item.task == task and text in item.text for item in found), [str(item) for item in found]


def test_an_addition_may_replace_its_operand(small: Program) -> None:
    """A DPU task reads each atom before it writes it; one that writes elsewhere into its operand is found."""
    moved = _onto(2, 1)(small)
    assert not [item for item in findings(moved) if item.task == 2]
    place = place_of(small, 1, DPU.DST_BASE_ADDR)
    shifted = with_place(small, 2, DPU.DST_BASE_ADDR, place.segment, place.addend_bytes + 16)
    assert "live_tensors_are_left_alone" in [item.rule for item in findings(shifted) if item.task == 2]


def test_tasks_of_one_step_that_write_the_same_bytes_are_found(vendor: dict[str, Program]) -> None:
    """The two copies of a concat: the second over the first."""
    program = vendor["b_channel"]
    concat = next(step for step in program.steps if step.name == "concat")
    assert isinstance(concat, NpuStep)
    first, second = concat.tasks[1][0][0]
    found = findings(_onto(second, first)(program))
    assert [(item.task, item.rule) for item in found] == [(second, "results_are_read_before_they_are_overwritten")]
    assert f"which task {first} (concat[0]) wrote" in found[0].text


def test_cores_that_write_or_read_the_same_bytes_are_found(vendor: dict[str, Program]) -> None:
    program = vendor["b_channel"]
    step = program.steps[1]
    assert isinstance(step, NpuStep)
    ((one,), (two,)) = step.tasks[2][0]
    assert "cores_write_apart" in [item.rule for item in findings(_onto(two, one)(program)) if item.task == two]
    place = place_of(program, one, DPU.DST_BASE_ADDR)
    reader = with_place(program, two, CNA.FEATURE_DATA_ADDR, place.segment, place.addend_bytes)
    assert "cores_read_what_is_finished" in [item.rule for item in findings(reader) if item.task == two]


def test_a_trailer_that_leads_elsewhere_is_found(vendor: dict[str, Program]) -> None:
    program = vendor["b_channel"]
    resize = next(step for step in program.steps if step.name == "resize")
    assert isinstance(resize, NpuStep)
    task = resize.tasks[1][0][0][0]
    index = word_of(program, task, PC.BASE_ADDRESS)
    moved = tuple(replace(item, addend_bytes=0) if item.word == index else item for item in program.relocations)
    found = findings(replace(program, relocations=moved))
    assert {item.rule for item in found} == {"trailers_lead_to_the_next_list"}
    start = program.tasks[task].first_word
    sharing = [number for number, other in enumerate(program.tasks) if other.first_word == start]
    assert sorted(item.task for item in found if item.task is not None) == sharing
    short = with_fields(program, task, PC.REGISTER_AMOUNTS, PC_DATA_AMOUNT=3)
    assert all("the length code 0x3" in item.text for item in findings(short))
    assert findings(short)


def _host_program(offset_bytes: int, first_reader: int) -> Program:
    """Two inputs of one run of steps, each read by one step; no tasks."""

    def entry(name: str, offset: int) -> TensorEntry:
        return TensorEntry(name, (1, 4, 4, 16), "int8", cube=Cube("arena", offset, 4, 4, 16, 16))

    steps = [NpuStep(f"step{index}", (), (), (), {1: (((),),)}) for index in range(2)]
    steps[first_reader] = replace(steps[first_reader], inputs=("a",))
    steps[1] = replace(steps[1], inputs=(*steps[1].inputs, "b"))
    tensors = (entry("a", 0), entry("b", offset_bytes))
    return Program("host", (Segment("arena", 1024),), (), (), tuple(steps), tensors, ("a", "b"), ())


@pytest.mark.parametrize("first_reader", [0, 1])
def test_inputs_of_one_run_have_places_of_their_own(first_reader: int) -> None:
    """The host writes both before the run starts, however early one of them is read."""
    assert findings(_host_program(256, first_reader)) == []
    (found,) = findings(_host_program(240, first_reader))
    assert (found.where, found.rule) == ("tensor b", "live_tensors_are_left_alone")
    assert "16 bytes from arena+0xf0, where tensor a" in found.text


def test_a_run_after_cpu_steps_may_reuse_the_inputs_place() -> None:
    program = _host_program(0, 0)
    apart = replace(program, steps=(program.steps[0], CpuStep("cpu", (), (), (), b""), program.steps[1]))
    assert findings(apart) == []


def test_lint_survives_random_commands(small: Program) -> None:
    """Lists of random values are reported on, never a crash."""
    rng = np.random.default_rng(5)
    words = words_of(small)
    values = rng.integers(0, 1 << 14, words.size, np.uint64) << np.uint64(16)
    for task in small.tasks:
        body = slice(task.first_word, task.first_word + task.body_entries)
        words[body] = (words[body] & ~np.uint64(0xFFFFFFFF << 16)) | values[body]
    assert len(findings(with_words(small, words))) > 10
