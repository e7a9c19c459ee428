"""How much accuracy a quantized model has lost: signal to quantization noise, tensor by tensor and at the outputs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.ir import Graph, Operator, Tensor
from rocketnpu.quantizer.losses import Mean, loss_of, lost_power, lost_values
from rocketnpu.quantizer.streams import Array, Held, Run, Stream, Tensors, flat

POOR = 0.1
"""Share of an output that may be lost: a tenth, which is 10 dB."""


class Sqnr:
    """Signal-to-quantization-noise ratio: the power of real values to that of their errors, over many arrays."""

    def __init__(self) -> None:
        self._signal = self._noise = 0.0

    def add(self, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Count one more pair of arrays of real values."""
        reference = expected.astype(np.float64)
        self._signal += float(np.square(reference).sum())
        self._noise += float(np.square(found.astype(np.float64) - reference).sum())

    @property
    def decibels(self) -> float:
        """10 log10(signal / noise); infinite without noise, and minus infinite for noise where all should be 0."""
        if self._noise == 0.0:
            return math.inf
        return 10 * math.log10(self._signal / self._noise) if self._signal else -math.inf


@dataclass(frozen=True)
class LayerLoss:
    """One quantized tensor: the float model's name for it, the operator that makes it, and its SQNR in dB.

    `grid`: what its own grid costs, when the float model's values are rounded to it. `end_to_end`: with all that was
    lost before, in the quantized model fed with the same inputs. `alone`: the share of the tensor that is lost when
    this operator alone is int8 and reads the float model's values, 0 to 1 (losses.py).
    """

    tensor: str
    operator: str
    shape: tuple[int, ...]
    grid: float
    end_to_end: float
    alone: float = 0.0


@dataclass(frozen=True)
class Report:
    """What quantization did to a model; SQNR in dB against the float model.

    `inputs`: sets it was calibrated on; `evaluated`: sets these figures come from. `outputs` has the SQNR of each
    output, `lost` the share of each output that is lost (losses.py). `kept_float` names tensors whose operators lost
    too much and stay float.
    """

    inputs: int
    evaluated: int
    layers: tuple[LayerLoss, ...]
    outputs: Mapping[str, float]
    lost: Mapping[str, float] = field(default_factory=dict[str, float])
    kept_float: tuple[str, ...] = ()

    @property
    def poor(self) -> dict[str, float]:
        """The outputs of which more than POOR is lost, with the share."""
        return {name: share for name, share in self.lost.items() if share > POOR}

    @property
    def blamed(self) -> tuple[LayerLoss, ...]:
        """The layers from the one that loses most by itself on."""
        return tuple(sorted(self.layers, key=lambda layer: -layer.alone))


@dataclass(frozen=True, eq=False)
class Comparison:
    """What is compared: functions from a set of inputs to tensors by name, and the quantized model's graph.

    `original` gives the outputs of the user's model, `prepared` and `quantized` all tensors of the models after and
    before quantization. `names` maps the quantized graph's int8 tensors to the prepared model's float ones, of which
    `behind` lie behind the last layer with weights. `piece` makes a function of an operator of the quantized graph.
    """

    original: Callable[[list[Array]], Tensors]
    prepared: Callable[[list[Array]], Stream]
    quantized: Callable[[list[Array]], Stream]
    graph: Graph
    names: Mapping[str, str]
    behind: frozenset[str]
    piece: Callable[[Operator], Run]


@dataclass(frozen=True, eq=False)
class _Layer:
    """One int8 tensor while it is compared. `operands` are what its operator reads, None where it is not int8."""

    name: str
    float_name: str
    operands: tuple[str, ...] | None
    run: Run | None
    grid: Sqnr = field(default_factory=Sqnr)
    end: Sqnr = field(default_factory=Sqnr)
    alone: Mean = field(default_factory=Mean)


def compare(
    comparison: Comparison, samples: Iterable[list[Array]], advance: Callable[[], None]
) -> tuple[tuple[LayerLoss, ...], dict[str, float], dict[str, float]]:
    """The losses of all tensors in the model's order, the SQNR of the outputs and the share of each that is lost.

    `advance` is called for each set of inputs.
    """
    graph = comparison.graph
    layers = _layers(comparison)
    outputs = {name: Sqnr() for name in graph.outputs}
    lost = {name: Mean() for name in graph.outputs}
    uses = Counter(layer.float_name for layer in layers.values())
    uses.update(comparison.names[name] for layer in layers.values() for name in layer.operands or ())
    for inputs in samples:
        original = comparison.original(inputs)
        held = Held(comparison.prepared(inputs), uses)
        for name, found in flat(comparison.quantized(inputs)):
            if name in layers:
                _compare_layer(comparison, layers[name], found, held)
            if name in outputs:
                outputs[name].add(found, original[name])
                lost[name].add(max(loss(found, original[name]) for loss in (lost_power, lost_values)))
        advance()
    makers = {name: operator.kind for operator in graph.operators for name in operator.outputs}
    found_losses = tuple(
        LayerLoss(
            layer.float_name,
            makers[name],
            graph.tensors[name].shape,
            layer.grid.decibels,
            layer.end.decibels,
            layer.alone.value,
        )
        for name, layer in layers.items()
    )
    totals = (
        {name: total.decibels for name, total in outputs.items()},
        {name: mean.value for name, mean in lost.items()},
    )
    return found_losses, *totals


def _layers(comparison: Comparison) -> dict[str, _Layer]:
    graph, names = comparison.graph, comparison.names
    makers = {name: operator for operator in graph.operators for name in operator.outputs}
    layers: dict[str, _Layer] = {}
    for name, float_name in names.items():
        operator = makers[name]
        operands = tuple(
            dict.fromkeys(other for other in operator.inputs if other and graph.tensors[other].data is None)
        )
        is_int8 = bool(operands) and all(other in names for other in operands) and len(operator.outputs) == 1
        run = comparison.piece(operator) if is_int8 else None
        layers[name] = _Layer(name, float_name, operands if is_int8 else None, run)
    return layers


def _compare_layer(comparison: Comparison, layer: _Layer, found: Array, held: Held) -> None:
    graph, names = comparison.graph, comparison.names
    real = held.take(layer.float_name)
    rounded = _stored(graph.tensors[layer.name], real)
    layer.grid.add(_real(graph.tensors[layer.name], rounded), real)
    layer.end.add(_real(graph.tensors[layer.name], found), real)
    if layer.run is not None and layer.operands is not None:
        operands = [_stored(graph.tensors[name], held.take(names[name])) for name in layer.operands]
        rounded = layer.run(operands)[0]
    loss = loss_of(layer.float_name in comparison.behind)
    layer.alone.add(loss(_real(graph.tensors[layer.name], rounded), real))


def _stored(tensor: Tensor, values: Array) -> Array:
    """Real values on a tensor's grid."""
    limits = np.iinfo(tensor.dtype.name)
    scale, zero = _grid(tensor)
    return np.clip(np.round(values / np.float32(scale)) + zero, limits.min, limits.max).astype(tensor.dtype)


def _real(tensor: Tensor, values: Array) -> NDArray[np.float32]:
    scale, zero = _grid(tensor)
    return (values.astype(np.float32) - np.float32(zero)) * np.float32(scale)


def _grid(tensor: Tensor) -> tuple[float, int]:
    grid = tensor.quantization
    assert grid is not None  # what `names` promises
    return float(grid.scales[0]), int(grid.zero_points[0])
