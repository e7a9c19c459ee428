"""The vendor's programs on the emulator against the tensors its own simulator recorded."""

from __future__ import annotations

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.rknn import load_rknn, materialise

from .conftest import NAMES
from .record import Tensors, disagreements, distance

END_TO_END = {
    "a": {"conv1_relu": 1},
    "a2": {"conv3": 3},
    "b": {"sigmoid": 40, "fc_mm": 1, "fc": 1},
}
"""Largest difference when each layer gets the results of the one before: rounding differences pass through."""


def _isolated(program: rn.Program, recorded: Tensors, cores: int = 1) -> Tensors:
    with rn.Session(program, device="emulator", cores=cores) as session:
        return session.run_isolated(recorded)


def _unequal(results: Tensors, others: Tensors) -> dict[str, int]:
    """Number of differing bytes of the tensors that differ."""
    assert results.keys() == others.keys()
    counts = {name: int(np.count_nonzero(results[name] != others[name])) for name in results}
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("name", NAMES)
def test_every_step_fed_from_the_record_gives_the_recorded_tensors(
    name: str, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    results = _isolated(load_rknn(vendor[name], name), recorded[name])
    assert sorted(results) == sorted(set(recorded[name]) - {"x"})
    assert disagreements(name, results, recorded[name]) == []


@pytest.mark.parametrize("cores", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_more_cores_give_the_same_bytes(
    name: str, cores: int, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    program = load_rknn(vendor[name], name)
    assert _unequal(_isolated(program, recorded[name], cores), _isolated(program, recorded[name])) == {}


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_full_lists_give_the_same_bytes_as_incremental_ones(
    name: str, cores: int, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    program = load_rknn(vendor[name], name)
    full = _isolated(materialise(program), recorded[name], cores)
    assert _unequal(full, _isolated(program, recorded[name], cores)) == {}


@pytest.mark.parametrize("cores", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_end_to_end_results_stay_close(
    name: str, cores: int, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    bounds = END_TO_END[name.partition("_")[0]]
    with rn.Session(load_rknn(vendor[name], name), device="emulator", cores=cores) as session:
        results = session.run(recorded[name]["x"], fetch=list(bounds))
    distances = {tensor: int(distance(results[tensor], recorded[name][tensor]).max()) for tensor in bounds}
    assert {tensor: value for tensor, value in distances.items() if value > bounds[tensor]} == {}


@pytest.mark.parametrize("name", NAMES)
def test_full_lists_end_to_end_give_the_same_outputs(
    name: str, vendor: dict[str, bytes], recorded: dict[str, Tensors]
) -> None:
    """In one submission, as a driver chains them: nothing is read between the steps."""
    program = load_rknn(vendor[name], name)
    with rn.Session(program, device="emulator") as session, rn.Session(materialise(program), device="emulator") as full:
        x = recorded[name]["x"]
        assert _unequal(session.run(x), full.run(x)) == {}
