"""Tensors between the user's layout and the device's: arrays with channels last or first to feature cubes and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.hw.layouts import DenseImage, FeatureCube
from rocketnpu.program.model import Cube, TensorEntry

SIGN_BIT = np.uint8(0x80)
"""A uint8 tensor is stored as value - 128, which flips the top bit."""


class TensorPort:
    """Moves one tensor between host arrays and its place in a segment's bytes, from `start` to `stop`."""

    def __init__(self, entry: TensorEntry, cube: Cube, segment: NDArray[np.uint8]):
        self.entry = entry
        self._dtype = np.dtype(entry.dtype)
        self._memory = segment[cube.offset_bytes :]
        self._image = (cube.height, cube.width, cube.channels)
        self._layout: FeatureCube | DenseImage
        if cube.dense:
            self._layout = DenseImage(cube.height, cube.width, cube.channels, cube.row_pitch_pixels)
            size = self._layout.size_bytes
        else:
            self._layout = FeatureCube(cube.height, cube.width, cube.channels, cube.pitch_atoms, self._dtype.itemsize)
            size = self._layout.span_bytes
        self.start, self.stop = cube.offset_bytes, cube.offset_bytes + size
        self._flips_sign = self._dtype == np.uint8
        # Kept, as fresh pages for every frame would cost more than the flip.
        self._flipped = np.empty(self._image if self._flips_sign else 0, np.uint8)

    def write(self, array: NDArray[Any]) -> None:
        """Store an array of the tensor's shape and dtype on the device."""
        image = self._to_image(array)
        if self._flips_sign:
            np.bitwise_xor(image, SIGN_BIT, out=self._flipped)
            image = self._flipped.view(np.int8)
        self._layout.pack_into(image, self._memory)

    def read(self) -> NDArray[Any]:
        """A new array of the tensor's shape and dtype from the device."""
        image = np.empty(self._image, np.int8 if self._flips_sign else self._dtype)
        self._layout.unpack_into(self._memory, image)
        if self._flips_sign:
            image = image.view(np.uint8)
            np.bitwise_xor(image, SIGN_BIT, out=image)
        return self._from_image(image)

    def _to_image(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.entry.layout == "NCHW":
            array = np.ascontiguousarray(np.moveaxis(array, 1, -1))
        return array.reshape(self._image)

    def _from_image(self, image: NDArray[Any]) -> NDArray[Any]:
        if self.entry.layout == "NCHW":
            batch, channels, *sizes = self.entry.shape
            return np.ascontiguousarray(np.moveaxis(image.reshape(batch, *sizes, channels), -1, 1))
        return image.reshape(self.entry.shape)
