"""What a model answered: scores with labels, or a summary of each tensor."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rocketnpu.cli.terminal import counted, finite, print_table
from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import read_file
from rocketnpu.runtime.session import TensorInfo
from rocketnpu.saving import replacing


@dataclass(frozen=True)
class Score:
    """One entry of a score vector; `score` is the real value."""

    index: int
    score: float
    label: str


@dataclass(frozen=True)
class Result:
    """One output: its stored values' range, and its best entries when it is a vector of scores."""

    tensor: TensorInfo
    low: float
    high: float
    mean: float
    top: tuple[Score, ...]


def read_labels(path: Path | None) -> list[str]:
    """One label a line; empty without a file."""
    if path is None:
        return []
    data = read_file(path)
    if not data.strip():
        raise ModelError(f"labels {path}: the file is empty")
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError:
        raise ModelError(f"labels {path}: not a UTF-8 text file") from None


def describe(
    tensors: Sequence[TensorInfo], outputs: Mapping[str, NDArray[Any]], labels: Sequence[str], count: int
) -> list[Result]:
    """A `Result` for each output, with the `count` best scores; raises ModelError when labels fit no output."""
    sizes = {tensor.name: outputs[tensor.name].size for tensor in tensors if is_scores(outputs[tensor.name])}
    if labels and len(labels) not in sizes.values():
        found = (
            ", ".join(f"{name} has {size} scores" for name, size in sizes.items()) or "no output is a vector of scores"
        )
        raise ModelError(
            f"{counted(len(labels), 'label')} fit no output: {found}{_background(len(labels), sizes.values())}"
        )
    return [_describe(tensor, outputs[tensor.name], labels, count) for tensor in tensors]


def _background(labels: int, sizes: Iterable[int]) -> str:
    """Advice for lists of classes with and without a first one for the background."""
    if labels - 1 in sizes:
        return "; drop the first line if it names a background class"
    return "; add a first line for the background class, if that is the difference" if labels + 1 in sizes else ""


def is_scores(array: NDArray[Any]) -> bool:
    """Whether an output is one vector of numbers: at least two along one dimension, one along the others."""
    return array.dtype.kind in "iuf" and array.size >= 2 and array.size in array.shape


def real_values(tensor: TensorInfo, array: NDArray[Any]) -> NDArray[np.float64]:
    """A tensor's real values; those of an unquantized tensor are what it holds."""
    values = array.astype(np.float64)
    grid = tensor.quantization
    if grid is None:
        return values
    along = [-1 if axis == grid.axis else 1 for axis in range(array.ndim)]
    return (values - grid.zero_points.reshape(along)) * grid.scales.reshape(along)


def print_results(results: Sequence[Result]) -> None:
    """A table of best scores for each score vector, and one table of all other outputs."""
    for result in results:
        if result.top:
            rows = [(f"{score.score:.6g}", score.index, score.label) for score in result.top]
            columns = ("score>", "index>", "label")
            print_table(columns, rows, title=f"{result.tensor.name}: {len(rows)} best of {max(result.tensor.shape)}")
    others = [result for result in results if not result.top]
    if others:
        rows = [
            (
                result.tensor.name,
                "x".join(map(str, result.tensor.shape)),
                result.tensor.dtype,
                f"{result.low:.6g}",
                f"{result.high:.6g}",
                f"{result.mean:.6g}",
            )
            for result in others
        ]
        print_table(("output", "shape", "dtype", "min>", "max>", "mean>"), rows, title="stored values")


def to_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """The same as JSON values."""
    return [
        {
            "name": result.tensor.name,
            "shape": list(result.tensor.shape),
            "dtype": str(result.tensor.dtype),
            "min": finite(result.low),
            "max": finite(result.high),
            "mean": finite(result.mean),
            "top": [{"index": score.index, "score": finite(score.score), "label": score.label} for score in result.top],
        }
        for result in results
    ]


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name, as numpy.savez does but for any name (savez keeps some for itself)."""
    with replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                npy.write_array(file, np.asarray(array), allow_pickle=False)


def _describe(tensor: TensorInfo, array: NDArray[Any], labels: Sequence[str], count: int) -> Result:
    numbers = array if array.dtype.kind in "iufb" and array.size else np.array([np.nan])
    low, high, mean = (float(value) for value in (numbers.min(), numbers.max(), numbers.mean(dtype=np.float64)))
    found = replace(tensor, shape=array.shape)  # some sizes may not have been known before the run
    return Result(found, low, high, mean, _top(found, array, labels, count) if is_scores(array) else ())


def _top(tensor: TensorInfo, array: NDArray[Any], labels: Sequence[str], count: int) -> tuple[Score, ...]:
    values = real_values(tensor, array).ravel()
    named = labels if len(labels) == values.size else [""] * values.size
    best: list[int] = np.argsort(-values, kind="stable")[:count].tolist()
    return tuple(Score(index, float(values[index]), named[index]) for index in best)
