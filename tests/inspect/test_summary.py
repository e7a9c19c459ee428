"""Tasks and places in words."""

from __future__ import annotations

import pytest

from rocketnpu.inspect import Names, Place, summary, view
from rocketnpu.program.model import Program

VENDOR_SUMMARIES = {
    0: "conv 3x3 int8, dense 64x64x3 -> 32x32x32, stride 2x2, pad 1x1, relu, banks 2+10: x -> conv_rgb_relu",
    1: "depthwise 3x3 int8, 32x32x32 -> 32x32x32, pad 1x1, clamp, banks 1+11: conv_rgb_relu -> dw_relu6",
    2: "conv 1x1 int8, 32x32x32 -> 32x32x32, add, banks 1+11: dw_relu6, conv_rgb_relu -> add",
    3: "max pool 2x2, 32x32x32 -> 16x16x32, stride 2x2: add -> maxpool",
    6: "copy, 16x16x32: branch_relu -> concat[c=32]",
    9: "nearest upsampling, 16x32x16: concat[c=32] -> resize[c=32]",
    11: "load lookup table, 1x1x16: scratch+0x0 -> scratch+0x0",
    12: "conv 1x1 int8, 32x32x64 -> 32x32x32, lookup table, banks 2+10: resize -> sigmoid",
    36: "conv 3x3 int8, dense 33x64x3 -> 16x32x32, stride 2x2, pad 0x1, relu, banks 2+10: "
    "x[y=31] -> conv_rgb_relu[y=16]",
    38: "conv 1x1 int8, 16x32x32 -> 16x32x32, add, banks 1+11: dw_relu6[y=16], conv_rgb_relu[y=16] -> add[y=16]",
}


@pytest.mark.parametrize("task", VENDOR_SUMMARIES)
def test_a_vendor_task_in_one_line(task: int, vendor: dict[str, Program]) -> None:
    program = vendor["b_channel"]
    assert summary(view(program).tasks[task], Names(program)) == VENDOR_SUMMARIES[task]


def test_an_addition_reads_two_tensors(small: Program) -> None:
    assert summary(view(small).tasks[2], Names(small)) == "add, 16x16x48: first, second -> total"


@pytest.mark.parametrize(
    ("offset", "name"),
    [
        (0x8000, "conv1_relu"),
        (0x8000 + 16, "conv1_relu[x=1]"),
        (0x8000 + 16 * (1024 * 2 + 32 * 3), "conv1_relu[y=3, c=32]"),
        (0x8000 + 5, "conv1_relu+0x5"),
        (0x8000 + 16 * 3 * 1024, "arena+0x14000"),
    ],
)
def test_a_place_in_a_cube_has_coordinates(offset: int, name: str, vendor: dict[str, Program]) -> None:
    assert Names(vendor["a2_channel"]).describe(Place("arena", offset)) == name


def test_of_tensors_that_share_a_place_the_steps_own_is_named(vendor: dict[str, Program]) -> None:
    names = Names(vendor["b_channel"])
    assert names.describe(Place("arena", 0), ("maxpool",)) == "maxpool"
    assert names.describe(Place("arena", 0), ("sigmoid", "maxpool")) == "sigmoid"


def test_long_names_keep_their_end(vendor: dict[str, Program]) -> None:
    names = Names(vendor["b_channel"], longest=8)
    assert names.describe(Place("arena", 12288)) == "..._relu"
