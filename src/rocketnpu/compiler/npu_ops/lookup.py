"""Functions of one byte: the load of a table, and the lookup in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compiler.npu_ops.cube import CubeShape
from rocketnpu.hw.limits import CORES


@dataclass(frozen=True, eq=False)
class TableLoad:
    """Loads the lookup table, int8 (256,): results of -128..127.

    `output` is scratch without meaning, 16 bytes for each core.
    """

    output: str
    table: NDArray[np.int8]

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read: none."""
        return ()

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the scratch."""
        return CubeShape(1, CORES, 1)

    @property
    def output_shape(self) -> CubeShape:
        """Shape of the scratch."""
        return CubeShape(1, CORES, 1)


@dataclass(frozen=True)
class Lookup:
    """A cube through the table loaded just before, byte by byte."""

    input: str
    output: str
    output_shape: CubeShape

    @property
    def inputs(self) -> tuple[str, ...]:
        """Tensors read."""
        return (self.input,)

    @property
    def input_shape(self) -> CubeShape:
        """Shape of the tensor read."""
        return self.output_shape
