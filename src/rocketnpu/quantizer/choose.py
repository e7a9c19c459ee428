"""Which calibration method each tensor gets: the one whose range costs least where the tensor is read.

1. A layer that reads the tensor runs on the rounded values, the rest of the model being float. Its result is compared
   with the float one.
2. Other operators pass errors on more or less as they are: for them the tensor itself is compared.
3. Behind the last layer with weights each value stands for itself (`lost_values`), before it values are summed up
   (`lost_power`).
4. The range of all values stays where another one is not clearly better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rocketnpu.ir import Graph, Operator
from rocketnpu.quantizer.calibration import METHODS, STEPS, Bounds, Method, bounds_by
from rocketnpu.quantizer.histogram import Histogram
from rocketnpu.quantizer.losses import Mean, loss_of
from rocketnpu.quantizer.ranges import Range
from rocketnpu.quantizer.streams import Array, Held, Run, Stream
from rocketnpu.quantizer.vocabulary import is_layer

ALIKE = 0.02
"""Of the whole range: ranges that differ by less on both sides are one."""

CLEARLY = 0.9
"""What another range may cost beside that of all values: less of a gain may come of the few inputs."""


@dataclass(frozen=True, eq=False)
class _Tensor:
    """One with several ranges, the layers that read it, and what each range costs."""

    name: str
    bounds: Mapping[Method, Bounds]
    layers: list[tuple[str, Run]] = field(default_factory=list[tuple[str, Run]])
    costs: dict[Method, Mean] = field(default_factory=dict[Method, Mean])


def candidates(histogram: Histogram, range_: Range) -> dict[Method, Bounds]:
    """The ranges that differ, by the first method that proposes each; min-max comes first."""
    low, high = (float(bound) for bound in range_.bounds)
    found: dict[Method, Bounds] = {}
    for method in METHODS:
        bounds = bounds_by(method, histogram, (low, high))
        gaps = [max(abs(bounds[0] - other[0]), abs(bounds[1] - other[1])) for other in found.values()]
        if all(gap > ALIKE * (high - low) for gap in gaps):
            found[method] = bounds
    return found


def choose(
    graph: Graph,
    proposed: Mapping[str, Mapping[Method, Bounds]],
    behind: frozenset[str],
    runs: Iterable[Stream],
    piece: Callable[[Operator], Run],
) -> dict[str, Bounds]:
    """For each tensor of `proposed` the best of its ranges.

    `runs` are those of the float model that `graph` describes, `behind` names the tensors behind its last layers.
    """
    tensors = {name: _Tensor(name, bounds) for name, bounds in proposed.items() if len(bounds) > 1}
    for operator in graph.operators:
        operands = [name for name in operator.inputs if name and graph.tensors[name].data is None]
        if is_layer(graph, operator) and len(operands) == 1 and operands[0] in tensors:
            tensors[operands[0]].layers.append((operator.name, piece(operator)))
    made = [*graph.inputs, *(name for operator in graph.operators for name in operator.outputs)]
    order = [tensors[name] for name in made if name in tensors]
    uses = Counter([*tensors, *(name for tensor in order for name, _ in tensor.layers)])
    for run in runs:
        held = Held(run, uses)
        for tensor in order:
            _measure(tensor, held, behind)
    return {name: _best(bounds, tensors[name].costs if name in tensors else {}) for name, bounds in proposed.items()}


def _measure(tensor: _Tensor, held: Held, behind: frozenset[str]) -> None:
    real = held.take(tensor.name)
    expected = [(name, held.take(name), run) for name, run in tensor.layers]
    for method, bounds in tensor.bounds.items():
        rounded = _rounded(real, bounds)
        shares = [loss_of(name in behind)(run([rounded])[0], values) for name, values, run in expected]
        if not shares:
            shares = [loss_of(tensor.name in behind)(rounded, real)]
        tensor.costs.setdefault(method, Mean()).add(float(np.mean(shares)))


def _rounded(values: Array, bounds: Bounds) -> NDArray[np.float32]:
    """Values on the int8 grid of a range."""
    low, high = np.float32(min(bounds[0], 0.0)), np.float32(max(bounds[1], 0.0))
    scale = (high - low) / np.float32(STEPS)
    if scale <= 0:
        return np.zeros_like(values)
    zero = np.round(-low / scale)
    steps = np.round(values / scale).astype(np.float32, copy=False)
    np.clip(steps, -zero, STEPS - zero, out=steps)
    steps *= scale
    return steps


def _best(bounds: Mapping[Method, Bounds], costs: Mapping[Method, Mean]) -> Bounds:
    """Rule 4."""
    if not costs:
        return next(iter(bounds.values()))
    cheapest = min(costs, key=lambda method: costs[method].value)
    is_better = costs[cheapest].value < CLEARLY * costs["min-max"].value
    return bounds[cheapest if is_better else "min-max"]
