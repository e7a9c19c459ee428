"""What decoded tasks keep has a bound, and the least recently used are the ones given up."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.emulator import task_cache
from rocketnpu.emulator.machine import Machine
from rocketnpu.emulator.task_cache import TaskCache
from support.models import ModelBuilder


@dataclass
class Keeper:
    """A task that keeps so many bytes."""

    kept_bytes: int

    def run(self, machine: Machine) -> None:
        raise NotImplementedError


def test_the_least_recently_used_tasks_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_cache, "_MOST_BYTES", 100)
    cache = TaskCache()
    for key in "abc":
        cache.keep(key, Keeper(30))
    assert cache.find("a") is not None
    grown = Keeper(30)
    cache.keep("d", grown)
    assert [key for key in "abcd" if cache.find(key)] == ["a", "c", "d"]
    grown.kept_bytes = 90
    cache.keep("d", grown)
    assert [key for key in "abcd" if cache.find(key)] == ["d"]


def test_tasks_that_are_given_up_after_each_run_give_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ModelBuilder(seed=3)
    y = model.conv2d(model.conv2d(model.input((1, 12, 12, 16)), 24), 8)
    data, inputs = model.build(y), model.random_inputs()
    found = []
    for limit in (1 << 30, 0):
        monkeypatch.setattr(task_cache, "_MOST_BYTES", limit)
        with rn.Session(data, device="emulator") as session:
            found += [session.run(inputs)[y], session.run(inputs)[y]]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    assert len(np.unique(found[0])) > 10
