"""Float TFLite files as LiteRT's quantizer takes them, and as the NPU likes them.

1. All tensors have names that differ and sizes that are fixed (a batch of no fixed size is 1).
2. Constants that a DEQUANTIZE unpacks (float16, or integers with scales) become float32 constants, and so do integers
   with scales that an operator on floats reads itself ("dynamic range").
3. A clamp that alone reads the result of an operator which can clamp joins it: the int8 grid of the result then spans
   only what the clamp lets through, and the NPU clamps for free.
4. SQUEEZE and EXPAND_DIMS are written as RESHAPE, which the quantizer knows.
5. The file has a signature, by which the quantizer feeds it.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.cpu.litert import extract_piece
from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import schema
from rocketnpu.ir import Graph, Tensor
from rocketnpu.quantizer.tflite.model import TfliteModel

CLAMPS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1"})
"""Operators of rule 3, named as the activation functions that they are."""

CLAMPING = frozenset({"ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MUL", "SUB"})
"""Operators whose options have a field for an activation function, and whose int8 kernels apply it."""

RESHAPES = frozenset({"EXPAND_DIMS", "SQUEEZE"})


def repair(graph: Graph) -> bytes:
    """The file of a float graph after the rules above; tensors keep the graph's names.

    Raises ModelError for a graph that cannot be cut, and for constants that are no finite float32 numbers.
    """
    everything = [operator.index for operator in graph.operators]
    model = TfliteModel(extract_piece(graph, everything, graph.inputs, graph.outputs))
    _unpack_constants(model, graph)
    _join_clamps(model, graph)
    _write_reshapes(model)
    model.sign()
    return model.build()


def _unpack_constants(model: TfliteModel, graph: Graph) -> None:
    for operator in list(model.operators):
        constants = [
            name for name in model.inputs(operator) if name is not None and graph.tensors[name].data is not None
        ]
        if model.kind(operator) == "DEQUANTIZE" and constants:
            model.set_constant(model.outputs(operator)[0], _real(graph.tensors[constants[0]]))
            model.operators.remove(operator)
            continue
        for name in constants:
            if graph.tensors[name].quantization is not None:
                model.set_constant(name, _real(graph.tensors[name]))


def _real(tensor: Tensor) -> NDArray[np.float32]:
    """A constant's real values, float32 of its shape; ModelError if they are not finite."""
    values = np.asarray(tensor.data, np.float64)
    grid = tensor.quantization
    if grid is not None:
        along = [-1 if axis == grid.axis else 1 for axis in range(values.ndim)]
        values = (values - grid.zero_points.reshape(along)) * grid.scales.reshape(along)
    with np.errstate(over="ignore"):
        real = values.astype(np.float32)
    if not np.isfinite(real).all():
        raise ModelError(f"constant {tensor.name} holds NaN or infinity; repair the model before quantizing it")
    return real


def _join_clamps(model: TfliteModel, graph: Graph) -> None:
    readers = Counter(name for operator in model.operators for name in model.inputs(operator) if name is not None)
    readers.update(graph.outputs)
    makers: dict[str, Any] = {name: operator for operator in model.operators for name in model.outputs(operator)}
    for clamp in list(model.operators):
        kind = model.kind(clamp)
        source = model.inputs(clamp)[0] if kind in CLAMPS else None
        maker = None if source is None else makers.get(source)
        if source is None or maker is None or model.kind(maker) not in CLAMPING or readers[source] != 1:
            continue
        free = schema.ActivationFunctionType.NONE
        if maker.builtinOptions is None or maker.builtinOptions.fusedActivationFunction != free:
            continue
        maker.builtinOptions.fusedActivationFunction = getattr(schema.ActivationFunctionType, kind)
        (result,) = model.outputs(clamp)
        model.rewire(maker, source, result, output=True)
        makers[result] = maker
        model.operators.remove(clamp)


def _write_reshapes(model: TfliteModel) -> None:
    for operator in model.operators:
        if model.kind(operator) in RESHAPES:
            (result,) = model.outputs(operator)
            options = schema.ReshapeOptionsT(newShape=np.array(model.tensor(result).shape, np.int32))
            model.set_kind(operator, "RESHAPE", "ReshapeOptions", options)
            operator.inputs = operator.inputs[:1]
