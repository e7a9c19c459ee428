"""TFLite models with operators that only LiteRT can run: custom ones, state, control flow, shapes that depend on data.

model = PartitionBuilder()
x = model.input((1, 4), "float32")
handle = model.results("VAR_HANDLE", [], [((), "resource")], schema.VarHandleOptionsT(sharedName="v"))[0]
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from support.models import BuiltTensor, Grid, ModelBuilder, pack, schema

flexbuffers: Any = importlib.import_module("flatbuffers.flexbuffers")

Result = tuple[tuple[int, ...], str]
"""Shape and dtype of one output; "resource" is a handle."""

DETECTION = "TFLite_Detection_PostProcess"

DETECTION_OPTIONS: Mapping[str, object] = {
    "detections_per_class": 100,
    "h_scale": 5.0,
    "max_classes_per_detection": 1,
    "max_detections": 10,
    "nms_iou_threshold": 0.5,
    "nms_score_threshold": 0.3,
    "num_classes": 5,
    "use_regular_nms": False,
    "w_scale": 5.0,
    "x_scale": 10.0,
    "y_scale": 10.0,
}


class PartitionBuilder(ModelBuilder):
    """A ModelBuilder with operators of several outputs, custom operators, variables and further subgraphs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self._variables: set[str] = set()
        self._subgraphs: list[tuple[PartitionBuilder, tuple[str, ...]]] = []
        self._signatures: dict[str, tuple[int, ...]] = {}

    def results(
        self, kind: str, inputs: Sequence[str | None], results: Sequence[Result], options: Any = None, table: str = ""
    ) -> list[str]:
        """An operator with any number of outputs and float or whole numbers in them."""
        names = list(self.tensors)
        made = [self._tensor(kind.lower(), shape, dtype, None) for shape, dtype in results]
        number = getattr(schema.BuiltinOperator, kind)
        operator = schema.OperatorT(
            opcodeIndex=len(self._codes),
            inputs=np.array([-1 if name is None else names.index(name) for name in inputs], np.int32),
            outputs=np.array([len(names) + index for index in range(len(made))], np.int32),
        )
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, table or type(options).__name__[:-1])
            operator.builtinOptions = options
        self._codes.append(schema.OperatorCodeT(builtinCode=number, deprecatedBuiltinCode=min(number, 127), version=1))
        self._operators.append(operator)
        return made

    def custom(
        self, name: str, inputs: Sequence[str], results: Sequence[Result], options: Mapping[str, object]
    ) -> list[str]:
        """A custom operator with its options as a flexbuffer."""
        made = self.results("CUSTOM", inputs, results)
        self._codes[-1].customCode = name
        self._operators[-1].customOptions = np.frombuffer(bytes(flexbuffers.Dumps(dict(options))), np.uint8)
        return made

    def detections(self, boxes: str, scores: str, anchors: str, **options: object) -> list[str]:
        """TFLite_Detection_PostProcess: boxes, classes, scores and their number, without stated shapes."""
        results: list[Result] = [((), "float32")] * 4
        return self.custom(DETECTION, [boxes, scores, anchors], results, {**DETECTION_OPTIONS, **options})

    def variable(self, shape: tuple[int, ...], dtype: str = "float32", grid: Grid | None = None) -> str:
        """A variable tensor, which keeps what an operator leaves there."""
        name = self._tensor("state", shape, dtype, grid)
        self._variables.add(name)
        return name

    def subgraph(self, other: PartitionBuilder, *outputs: str) -> int:
        """Add another builder's operators as a subgraph; its number."""
        self._subgraphs.append((other, outputs))
        return len(self._subgraphs)

    def handle(self, name: str) -> str:
        """A handle of the variable of this name."""
        return self.results("VAR_HANDLE", [], [((), "resource")], schema.VarHandleOptionsT(sharedName=name))[0]

    def read(self, handle: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """What a variable holds."""
        return self.results("READ_VARIABLE", [handle], [(shape, dtype)], schema.ReadVariableOptionsT())[0]

    def assign(self, handle: str, value: str) -> None:
        """Change what a variable holds."""
        self.results("ASSIGN_VARIABLE", [handle, value], [], schema.AssignVariableOptionsT())

    def initialise(self, values: Mapping[str, Any]) -> None:
        """CALL_ONCE of a subgraph that assigns these values to variables."""
        body = PartitionBuilder()
        for name, value in values.items():
            body.assign(body.handle(name), body.constant(value))
        options = schema.CallOnceOptionsT(initSubgraphIndex=self.subgraph(body))
        self.results("CALL_ONCE", [], [], options)

    def sized(self, name: str, signature: tuple[int, ...]) -> str:
        """Give a tensor a shape signature."""
        self._signatures[name] = signature
        return name

    def model(self, *outputs: str) -> Any:
        main = super().model(*outputs)
        self._mark(main.subgraphs[0])
        for other, results in self._subgraphs:
            inner = other.model(*results)
            (graph,) = inner.subgraphs
            for tensor in graph.tensors:
                tensor.buffer += len(main.buffers) if tensor.buffer else 0
            for operator in graph.operators:
                operator.opcodeIndex += len(main.operatorCodes)
            main.buffers += inner.buffers
            main.operatorCodes += inner.operatorCodes
            main.subgraphs.append(graph)
        return main

    def build(self, *outputs: str) -> bytes:
        return pack(self.model(*outputs))

    def _mark(self, graph: Any) -> None:
        for name, tensor in zip(self.tensors, graph.tensors, strict=True):
            tensor.isVariable = name in self._variables
            if name in self._signatures:
                tensor.shapeSignature = np.array(self._signatures[name], np.int32)


def detector(*, quantized: bool = True, kernel: str = "", **options: object) -> bytes:
    """A small SSD: two layers, two heads, and the custom operator that chooses boxes (or one named `kernel`)."""
    model = PartitionBuilder(seed=3)
    x = model.input((1, 32, 32, 3), "int8" if quantized else "float32", name="x")
    y = model.conv2d(x, 16, stride=2, activation="RELU6")
    y = model.conv2d(y, 16, stride=4, activation="RELU6")
    boxes = model.reshape(model.conv2d(y, 12), (1, 48, 4))
    scores = model.conv2d(y, 18)
    scores = model.reshape(model.unary("LOGISTIC", scores), (1, 48, 6))
    if quantized:
        boxes, scores = (
            model.operator("DEQUANTIZE", [head], model.tensors[head].shape, dtype="float32") for head in (boxes, scores)
        )
    grid = np.stack(np.meshgrid(np.linspace(0.1, 0.9, 6), np.linspace(0.1, 0.9, 8)), -1).reshape(48, 2)
    anchors = model.constant(np.concatenate([grid, np.full((48, 2), 0.2)], 1).astype(np.float32), name="anchors")
    if not kernel:
        return model.build(*model.detections(boxes, scores, anchors, **options))
    return model.build(*model.custom(kernel, [boxes, scores, anchors], [((1, 10, 4), "float32")], {}))


def lstm(model: PartitionBuilder, x: str, units: int) -> str:
    """UNIDIRECTIONAL_SEQUENCE_LSTM of a float tensor (batch, time, features), without peepholes and projection."""
    batch, steps, depth = model.tensors[x].shape
    inputs: list[str | None] = [None] * 24
    inputs[0] = x
    for gate in range(4):
        inputs[1 + gate] = model.constant(model.rng.normal(0, 0.5, (units, depth)).astype(np.float32))
        inputs[5 + gate] = model.constant(model.rng.normal(0, 0.5, (units, units)).astype(np.float32))
        inputs[12 + gate] = model.constant(model.rng.normal(0, 0.5, units).astype(np.float32))
    inputs[18], inputs[19] = model.variable((batch, units)), model.variable((batch, units))
    options = schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=schema.ActivationFunctionType.TANH)
    kind = "UNIDIRECTIONAL_SEQUENCE_LSTM"
    return model.results(kind, inputs, [((batch, steps, units), "float32")], options)[0]


def quantized_lstm(model: PartitionBuilder, x: str, units: int) -> str:
    """The same on int8 data with an int16 cell (8x8_16); its intermediate tensors hold scales only."""
    batch, steps, depth = model.tensors[x].shape
    inputs: list[str | None] = [None] * 24
    inputs[0] = x
    hidden = Grid(1 / 128, 0)
    for gate in range(4):
        weights = (
            (model.rng.integers(-127, 128, (units, wide)).astype(np.int8), Grid(0.01)) for wide in (depth, units)
        )
        inputs[1 + gate], inputs[5 + gate] = (model.constant(values, grid) for values, grid in weights)
        bias_grid = Grid(0.01 * model.tensors[x].scale)
        inputs[12 + gate] = model.constant(model.rng.integers(-900, 900, units).astype(np.int32), bias_grid)
    inputs[18] = model.variable((batch, units), "int8", hidden)
    inputs[19] = model.variable((batch, units), "int16", Grid(2.0**-11))
    options = schema.UnidirectionalSequenceLSTMOptionsT(fusedActivationFunction=schema.ActivationFunctionType.TANH)
    (result,) = model.results("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [((batch, steps, units), "int8")], options)
    model.tensors[result] = BuiltTensor(model.tensors[result].shape, "int8", hidden)
    names = [model._tensor("intermediate", (), "int8", Grid(2.0**-12)) for _ in range(4)]
    names.append(model._tensor("intermediate", (), "int8", hidden))
    places = list(model.tensors)
    model._operators[-1].intermediates = np.array([places.index(name) for name in names], np.int32)
    return result


def svdf(model: PartitionBuilder, x: str, units: int, memory: int = 4) -> str:
    """SVDF of a float tensor (batch, features), rank 1."""
    batch, depth = model.tensors[x].shape
    inputs = [
        x,
        model.constant(model.rng.normal(0, 0.5, (units, depth)).astype(np.float32)),
        model.constant(model.rng.normal(0, 0.5, (units, memory)).astype(np.float32)),
        model.constant(model.rng.normal(0, 0.5, units).astype(np.float32)),
        model.variable((batch, memory * units)),
    ]
    return model.results("SVDF", inputs, [((batch, units), "float32")], schema.SVDFOptionsT(rank=1))[0]


def dequantized(model: ModelBuilder, x: str) -> str:
    """DEQUANTIZE to float32."""
    return model.operator("DEQUANTIZE", [x], model.tensors[x].shape, dtype="float32")


def quantized(model: ModelBuilder, x: str, grid: Grid) -> str:
    """QUANTIZE of a float tensor to int8."""
    return model.operator("QUANTIZE", [x], model.tensors[x].shape, grid, dtype="int8")
