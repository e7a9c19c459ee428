"""What a model is calibrated on: sets of inputs, from arrays, a .npz file, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rocketnpu.arrays import open_npz, read_npy
from rocketnpu.cpu.litert import check_inputs
from rocketnpu.errors import ModelError
from rocketnpu.images import Fit, Normalization, image_shape, image_to_input, load_image
from rocketnpu.ir import Tensor

InputSets: TypeAlias = (
    str | PathLike[str] | Mapping[str, ArrayLike] | NDArray[Any] | Iterable[ArrayLike | Mapping[str, ArrayLike]]
)
"""What `rocketnpu.quantize` takes: a path, arrays of many sets, or the sets one by one."""

PICTURES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""Endings of the files in a folder that are pictures; others are passed over."""


@dataclass(frozen=True)
class PictureRule:
    """How pictures become a float input; None is a default: 0..255 to -1..1, stretched."""

    normalization: Normalization | None = None
    fit: Fit | None = None


class Samples:
    """Sets of inputs, each made (a picture decoded) when it is asked for: {input name: array of the input's shape}."""

    def __init__(self, makers: Sequence[Callable[[], list[NDArray[Any]]]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __iter__(self) -> Iterator[list[NDArray[Any]]]:
        return (maker() for maker in self._makers)

    def __getitem__(self, index: int) -> list[NDArray[Any]]:
        """The arrays of one set in the order of the model's inputs; ModelError for a picture that is none."""
        return self._makers[index]()

    def spread(self, count: int) -> Samples:
        """At most `count` of the sets, evenly spread over all of them."""
        if count >= len(self):
            return self
        return Samples([self._makers[index * len(self) // count] for index in range(count)])


def read_samples(tensors: Sequence[Tensor], source: InputSets, rule: PictureRule) -> Samples:
    """The sets of inputs in `source`, for a model with these inputs.

    Paths: a folder with pictures, sorted by name, one picture, or a .npz with arrays by input name. A mapping or an
    array: many sets, one behind the other along the first axis. Anything else: one set after the other, each an array
    or {name: array}. Raises ModelError when nothing is in there, and for what does not fit the inputs.
    """
    if isinstance(source, str | PathLike):
        samples = _from_path(tensors, Path(source), rule)
    elif rule != PictureRule():
        raise ModelError("mean, std and fit say how pictures become inputs: they need a folder of pictures")
    elif isinstance(source, Mapping):
        samples = _stacked(tensors, cast(Mapping[str, ArrayLike], source), "the calibration arrays")
    elif isinstance(source, np.ndarray):
        samples = _stacked(tensors, {_only(tensors).name: cast(NDArray[Any], source)}, "the calibration array")
    elif isinstance(cast(object, source), Iterable):
        samples = Samples([partial(_identity, _one_set(tensors, values)) for values in source])
    else:
        raise ModelError(f"calibration inputs are a path, arrays or sets of arrays, not {type(source).__name__}")
    if not len(samples):
        raise ModelError("there are no calibration inputs: give at least one set")
    return samples


def _identity(values: list[NDArray[Any]]) -> list[NDArray[Any]]:
    return values


def _only(tensors: Sequence[Tensor]) -> Tensor:
    if len(tensors) != 1:
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        raise ModelError(f"the model has {len(tensors)} inputs ({names}): give arrays by name")
    return tensors[0]


def _one_set(tensors: Sequence[Tensor], values: ArrayLike | Mapping[str, ArrayLike]) -> list[NDArray[Any]]:
    if not isinstance(values, Mapping):
        return check_inputs([_only(tensors)], [values])
    missing = [tensor.name for tensor in tensors if tensor.name not in values]
    if missing:
        raise ModelError(f"a set of calibration inputs lacks {missing[0]!r}")
    return check_inputs(tensors, [values[tensor.name] for tensor in tensors])


def _from_path(tensors: Sequence[Tensor], path: Path, rule: PictureRule) -> Samples:
    if path.suffix == ".npz":
        if rule != PictureRule():
            raise ModelError(f"{path}: mean, std and fit are for pictures; the arrays of a .npz are taken as they are")
        return _stacked(tensors, _read_npz(tensors, path), str(path))
    if not path.exists():
        raise ModelError(f"can't read {path}: no such file or folder")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES and file.is_file())
        if not files:
            raise ModelError(f"{path} holds no pictures ({', '.join(sorted(PICTURES))})")
    elif path.suffix.lower() not in PICTURES:
        raise ModelError(f"{path} is no folder, no picture and no .npz file")
    if len(tensors) != 1 or image_shape(tensors[0].shape) is None:
        shapes = ", ".join(f"{tensor.name!r} {tensor.shape}" for tensor in tensors)
        raise ModelError(
            f"pictures fill one input, 1xHxWxC or 1xCxHxW with C of 1 or 3; the model has {shapes}: give a .npz"
        )
    return Samples([partial(_picture, tensors[0], file, rule) for file in files])


def _picture(tensor: Tensor, file: Path, rule: PictureRule) -> list[NDArray[Any]]:
    fit = rule.fit or Fit.STRETCH
    image = load_image(file)
    return [image_to_input(image, tensor.shape, tensor.dtype, None, normalization=rule.normalization, fit=fit)]


def _read_npz(tensors: Sequence[Tensor], path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of all inputs; the only array of a file is that of an only input, whatever its name."""
    arrays: dict[str, NDArray[Any]] = {}
    with open_npz(path) as archive:
        members = [name.removesuffix(".npy") for name in archive.namelist()]
        for tensor in tensors:
            alone = len(members) == len(tensors) == 1
            if tensor.name not in members and not alone:
                raise ModelError(
                    f"{path} has no array {tensor.name!r}, as the model's input is called; it has {members}"
                )
            with archive.open(f"{members[0] if alone else tensor.name}.npy") as file:
                arrays[tensor.name] = read_npy(file, path, partial(_check_shape, tensor, str(path)))
    return arrays


def _check_shape(tensor: Tensor, where: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Many sets one behind the other: a new first axis, or for a batch of 1 that axis."""
    fits = shape[1:] == tensor.shape or shape == tensor.shape
    longer = shape[1:] == tensor.shape[1:] and tensor.shape[:1] == (1,)
    if not (fits or longer) or dtype.kind not in "iufb":
        sizes = "x".join(map(str, tensor.shape))
        raise ModelError(f"{where}: input {tensor.name!r} needs arrays Nx{sizes}; {dtype} of shape {shape} is given")


def _stacked(tensors: Sequence[Tensor], arrays: Mapping[str, ArrayLike], where: str) -> Samples:
    missing = [tensor.name for tensor in tensors if tensor.name not in arrays]
    if missing:
        raise ModelError(f"{where}: no array for input {missing[0]!r}")
    columns: list[NDArray[Any]] = []
    for tensor in tensors:
        array = np.asarray(arrays[tensor.name])
        _check_shape(tensor, where, array.shape, array.dtype)
        columns.append(array.reshape(-1, *tensor.shape))
    counts = [column.shape[0] for column in columns]
    if len(set(counts)) > 1:
        raise ModelError(f"{where}: the inputs have different numbers of sets ({', '.join(map(str, counts))})")
    return Samples(
        [partial(check_inputs, tensors, [column[index] for column in columns]) for index in range(min(counts))]
    )
