"""Bytes that change their place or only their name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from rocketnpu.compiler.npu_ops.cube import CubeShape
from rocketnpu.hw.layouts import ATOM_BYTES


@dataclass(frozen=True)
class Move:
    """Bytes of one cube, or the larger ones of two cubes, into another cube.

    In every plane, `height` x `width` consecutive pixels from `first_start` on, and from `second_start` on if there is
    a second cube, become rows of `width` pixels in the output, which start at `output_start` and lie `row_step` pixels
    apart. Starts are pixels counted through all planes: plane * pixels + row * width + column.
    `images` of equal height are stacked in each cube. The move is done in each of them: `height` rows and starts are
    those in the first one.
    """

    first: str
    second: str | None
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    height: int
    width: int
    channels: int
    row_step: int
    first_start: int = 0
    second_start: int = 0
    output_start: int = 0
    images: int = 1

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.first,) if self.second is None else (self.first, self.second)

    def rows(self, start: int, stop: int) -> Iterator[Move]:
        """The moves, each in one image, of the rows from `start` to before `stop`, counted through all images."""
        while start < stop:
            image, row = divmod(start, self.height)
            count = min(stop - start, self.height - row)
            read = image * self.input_shape.pixels // self.images + row * self.width
            written = image * self.output_shape.pixels // self.images + row * self.row_step
            yield replace(self.further(read, written), height=count, images=1)
            start += count

    def further(self, read: int, written: int) -> Move:
        """The same move from so many pixels further on."""
        return replace(
            self,
            first_start=self.first_start + read,
            second_start=self.second_start + read,
            output_start=self.output_start + written,
        )


@dataclass(frozen=True)
class Upsample:
    """Nearest neighbours by two: output pixel (y, x) is input pixel (y / 2, x / 2)."""

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)


@dataclass(frozen=True)
class Alias:
    """A tensor whose bytes on the device are those of another, from plane `first_plane` on: a reshape that keeps pixels
    and channels, or a range of channels."""

    input: str
    output: str
    output_shape: CubeShape
    first_plane: int = 0

    @property
    def offset_bytes(self) -> int:
        """From the first byte of the tensor read to that of this one."""
        return self.first_plane * self.output_shape.pixels * ATOM_BYTES

    @property
    def input_shape(self) -> CubeShape:
        """A shape with the same pixels and channels as the tensor read."""
        return self.output_shape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)


@dataclass(frozen=True)
class Part:
    """A tensor that lies inside another one, from plane `first_plane` on, as soon as it is made: concatenation."""

    input: str
    output: str
    input_shape: CubeShape
    output_shape: CubeShape
    first_plane: int

    @property
    def offset_bytes(self) -> int:
        """From the first byte of the whole to that of the part."""
        return self.first_plane * self.output_shape.pixels * ATOM_BYTES

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)
