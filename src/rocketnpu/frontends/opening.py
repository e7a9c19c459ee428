"""What a caller may say about a model when it is opened: sizes that the file leaves free, and where the model ends."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np

from rocketnpu.errors import ModelError

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Opening:
    """How to open a model; empty fields leave it as the file has it.

    input_shapes: the shape of an input, by its name.
    dims: the size that stands for a symbol, wherever the file's inputs have it (ONNX).
    outputs: the tensors that the model ends at, in this order. What only later operators need is left out.
    """

    input_shapes: Mapping[str, Shape] = field(default_factory=dict[str, Shape])
    dims: Mapping[str, int] = field(default_factory=dict[str, int])
    outputs: tuple[str, ...] = ()

    @property
    def given(self) -> tuple[str, ...]:
        """The names of the fields that are not empty."""
        return tuple(name for name, value in vars(self).items() if value)


AS_IT_IS = Opening()
"""A model is opened as its file has it."""


def make_opening(
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    outputs: str | Collection[str] = (),
) -> Opening:
    """An `Opening` of a caller's arguments. Raises ModelError for values of other types, and for sizes below 1."""
    shapes = _mapping(input_shapes, "input_shapes is {input name: shape}")
    sizes = _mapping(dims, "dims is {symbol: size}")
    return Opening(
        {name: _shape(name, shape) for name, shape in shapes.items()},
        {name: _size(size, f"the size of {name!r} in dims") for name, size in sizes.items()},
        _names(outputs),
    )


def _mapping(given: object, what: str) -> dict[str, Any]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        found = cast(Mapping[Any, Any], given)
        if all(isinstance(name, str) for name in found):
            return dict(found)
    raise ModelError(f"{what}, not {given!r}")


def _shape(name: str, shape: object) -> Shape:
    if not isinstance(shape, Sequence) or isinstance(shape, str | bytes):
        raise ModelError(f"the shape of {name!r} in input_shapes is a sequence of sizes, not {shape!r}")
    return tuple(_size(size, f"a size of {name!r} in input_shapes") for size in cast(Sequence[object], shape))


def _size(size: object, what: str) -> int:
    number = int(cast(int, size)) if isinstance(size, int | np.integer) and not isinstance(size, bool) else 0
    if number < 1:
        raise ModelError(f"{what} is a whole number of at least 1, not {size!r}")
    return number


def _names(outputs: object) -> tuple[str, ...]:
    names = (outputs,) if isinstance(outputs, str) else outputs
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in cast(Collection[object], names)):
        raise ModelError(f"outputs is the name of a tensor or a collection of names, not {outputs!r}")
    found = tuple(cast(Collection[str], names))
    if len(set(found)) != len(found):
        raise ModelError(f"outputs names {next(name for name in found if found.count(name) > 1)!r} twice")
    return found
