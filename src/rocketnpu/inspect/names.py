"""Places on the device in the words of the model: which tensor, and where in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.inspect.spans import Spans, runs
from rocketnpu.inspect.view import Place
from rocketnpu.program.model import Cube, Program, TensorEntry


@dataclass(frozen=True, eq=False)
class PlacedTensor:
    """A tensor of the table with its place; `spans` are its bytes in the cube's segment."""

    entry: TensorEntry
    cube: Cube
    spans: Spans

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.entry.name


def placed_tensors(program: Program) -> dict[str, PlacedTensor]:
    """All tensors that have a place on the device, by name."""
    return {
        entry.name: PlacedTensor(entry, entry.cube, _spans(entry, entry.cube))
        for entry in program.tensors
        if entry.cube is not None
    }


def shorten(name: str, longest: int) -> str:
    """`name`, or its end behind three dots: `longest` characters."""
    return name if len(name) <= longest else "..." + name[3 - longest :]


class Names:
    """Describes places of one program; names longer than `longest` characters lose their beginning."""

    def __init__(self, program: Program, longest: int | None = None) -> None:
        self._tensors = placed_tensors(program)
        self._longest = longest

    def shorten(self, name: str) -> str:
        """`name`, or its end behind three dots."""
        return name if self._longest is None else shorten(name, self._longest)

    def describe(self, place: Place, preferred: Sequence[str] = ()) -> str:
        """`tensor`, `tensor[y=2, x=1, c=16]`, `tensor+0x8` or `segment+0x40`.

        Places are reused: of several tensors that hold the byte, the first of `preferred` wins.
        """
        holders = {name: tensor for name, tensor in self._tensors.items() if _holds(tensor, place)}
        chosen = next((holders[name] for name in (*preferred, *holders) if name in holders), None)
        if chosen is None:
            return f"{place.segment}+{place.offset_bytes:#x}"
        return self.shorten(chosen.name) + _position(chosen, place.offset_bytes - chosen.cube.offset_bytes)


def _holds(tensor: PlacedTensor, place: Place) -> bool:
    span = tensor.spans
    if tensor.cube.segment != place.segment or not len(span):
        return False
    return bool(span[0, 0] <= place.offset_bytes < span[-1, 1])


def _position(tensor: PlacedTensor, offset_bytes: int) -> str:
    cube, item = tensor.cube, np.dtype(tensor.entry.dtype).itemsize
    if not offset_bytes:
        return ""
    if cube.dense:
        pixel, rest = divmod(offset_bytes, cube.channels * item)
        y, x = divmod(pixel, cube.row_pitch_pixels)
        channel = rest // item
    else:
        atom, rest = divmod(offset_bytes, ATOM_BYTES)
        plane, pixel = divmod(atom, cube.pitch_atoms) if cube.channels * item > ATOM_BYTES else (0, atom)
        y, x = divmod(pixel, cube.width)
        channel = plane * (ATOM_BYTES // item)
    if rest or y >= cube.height or x >= cube.width or channel >= cube.channels:
        return f"+{offset_bytes:#x}"
    parts = [f"{axis}={index}" for axis, index in (("y", y), ("x", x), ("c", channel)) if index]
    return f"[{', '.join(parts)}]"


def _spans(entry: TensorEntry, cube: Cube) -> Spans:
    item = np.dtype(entry.dtype).itemsize
    if cube.dense:
        starts = np.arange(cube.height, dtype=np.int64) * (cube.row_pitch_pixels * cube.channels * item)
        return runs(starts + cube.offset_bytes, cube.width * cube.channels * item)
    planes = -(-cube.channels * item // ATOM_BYTES)
    starts = np.arange(planes, dtype=np.int64) * (cube.pitch_atoms * ATOM_BYTES)
    return runs(starts + cube.offset_bytes, cube.height * cube.width * ATOM_BYTES)
