"""What the checks of the drivers share: a program with its right answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.verify import random_inputs

DRIVERS = ("rocket", "rknpu")

Arrays: TypeAlias = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Case:
    """A program, sets of inputs, and what the emulator without a driver answers to each."""

    program: rn.Program
    inputs: list[Arrays]
    expected: list[Arrays]

    @staticmethod
    def of(program: rn.Program, count: int = 3) -> Case:
        """Random inputs, and their answers on one core."""
        inputs: list[Arrays] = [*random_inputs(program, count)]
        with rn.Session(program, device="emulator") as session:
            return Case(program, inputs, [session.run(x) for x in inputs])

    def right(self, found: Arrays, number: int) -> bool:
        """Whether these are the bytes of the `number`-th answer."""
        expected = self.expected[number]
        return found.keys() == expected.keys() and all(
            found[name].dtype == values.dtype and np.array_equal(found[name], values)
            for name, values in expected.items()
        )

    def save(self, folder: Path) -> None:
        """Store it for other processes."""
        self.program.save(folder / "case.rnpu")
        arrays = {
            f"{kind}{number}/{name}": values
            for kind, sets in (("inputs", self.inputs), ("expected", self.expected))
            for number, arrays in enumerate(sets)
            for name, values in arrays.items()
        }
        np.savez(folder / "case.npz", **arrays)

    @staticmethod
    def load(folder: Path) -> Case:
        """What `save` has stored."""
        found: dict[str, list[dict[str, NDArray[Any]]]] = {"inputs": [], "expected": []}
        with np.load(folder / "case.npz") as arrays:
            for key in arrays.files:
                place, name = key.split("/", 1)
                kind = place.rstrip("0123456789")
                number = int(place.removeprefix(kind))
                found[kind].extend({} for _ in range(number + 1 - len(found[kind])))
                found[kind][number][name] = arrays[key]
        program = rn.load(folder / "case.rnpu")
        return Case(program, [*found["inputs"]], [*found["expected"]])
