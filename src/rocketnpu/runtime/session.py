"""A Session: one program on one device, from the user's arrays to the user's arrays."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.compiler import Options
from rocketnpu.cpu.litert import check_input
from rocketnpu.errors import CompileError, DeviceError, DeviceTimeout, ModelError, counted
from rocketnpu.frontends.opening import make_opening
from rocketnpu.ir import Quantization, Tensor
from rocketnpu.program.model import CpuStep, NpuStep, Program, Step, TensorEntry
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.devices import find_device, open_device, target_of
from rocketnpu.runtime.lanes import CLOSED, Lane, Lanes
from rocketnpu.runtime.load import check_not_opened, load_program
from rocketnpu.runtime.pieces import StatefulPieces, made_inside, run_piece

Arrays: TypeAlias = dict[str, NDArray[Any]]
Inputs: TypeAlias = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]
ALL = "all"

MOST_FRAMES = 6
"""Frames under way: two for each of three cores."""


@dataclass(frozen=True, eq=False)
class TensorInfo:
    """An input or output: its name, shape, dtype and grid (None when it is not quantized).

    A size that is not known before the run is -1, for instance how many boxes a detector finds; the shape (-1,) also
    stands for one of which not even the number of dimensions is known.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    quantization: Quantization | None


class Frame:
    """A frame that `Session.submit` has started."""

    def __init__(self, future: Future[Arrays]):
        self._future = future

    @property
    def done(self) -> bool:
        """Whether `wait` would return, or raise, at once."""
        return self._future.done()

    def wait(self, seconds: float | None = None) -> Arrays:
        """The frame's outputs, as `Session.run` returns them. Raises what went wrong.

        After `seconds` without an answer it raises DeviceTimeout; the frame goes on and may be waited for again.
        """
        try:
            return self._future.result(seconds)
        except FutureTimeout:
            raise DeviceTimeout(f"the frame is not done after {seconds:g} s; wait again") from None


class Session:
    """Runs a model on a device. Safe in threads: each frame under way has its own activations, or waits for them.

    A model that keeps state (LSTM, variables) goes on from frame to frame, in the order in which they were started.
    """

    def __init__(
        self,
        model: Program | str | Path | bytes,
        device: str | Device = "auto",
        *,
        cores: int = 1,
        fetch: str | Collection[str] = (),
        outputs: str | Collection[str] = (),
        input_shapes: Mapping[str, Sequence[int]] | None = None,
        dims: Mapping[str, int] | None = None,
    ):
        """`model` is a Program or what `load_program` takes; a model is compiled for the device and for `cores` cores.

        `device` is "auto" (the board's NPU where there is one, else the emulator), "emulator", "rocket", "rknpu", or a
        Device, which the session leaves open.

        `fetch` names tensors that later runs will ask for ("all": any), so that no fusion dissolves them; it has no
        effect on a model that is already compiled, which must have them. `cores` is how many cores one run uses.
        `outputs`, `input_shapes` and `dims` say how a model is opened, as for `rocketnpu.compile`.
        Raises ModelError or CompileError; DeviceError too for a program whose target is another driver's.
        """
        _check_arguments(device, cores, fetch)
        opening = make_opening(input_shapes, dims, outputs)
        if isinstance(model, Program):
            check_not_opened(opening, model.name)
            program = model
        else:
            name = find_device(device).name if isinstance(device, str) else device.name
            program = load_program(model, Options(cores, fetch, target_of(name)), opening)
        if fetch != ALL:
            _check_fetch(program, (fetch,) if isinstance(fetch, str) else fetch)
        self._owns_device = isinstance(device, str)
        self._device = open_device(device, program) if isinstance(device, str) else device
        try:
            self._program = self._device.adapt(program)
            self._lanes = Lanes(self._program, self._device, cores)
        except BaseException:
            if self._owns_device:
                self._device.close()
            raise
        self._entries = {entry.name: entry for entry in self._program.tensors}
        self._state, self._isolated_state = StatefulPieces(), StatefulPieces()
        self._workers = ThreadPoolExecutor(MOST_FRAMES, thread_name_prefix="rocketnpu-frame")
        self._process = os.getpid()
        self._closed = False
        self._closing = threading.Lock()

    @property
    def program(self) -> Program:
        """The program that runs, in the form that the device takes."""
        return self._program

    @property
    def device(self) -> Device:
        """The device that it runs on."""
        return self._device

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """What `run` takes, in order."""
        return tuple(_info(self._entries[name]) for name in self._program.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """What `run` gives."""
        return tuple(_info(self._entries[name]) for name in self._program.outputs)

    @property
    def tensors(self) -> tuple[TensorInfo, ...]:
        """Every tensor that goes in or out of a step."""
        return tuple(_info(entry) for entry in self._program.tensors)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What runs where: each step's name, place ("npu" or "cpu"), operators, inputs and outputs.

        An operator on the CPU has the constraint that put it there as its `reason`.
        """
        return self._program.steps

    def run(self, x: Inputs, fetch: str | Collection[str] = ()) -> Arrays:
        """Run the model once.

        `x` is one array, a sequence in the order of `inputs`, or a mapping by name; shapes and dtypes must be the
        model's own. `fetch` names further tensors to return ("all": every one that some step makes). Returns {name:
        array}: the outputs in the model's order, then the others.
        Raises ModelError for bad inputs or unknown names, CompileError for a tensor that fusion has dissolved, and
        DeviceError when the device fails.
        """
        self._check_open()
        values, extra = self._named_inputs(x), self._fetched(fetch)
        with self._lanes.take() as lane:
            return self._run_frame(lane, self._state.begin(), values, extra)

    def submit(self, x: Inputs, fetch: str | Collection[str] = ()) -> Frame:
        """Start what `run` does and return at once; `wait` of the result gives the outputs.

        The inputs are copied. Up to three frames run at the same time on a board, one for each core, while the host
        packs further ones; with as many frames under way as the device allows, `submit` waits for one to be done.
        Raises what `run` raises for bad inputs; what goes wrong on the device is raised by `wait`.
        """
        self._check_open()
        values = {name: value.copy() for name, value in self._named_inputs(x).items()}
        extra = self._fetched(fetch)
        lane = self._lanes.acquire()
        frame = self._state.begin()
        try:
            return Frame(self._workers.submit(self._run_and_give_back, lane, frame, values, extra))
        except BaseException:
            self._state.end(frame)
            self._lanes.give_back(lane)
            raise

    def run_isolated(self, reference: Mapping[str, ArrayLike]) -> Arrays:
        """Run every step on inputs taken from `reference` ({tensor: array}), so that errors don't accumulate.

        Returns the outputs of all steps by name. Steps that keep state have one of their own here, which goes on from
        call to call. Raises ModelError when a tensor that a step reads is missing.
        """
        self._check_open()
        results: Arrays = {}
        with self._lanes.take() as lane:
            for step in self._program.steps:
                values = {name: self._from_reference(reference, step, name) for name in step.inputs}
                if isinstance(step, NpuStep):
                    self._run_on_npu(lane, [step], values, step.outputs)
                else:
                    piece = self._isolated_state.piece(step, lane.pieces)
                    values.update(run_piece(piece, step, values, (), self._entries))
                results.update({name: values[name] for name in step.outputs})
        return results

    def reset_state(self) -> None:
        """Let frames that start from now on begin with the state that the model starts from.

        Frames under way go on with the state they have. A model without state is not changed.
        """
        self._check_open()
        names = [step.name for step in self._program.steps if isinstance(step, CpuStep)]
        self._state.reset(names)
        self._isolated_state.reset(names)

    def close(self) -> None:
        """Wait for the frames under way, then release the device if this session opened it; twice is harmless."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
            if os.getpid() != self._process:
                return  # a forked child: all this belongs to the parent
            self._lanes.close(keep_first_device=not self._owns_device)
            self._workers.shutdown()

    def __repr__(self) -> str:
        state = ", closed" if self._closed else ""
        return f"<Session of {self._program.name} on {self._device.name}: {len(self._program.steps)} steps{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise DeviceError(CLOSED)
        if os.getpid() != self._process:
            raise DeviceError("the session was made before this process was forked; make a new one in the child")

    def _run_and_give_back(self, lane: Lane, frame: int, values: Arrays, extra: Collection[str]) -> Arrays:
        try:
            return self._run_frame(lane, frame, values, extra)
        finally:
            self._lanes.give_back(lane)

    def _run_frame(self, lane: Lane, frame: int, values: Arrays, extra: Collection[str]) -> Arrays:
        """One frame from checked inputs to outputs and the tensors of `extra`; `frame` is its number, which ends."""
        try:
            return self._run_steps(lane, frame, values, extra)
        finally:
            self._state.end(frame)

    def _run_steps(self, lane: Lane, frame: int, values: Arrays, extra: Collection[str]) -> Arrays:
        inner = [name for name in extra if name not in self._entries]
        for on_npu, group in groupby(self._program.steps, key=lambda step: isinstance(step, NpuStep)):
            steps = list(group)
            if on_npu:
                self._run_on_npu(lane, [step for step in steps if isinstance(step, NpuStep)], values, extra)
            else:
                for step in steps:
                    assert isinstance(step, CpuStep)
                    values.update(self._run_on_cpu(lane, frame, step, values, inner))
        return {name: values[name] for name in dict.fromkeys((*self._program.outputs, *extra))}

    def _named_inputs(self, x: Inputs) -> Arrays:
        names = self._program.inputs
        if cast(object, x) is None:
            raise ModelError(f"no input was given; the model's inputs are {_quoted(names)}")
        if isinstance(x, Mapping):
            unknown = [name for name in x if name not in names]
            missing = [name for name in names if name not in x]
            if unknown or missing:
                problem = f"{unknown[0]!r} is not one" if unknown else f"{missing[0]!r} is missing"
                raise ModelError(f"the model's inputs are {_quoted(names)}; {problem}")
            given: list[Any] = [x[name] for name in names]
        elif isinstance(x, (list, tuple)) and _holds_arrays(cast(Sequence[Any], x), len(names)):
            given = list(cast(Sequence[Any], x))
        else:
            given = [x]
        if len(given) != len(names):
            inputs = counted(len(names), "input")
            raise ModelError(f"the model has {inputs} ({_quoted(names)}); {len(given)} were given")
        return {
            name: check_input(_tensor(self._entries[name]), value) for name, value in zip(names, given, strict=True)
        }

    def _fetched(self, fetch: str | Collection[str]) -> tuple[str, ...]:
        """The tensors to return besides the outputs; checked."""
        if fetch == ALL:
            return tuple(name for step in self._program.steps for name in step.outputs)
        _check_names(fetch)
        names = (fetch,) if isinstance(fetch, str) else tuple(fetch)
        _check_fetch(self._program, names)
        return names

    def _run_on_npu(self, lane: Lane, steps: Sequence[NpuStep], values: Arrays, extra: Collection[str]) -> None:
        """Run consecutive steps; those that make a tensor of `extra` end a submission, so that it can be read."""
        made = {name for step in steps for name in step.outputs}
        read = dict.fromkeys(name for step in steps for name in step.inputs if name not in made)
        # A tensor may lie inside another one, and share its last atoms: the larger one is written last.
        for name in sorted(read, key=lambda name: math.prod(self._entries[name].shape)):
            if name in values:  # else an earlier run of steps left it on the device
                lane.loaded.write(name, check_input(_tensor(self._entries[name]), values[name]))
        for part in _split_after(steps, extra):
            lane.loaded.run(part)
            for name in (name for name in part[-1].outputs if name in extra):
                values[name] = lane.loaded.read(name)
        for name in made & self._read_by_host - values.keys():
            values[name] = lane.loaded.read(name)

    @property
    def _read_by_host(self) -> set[str]:
        cpu_inputs = (name for step in self._program.steps if isinstance(step, CpuStep) for name in step.inputs)
        return {*self._program.outputs, *cpu_inputs}

    def _run_on_cpu(self, lane: Lane, frame: int, step: CpuStep, values: Arrays, inner: Collection[str]) -> Arrays:
        piece = self._state.piece(step, lane.pieces)
        if not piece.keeps_state:
            return run_piece(piece, step, values, inner, self._entries)
        with self._state.turn(frame, step.name):
            return run_piece(piece, step, values, inner, self._entries)

    def _from_reference(self, reference: Mapping[str, ArrayLike], step: Step, name: str) -> NDArray[Any]:
        if name not in reference:
            raise ModelError(f"the reference lacks tensor {name!r}, which step {step.name!r} reads")
        return check_input(_tensor(self._entries[name]), reference[name])


def _check_arguments(device: object, cores: object, fetch: object) -> None:
    """Raise ModelError or DeviceError for an argument of a foreign type, in programs without a type checker."""
    if not isinstance(device, str) and not callable(getattr(device, "submit", None)):
        names = "'auto', 'emulator', 'rocket' or 'rknpu'"
        raise DeviceError(f"device is {names}, or a Device, not {device!r}")
    if not isinstance(cores, int | np.integer):
        raise DeviceError(f"cores is a whole number, not {cores!r}")
    _check_names(fetch)


def _check_names(fetch: object) -> None:
    if not isinstance(fetch, Collection) or not all(isinstance(name, str) for name in cast(Collection[object], fetch)):
        raise ModelError(f"fetch is the name of a tensor, a collection of names, or {ALL!r}, not {fetch!r}")


def _check_fetch(program: Program, names: Collection[str]) -> None:
    """Raise CompileError for a tensor that fusion has dissolved, ModelError for one that the program never had."""
    for name in names:
        if name in program.dissolved:
            raise CompileError(
                f"tensor {name!r} does not exist at run time: step {program.dissolved[name]!r} absorbed it; "
                f"compile with keep=[{name!r}], or make the Session with fetch=[{name!r}]"
            )
        known = any(name == entry.name for entry in program.tensors)
        if not known and not any(name in made_inside(step) for step in program.steps):
            raise ModelError(f"the model has no tensor {name!r} that can be fetched")


def _holds_arrays(values: Sequence[Any], inputs: int) -> bool:
    """Whether a list is one array for each input, and not the nested numbers of a single one."""
    return inputs != 1 or (len(values) == 1 and isinstance(values[0], np.ndarray))


def _info(entry: TensorEntry) -> TensorInfo:
    return TensorInfo(entry.name, entry.shape, np.dtype(entry.dtype), _quantization(entry))


def _quantization(entry: TensorEntry) -> Quantization | None:
    if not entry.scales:
        return None
    return Quantization(np.array(entry.scales), np.array(entry.zero_points, np.int64), entry.axis)


def _tensor(entry: TensorEntry) -> Tensor:
    return Tensor(entry.name, entry.shape, np.dtype(entry.dtype), _quantization(entry))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))


def _split_after(steps: Sequence[NpuStep], names: Collection[str]) -> Iterator[list[NpuStep]]:
    """The steps in runs that end with a step that makes one of `names`, or at the end."""
    run: list[NpuStep] = []
    for step in steps:
        run.append(step)
        if any(name in names for name in step.outputs):
            yield run
            run = []
    if run:
        yield run
