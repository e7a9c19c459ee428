"""What the caller of the compiler may choose: bad values are one clear line, good ones change the program."""

from __future__ import annotations

from typing import Any

import pytest

import rocketnpu as rn
from rocketnpu.compiler import Options
from support.models import ModelBuilder


def small_model() -> bytes:
    model = ModelBuilder(seed=1)
    return model.build(model.conv2d(model.input((1, 8, 8, 16)), 16))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"cores": "2"}, "cores is a whole number, not '2'"),
        ({"cores": 4}, "the chip has 3 cores; cores=4 was asked for"),
        ({"cores": 0}, "the chip has 3 cores; cores=0 was asked for"),
        ({"keep": 5}, "keep is the name of a tensor, a collection of names, or 'all', not 5"),
        ({"keep": [5]}, "keep is the name of a tensor, a collection of names, or 'all', not [5]"),
        ({"target": "tpu"}, "target is 'any', 'rocket', 'rknpu', not 'tpu'"),
        ({"target": None}, "target is 'any', 'rocket', 'rknpu', not None"),
        ({"target": "rocket", "cores": 3}, "with rocket an inference runs on one core, cores=3 was asked for"),
        ({"optimize": 3}, "optimize is 0, 1 or 2, not 3"),
        ({"optimize": "fast"}, "optimize is a whole number, not 'fast'"),
        ({"experimental": 1}, "experimental is True or False, not 1"),
    ],
)
def test_bad_options_are_one_clear_line(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(rn.CompileError) as caught:
        rn.compile(small_model(), **bad)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_program_knows_its_target() -> None:
    assert rn.compile(small_model()).target == "any"
    assert rn.compile(small_model(), target="rocket").target == "rocket"


def test_names_to_keep_are_given_one_by_one_or_all_together() -> None:
    assert Options(keep="x").names == ("x",)
    assert Options(keep=["x", "y"]).names == ("x", "y")
    assert Options(keep="all").names == ()
