"""Compiled models against LiteRT's reference kernels: every byte within 1, legal registers, intact memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.cpu.litert import Reference
from rocketnpu.cpu.onnxruntime import Reference as OnnxReference
from rocketnpu.frontends import load_model
from rocketnpu.program.model import Program
from support.models import ModelBuilder
from support.traffic import replay, violations

Tensors = dict[str, NDArray[Any]]

TOLERANCE = 1
"""Steps between two correct roundings of one real value (hardware/dpu.md, requantization: silicon differs by 1)."""

CORES = (1, 2, 3)
TFLITE = b"TFL3"
"""What identifies a TFLite file, from its fifth byte on."""

UNEQUAL_PER_LAYER = 0.0005
"""Share of bytes of a per-tensor layer that may be 1 apart. The gain is exact to 2^-24, so that next to nothing but
exact ties of TFLite's first rounding, which chip and reference break in different ways, can differ; half a permille
allows for small tensors, of which one byte is more."""


@dataclass(frozen=True)
class Agreement:
    """One model's run: where operators ran, and all differences to the reference, each step fed from the reference."""

    program: Program
    found: Tensors
    expected: Tensors

    @property
    def unequal(self) -> float:
        """Share of elements of tensors made on the NPU that differ."""
        pairs = [(self.found[name], self.expected[name]) for name in self.npu_tensors]
        return sum(int((a != b).sum()) for a, b in pairs) / max(1, sum(a.size for a, _ in pairs))

    @property
    def npu_tensors(self) -> list[str]:
        """Outputs of the steps on the NPU."""
        return [name for step in self.program.steps if step.place == "npu" for name in step.outputs]

    def reasons(self) -> dict[str, str]:
        """Kinds on the CPU, with the constraint that put each there."""
        return {op.kind: op.reason or "" for step in self.program.steps for op in step.operators if step.place == "cpu"}


def agreement(
    model: bytes, inputs: Sequence[NDArray[Any]], keep: Collection[str] = (), *, experimental: bool = False
) -> Agreement:
    """Compile and run a model; fails on an illegal task, a memory conflict, or a byte further than 1 from LiteRT."""
    program = rn.compile(model, keep=keep, experimental=experimental)
    expected = Reference(model).tensors(inputs)
    assert_sound(program)
    with rn.Session(program, device="emulator") as session:
        found = session.run_isolated(expected)
    assert_close(found, expected)
    return Agreement(program, found, expected)


def proven(
    model: bytes, inputs: Sequence[NDArray[Any]], unmet: str | None = None, *, or_on_npu: bool = False
) -> Agreement:
    """Compile a model for three cores and run it on one, two and three; each step is fed from the reference.

    Fails on an illegal task, a memory conflict, a byte further than 1 from the reference (LiteRT's kernels or ONNX
    Runtime's) or another one on two or three cores than on one, and on an operator that is not on the NPU: all must
    be, but where `unmet` is the one constraint that keeps operators off it. With `or_on_npu` they may be there all the
    same: of several images, each one may fulfil a constraint that all together do not.
    """
    program = rn.compile(model, cores=CORES[-1])
    expected = (Reference(model) if model[4:8] == TFLITE else OnnxReference(load_model(model).model)).tensors(inputs)
    assert_sound(program)
    found: list[Tensors] = []
    for cores in CORES:
        with rn.Session(program, device="emulator", cores=cores) as session:
            found.append(session.run_isolated(expected))
    assert_close(found[0], expected)
    for cores, other in zip(CORES[1:], found[1:], strict=True):
        for name, values in other.items():
            unequal = int((values != found[0][name]).sum())
            assert not unequal, f"{name}: {unequal} bytes on {cores} cores are not those on one"
    result = Agreement(program, found[0], expected)
    reasons = set(result.reasons().values())
    wanted = set() if unmet is None or (or_on_npu and not reasons) else {unmet}
    assert reasons == wanted, f"on the CPU: {result.reasons()}, expected for: {unmet}"
    return result


def assert_sound(program: Program) -> None:
    """No task breaks a rule of what must not be programmed, and no tensor is overwritten while it is needed."""
    broken = violations(program)
    assert not broken, f"{program.name}: " + "; ".join(map(str, broken[:3]))
    replay(program)


def assert_close(found: Tensors, expected: Tensors, tolerance: float = TOLERANCE) -> None:
    """Every element of every tensor of `found` is within `tolerance` steps of the reference."""
    for name, values in found.items():
        reference = expected[name]
        assert values.dtype == reference.dtype, f"{name} is {values.dtype}, the reference {reference.dtype}"
        assert values.shape == reference.shape, f"{name} is {values.shape}, the reference {reference.shape}"
        difference = np.abs(values.astype(np.float64) - reference.astype(np.float64))
        if difference.size and difference.max() > tolerance:
            where = np.unravel_index(int(difference.argmax()), difference.shape)
            count = int((difference > tolerance).sum())
            raise AssertionError(
                f"{name}{list(map(int, where))} is {values[where]}, the reference {reference[where]}; "
                f"{count} of {difference.size} are more than {tolerance:g} apart"
            )


def run_on_npu(model: ModelBuilder, *outputs: str, keep: Collection[str] = (), experimental: bool = False) -> Agreement:
    """`agreement` on noise, and nothing may have stayed on the CPU."""
    result = agreement(model.build(*outputs), model.random_inputs(), keep, experimental=experimental)
    assert not result.reasons(), f"on the CPU: {result.reasons()}"
    return result


def reason_on_cpu(model: ModelBuilder, *outputs: str) -> str:
    """The constraint that keeps the model's only operator off the NPU; its result must be LiteRT's all the same."""
    result = agreement(model.build(*outputs), model.random_inputs())
    reasons = result.reasons()
    assert len(reasons) == 1, f"expected one operator on the CPU, found {reasons}"
    return next(iter(reasons.values()))


def assert_mostly_equal(results: Iterable[Agreement], unequal: float = UNEQUAL_PER_LAYER) -> None:
    """Each per-tensor result differs in no more than this share of its bytes."""
    for result in results:
        assert result.unequal <= unequal, f"{result.npu_tensors}: {result.unequal:.4%} of bytes differ"
