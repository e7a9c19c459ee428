"""From a float model and calibration inputs to a quantized model and what it has lost."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.files import open_model
from rocketnpu.frontends.opening import make_opening
from rocketnpu.images import Fit, Normalization
from rocketnpu.ir import Graph, Tensor
from rocketnpu.quantizer.best import Work, quantize_best
from rocketnpu.quantizer.calibration import METHODS
from rocketnpu.quantizer.formats import Format, format_of
from rocketnpu.quantizer.ranges import measure
from rocketnpu.quantizer.report import Report
from rocketnpu.quantizer.samples import InputSets, PictureRule, read_samples
from rocketnpu.quantizer.streams import Tensors
from rocketnpu.saving import write_whole

EVALUATED = 8
"""Sets of the calibration inputs that the losses are measured on, when there are no others for it."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being done, how many sets of inputs that is done for, and for how many it will be."""


@dataclass(frozen=True, eq=False)
class QuantizedModel:
    """A quantized model: its file's bytes, the kind of file, and what was lost."""

    model: bytes
    format: Literal["tflite", "onnx"]
    report: Report

    def save(self, path: str | Path) -> None:
        """Write the file; raises ModelError for a path that names another kind of file, OSError as the system does."""
        if Path(path).suffix != f".{self.format}":
            raise ModelError(f"{path}: the quantized model is a .{self.format} file")
        write_whole(path, self.model)


def quantize(
    model: str | Path | bytes,
    calibration: InputSets,
    *,
    evaluation: InputSets | None = None,
    count: int | None = None,
    mean: float | Sequence[float] | None = None,
    std: float | Sequence[float] | None = None,
    fit: Literal["stretch", "letterbox"] | None = None,
    progress: Progress | None = None,
    outputs: str | Collection[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
    method: Literal["auto", "min-max", "percentile", "entropy", "mse"] = "min-max",
    keep_float: Collection[str] = (),
) -> QuantizedModel:
    """A float .tflite or .onnx model as an INT8 model of the same kind; inputs and outputs stay float32.

    `calibration` has typical inputs: a folder of pictures, a .npz file with arrays by input name, {name: array of many
    sets}, one such array, or any iterable of sets, each an array or {name: array}. At most `count` sets are used,
    evenly spread over all. Pictures become inputs as (pixel - mean) / std, for pixels 0..255, one value or one for each
    channel (default: -1..1), stretched (or letterboxed) to the input's size.
    The losses in the report are measured on `evaluation`, which takes the same things; without it on up to 8 of the
    calibration sets, which flatters a little.
    `method` is how ranges follow from the calibration inputs, for all tensors alike; "auto" takes for each tensor what
    costs least on some of these inputs. `keep_float` names tensors whose operators stay float; `*` in a name stands for
    anything. Where an output loses more than a tenth, layers that lose most by themselves go to float if that helps.
    `outputs`, `input_shapes` and `dims` say how the model is opened, as for `rocketnpu.compile`.
    Raises ModelError for a model that is bad, quantized already or beyond what can be quantized, and for inputs that
    don't fit; Error when a package of the extra `quantize` is missing.
    """
    file = open_model(model)
    graph, name = load_model(file, opening=make_opening(input_shapes, dims, outputs)), file.name
    kind = format_of(graph)
    prepared = kind.repair(graph.model, name)
    tensors = _inputs(load_model(prepared), name)
    if fit is not None and fit not in list(Fit):
        raise ModelError(f"fit is {' or '.join(Fit)}, not {fit!r}")
    if count is not None and count < 1:
        raise ModelError(f"count is at least 1, not {count}")
    if method != "auto" and method not in METHODS:
        raise ModelError(f"method is auto, {', '.join(METHODS[:-1])} or {METHODS[-1]}, not {method!r}")
    rule = PictureRule(_normalization(mean, std), None if fit is None else Fit(fit))
    samples = read_samples(tensors, calibration, rule)
    if count is not None:
        samples = samples.spread(count)
    held = samples.spread(EVALUATED) if evaluation is None else read_samples(tensors, evaluation, rule)

    run = kind.run_float(prepared)
    step = _Step(progress, "calibrating", len(samples))
    ranges = measure((run(sample) for sample in samples), kind.channel_axis, step)
    equal, ranges = kind.equalize(prepared, ranges)
    work = Work(kind, equal, ranges, samples, held, _original(kind, graph), partial(_Step, progress))
    best = quantize_best(work, method, keep_float)
    return QuantizedModel(best.model, kind.name, best.report)


def _inputs(graph: Graph, name: str) -> list[Tensor]:
    if not any(tensor.dtype == np.float32 for tensor in graph.tensors.values()):
        raise ModelError(f"{name} has no float tensor, so there is nothing to quantize")
    return [graph.tensors[tensor] for tensor in graph.inputs]


def _normalization(mean: float | Sequence[float] | None, std: float | Sequence[float] | None) -> Normalization | None:
    if mean is None and std is None:
        return None
    shift, scale = (
        tuple(np.atleast_1d(np.asarray(value, np.float64)).tolist())
        for value in (0 if mean is None else mean, 1 if std is None else std)
    )
    if not (np.isfinite((*shift, *scale)).all() and min(scale) > 0):
        raise ModelError(f"mean {mean} and std {std}: numbers are needed, and a std above 0")
    return Normalization(shift, scale)


def _original(kind: Format, graph: Graph) -> Callable[[list[NDArray[Any]]], Tensors]:
    """The outputs of the user's own model by name; its inputs may be float16."""
    dtypes = [graph.tensors[name].dtype for name in graph.inputs]
    run = kind.run_outputs(graph.model)

    def outputs(inputs: list[NDArray[Any]]) -> Tensors:
        values = [value.astype(dtype) for value, dtype in zip(inputs, dtypes, strict=True)]
        return dict(zip(graph.outputs, run(values), strict=True))

    return outputs


class _Step:
    """Progress of one part of the work."""

    def __init__(self, progress: Progress | None, what: str, total: int) -> None:
        self._progress, self._what, self._total, self._done = progress, what, total, 0

    def __call__(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._what, self._done, self._total)
