"""What a compiled model is: memory segments, register command lists, steps and the tensor table.

A Program is position independent: command words that hold an address are listed in `relocations`, and a device adds
its own base addresses when it loads the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from rocketnpu.saving import write_whole

COMMANDS = "commands"
"""Name of the segment that holds the register command lists: little-endian 64-bit words."""

Target: TypeAlias = Literal["any", "rocket", "rknpu"]
"""The driver that a program is made for, by its name; "any": it runs through either."""
TARGETS: tuple[Target, ...] = get_args(Target)
ANY, ROCKET, RKNPU = TARGETS


@dataclass(frozen=True)
class Segment:
    """A contiguous range of device memory; `data` is None for memory that starts out undefined (activations)."""

    name: str
    size_bytes: int
    data: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Relocation:
    """The value of command word `word` (index into the commands segment) is base(segment) + addend_bytes."""

    word: int
    segment: str
    addend_bytes: int


@dataclass(frozen=True)
class Task:
    """One register command list: `body_entries` words at `first_word`, then the four trailer words."""

    name: str
    first_word: int
    body_entries: int
    enable_mask: int
    interrupt_mask: int


@dataclass(frozen=True)
class Cube:
    """Where a tensor lives on the device: a feature cube (hardware/layouts.md) or, if `dense`, row-major bytes.

    A dense image has `row_pitch_pixels` pixels of `channels` elements a row. The element size follows from the
    tensor's dtype.
    """

    segment: str
    offset_bytes: int
    height: int
    width: int
    channels: int
    pitch_atoms: int
    dense: bool = False
    row_pitch_pixels: int = 0


@dataclass(frozen=True)
class TensorEntry:
    """One tensor of the user's model: its own dtype, shape and layout, and its place on the device if it has one.

    The device holds int8; a uint8 tensor is stored as value - 128. `layout` says which of the user's dimensions, of any
    number, is the channel on the device: the last one (NHWC) or the second (NCHW).
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int | None = None
    layout: Literal["NHWC", "NCHW"] = "NHWC"
    cube: Cube | None = None


@dataclass(frozen=True)
class OperatorEntry:
    """An operator of the user's model: name, kind in the model's own words, and why it is on the CPU if it is.

    `macs` are its multiply-accumulate operations in one inference (compiler/macs.py); None where the program does not
    say: those of the vendor, and of .rnpu files before version 3.
    """

    name: str
    kind: str
    reason: str | None = None
    macs: int | None = None


@dataclass(frozen=True)
class NpuStep:
    """Operators that one unbroken run of tasks computes.

    `tasks[n]` serves n cores: a sequence of segments that follow one another; a segment has one list of task
    indices for each core, which run at the same time. `kicks[n]` numbers these segments, if given: those of equal
    number in neighbouring steps may run as one, each core going on from list to list (program/schedule.py).
    """

    name: str
    operators: tuple[OperatorEntry, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tasks: Mapping[int, tuple[tuple[tuple[int, ...], ...], ...]]
    place: Literal["npu"] = "npu"
    kicks: Mapping[int, tuple[int, ...]] = field(default_factory=dict[int, tuple[int, ...]])


@dataclass(frozen=True)
class CpuStep:
    """Operators that `runtime` runs: `model` is a TFLite or ONNX file of just these operators."""

    name: str
    operators: tuple[OperatorEntry, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    model: bytes = field(repr=False)
    place: Literal["cpu"] = "cpu"
    runtime: Literal["litert", "onnxruntime"] = "litert"


Step: TypeAlias = NpuStep | CpuStep


@dataclass(frozen=True)
class Placement:
    """How much of a model runs on the NPU: operators, and MACs of one inference (None where they are not known)."""

    npu_operators: int
    operators: int
    npu_macs: int | None
    macs: int | None

    @property
    def npu_percent(self) -> float:
        """The share of the MACs that the NPU takes; of the operators where no operator has MACs."""
        part, whole = (self.npu_macs, self.macs) if self.macs else (self.npu_operators, self.operators)
        return 100.0 * (part or 0) / whole if whole else 0.0


@dataclass(frozen=True, repr=False)
class Program:
    """A compiled model, ready for any device."""

    name: str
    segments: tuple[Segment, ...]
    relocations: tuple[Relocation, ...]
    tasks: tuple[Task, ...]
    steps: tuple[Step, ...]
    tensors: tuple[TensorEntry, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dissolved: Mapping[str, str] = field(default_factory=dict[str, str])
    """Tensors that fusion removed, with the step that absorbed each."""
    target: Target = ANY
    """The driver that it is made for."""
    notes: tuple[str, ...] = ()
    """Sentences for the user on what was decided when the model was opened and compiled."""

    @property
    def placement(self) -> Placement:
        """How much of the model runs on the NPU."""
        operators = [(step.place == "npu", operator) for step in self.steps for operator in step.operators]
        known = all(operator.macs is not None for _, operator in operators)
        return Placement(
            npu_operators=sum(on_npu for on_npu, _ in operators),
            operators=len(operators),
            npu_macs=sum(operator.macs or 0 for on_npu, operator in operators if on_npu) if known else None,
            macs=sum(operator.macs or 0 for _, operator in operators) if known else None,
        )

    def save(self, path: str | Path) -> None:
        """Write the program as a .rnpu file, which `rocketnpu.load` reads. Raises OSError; an older file then stays."""
        from rocketnpu.program.container import encode_program  # which imports this module

        write_whole(path, encode_program(self))

    def __repr__(self) -> str:
        sizes = f"{len(self.steps)} steps, {len(self.tasks)} tasks, {len(self.tensors)} tensors"
        return f"<Program {self.name}: {sizes}, {sum(item.size_bytes for item in self.segments)} bytes of memory>"
