"""How far a model's results are from its reference, layer by layer and end to end.

The reference of a TFLite model is LiteRT with its reference kernels, that of an ONNX model ONNX Runtime node by node.
A model that keeps state runs through all inputs in turn, from the same start as its reference.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.compiler import Options
from rocketnpu.cpu import litert
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.files import open_model
from rocketnpu.frontends.opening import make_opening
from rocketnpu.program.model import ANY, Program, Target, TensorEntry
from rocketnpu.runtime.load import compile_file
from rocketnpu.runtime.session import Session

INDEX_BYTES = 4
"""Integers from this size on that have no scale are indices, lengths or masks."""


@dataclass
class Difference:
    """Absolute differences between two arrays of one dtype, in the tensor's own units, summed over several inputs.

    Arrays of different shapes (a detector may find more boxes than its reference) differ by infinity.
    """

    elements: int = 0
    equal: int = 0
    total: float = 0.0
    maximum: float = 0.0

    def add(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Count one more pair of arrays."""
        if found.shape != expected.shape:
            self.elements += max(expected.size, 1)
            self.total = self.maximum = math.inf
            return
        difference = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        self.elements += difference.size
        self.equal += int(np.count_nonzero(difference == 0))
        self.total += float(difference.sum())
        self.maximum = max(self.maximum, float(difference.max(initial=0.0)))

    @property
    def mean(self) -> float:
        """Mean absolute difference; 0 for empty tensors."""
        return self.total / self.elements if self.elements else 0.0

    @property
    def equal_fraction(self) -> float:
        """Share of equal elements; 1 for empty tensors."""
        return self.equal / self.elements if self.elements else 1.0


@dataclass(frozen=True)
class LayerReport:
    """One tensor that a step makes: where, by which operators, and how far from the reference.

    `isolated`: the step was fed from the reference. `end_to_end`: it was fed with the session's own results.
    """

    tensor: str
    operators: tuple[str, ...]
    place: str
    shape: tuple[int, ...]
    isolated: Difference = field(default_factory=Difference)
    end_to_end: Difference = field(default_factory=Difference)


@dataclass(frozen=True)
class VerifyReport:
    """All layers, and the model's outputs end to end, over `inputs` sets of inputs."""

    model: str
    inputs: int
    layers: tuple[LayerReport, ...]
    outputs: Mapping[str, Difference]
    same_top: Mapping[str, int]
    """For each output: for how many inputs the largest element of the flattened output is the same."""
    program: Program = field(repr=False)
    """What was compared."""
    note: str = ""
    """What is special about the reference; empty when it is the usual one."""

    @property
    def worst_npu_layer(self) -> float:
        """Largest isolated difference of any layer on the NPU, in steps."""
        return max((layer.isolated.maximum for layer in self.layers if layer.place == "npu"), default=0.0)


def random_inputs(program: Program, count: int, seed: int = 0) -> list[dict[str, NDArray[Any]]]:
    """`count` sets of inputs, uniform over each input's values.

    Float inputs are in [0, 1). Integers take their full range. Numbers of 32 and 64 bits without a scale are 0 or 1:
    they are indices, lengths or masks, and nearly every model takes these two.
    """
    generator = np.random.default_rng(seed)
    entries = {entry.name: entry for entry in program.tensors}
    return [{name: _random(generator, entries[name]) for name in program.inputs} for _ in range(count)]


def verify(
    model: str | Path | bytes,
    inputs: Sequence[Mapping[str, ArrayLike]] | None = None,
    *,
    target: Target = ANY,
    optimize: int = 1,
    experimental: bool = False,
    outputs: str | Collection[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> VerifyReport:
    """Compare every step with the reference on the same inputs (default: 3 random sets).

    `model` is a .tflite or .onnx file, compiled with the other arguments (see `compile_model`). Raises ModelError for a
    bad model or inputs.
    """
    file, opening = open_model(model), make_opening(input_shapes, dims, outputs)
    program = compile_file(file, Options(target=target, optimize=optimize, experimental=experimental), opening)
    graph = load_model(file, opening=opening)
    make_reference = ort.Reference if graph.format == "onnx" else litert.Reference
    reference = make_reference(graph.model, program.name)
    sets = random_inputs(program, 3) if inputs is None else [_checked(program, values) for values in inputs]
    report = _compare(program, (_expected(program, reference, values) for values in sets))
    return replace(report, note=reference.note)


def _expected(
    program: Program, reference: ort.Reference | litert.Reference, values: Mapping[str, ArrayLike]
) -> dict[str, NDArray[Any]]:
    """The reference's tensors that the program has too. The others are dropped as soon as they are computed."""
    steps = [name for step in program.steps for name in (*step.inputs, *step.outputs)]
    wanted = {*program.inputs, *program.outputs, *steps}
    parts = reference.stream([values[name] for name in program.inputs])
    return {name: value for part in parts for name, value in part.items() if name in wanted}


def verify_record(program: Program, record: Mapping[str, NDArray[Any]], cores: int = 1) -> VerifyReport:
    """Compare every step with recorded tensors ({name: array}), for instance those of the vendor's simulator.

    Steps whose tensors are not recorded are not compared. Raises ModelError when the record lacks a tensor that a step
    reads, or an array that does not fit its tensor.
    """
    return _compare(program, [record], cores)


def _compare(program: Program, references: Iterable[Mapping[str, NDArray[Any]]], cores: int = 1) -> VerifyReport:
    """Each reference holds the tensors of one run, the inputs among them."""
    shapes = {entry.name: entry.shape for entry in program.tensors}
    layers = {
        name: LayerReport(name, tuple(op.kind for op in step.operators), step.place, shapes[name])
        for step in program.steps
        for name in step.outputs
    }
    outputs = {name: Difference() for name in program.outputs}
    same_top = dict.fromkeys(program.outputs, 0)
    compared: set[str] = set()
    count = 0
    with Session(program, device="emulator", cores=cores) as session:
        for expected in references:
            count += 1
            missing = [name for name in program.inputs if name not in expected]
            if missing:
                raise ModelError(f"the reference lacks input {missing[0]!r} of {program.name}")
            isolated = session.run_isolated(expected)
            found = session.run({name: expected[name] for name in program.inputs}, fetch="all")
            for name in layers.keys() & expected.keys():
                compared.add(name)
                layers[name].isolated.add(isolated[name], expected[name])
                layers[name].end_to_end.add(found[name], expected[name])
            for name in outputs.keys() & expected.keys():
                outputs[name].add(found[name], expected[name])
                same_top[name] += int(_top(found[name]) == _top(expected[name]))
    return VerifyReport(
        program.name,
        count,
        tuple(layer for name, layer in layers.items() if name in compared),
        outputs,
        same_top,
        program,
    )


def _top(array: NDArray[Any]) -> int:
    """The place of the largest element; -1 for an empty array."""
    return int(np.argmax(array)) if array.size else -1


def _checked(program: Program, values: object) -> Mapping[str, ArrayLike]:
    names = ", ".join(map(repr, program.inputs))
    if not isinstance(values, Mapping):
        raise ModelError(f"each set of inputs is a mapping {{name: array}} of {names}, not {type(values).__name__}")
    found = cast(Mapping[str, ArrayLike], values)
    missing = [name for name in program.inputs if name not in found]
    if missing:
        raise ModelError(f"a set of inputs lacks {missing[0]!r}; the inputs of {program.name} are {names}")
    return found


def _random(generator: np.random.Generator, entry: TensorEntry) -> NDArray[Any]:
    kind = np.dtype(entry.dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        low, high = (0, 1) if kind.itemsize >= INDEX_BYTES and not entry.scales else (limits.min, limits.max)
        return generator.integers(low, high, entry.shape, dtype=kind, endpoint=True)
    return generator.random(entry.shape).astype(kind)
