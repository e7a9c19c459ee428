"""`python -m benchmarks.hostile`: damaged operators until time is up, and which of them crash LiteRT and ONNX Runtime.

`cpu/litert/allowlist.py` and `cpu/onnxruntime/allowlist.py` list what survived. Each damaged model runs in a fork of
its own. Exit code 1 if an operator of an allow-list crashed. TFLite operators are those of the shared models;
ONNX's are drawn from their schemas.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import flatbuffers
import numpy as np
import onnx
import onnxruntime  # noqa: F401 - here, so that no fork spends its time on it
import onnxscript.optimizer  # noqa: F401
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from benchmarks.models import shared_folder
from rocketnpu.cpu.litert import extract_piece
from rocketnpu.cpu.litert.allowlist import is_allowed as litert_allows
from rocketnpu.cpu.litert.engine import Engine
from rocketnpu.cpu.onnxruntime.allowlist import is_allowed as ort_allows
from rocketnpu.errors import Error
from rocketnpu.frontends import load_model
from rocketnpu.frontends.onnx.model import MAX_OPSET
from rocketnpu.frontends.onnx.session import build_session, run_session
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER, schema
from rocketnpu.ir import Graph, Tensor

SECONDS_A_RUN = 10
Run = Callable[[], None]
NUMBERS = (0, -1, 1, 2, 3, 7, 100, 1 << 30, -(1 << 31))
LARGER_NUMBERS = (*NUMBERS, 1 << 62, -(1 << 63))
SIZES = (0, 1, 2, 3, 5, 300)
SHAPES = [(1, 4, 6, 6), (4, 4, 3, 3), (4, 1, 3, 3), (4,), (2,), (1,), (), (6, 4), (0,), (1, 0, 3, 3), (2, 3, 4, 5, 2)]
DTYPES = (np.float32, np.int8, np.uint8, np.int32, np.int64, np.bool_)
WORDS = ("nearest", "linear", "constant", "reflect", "edge", "SAME_UPPER", "VALID", "CRD", "asymmetric", "floor")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="for each runtime (default: 60)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    np.random.seed(arguments.seed)
    guilty = 0
    for runtime, cases in (("LiteRT", _tflite_cases(chance)), ("ONNX Runtime", _onnx_cases(chance))):
        ended, deaths, runs = time.monotonic() + arguments.seconds, Counter[str](), 0
        for kind, allowed, run in cases:
            if time.monotonic() > ended:
                break
            runs += 1
            died = _death(run)
            if died:
                deaths[f"{kind} of {died}{', on the allow-list' * allowed}"] += 1
                guilty += allowed
        print(f"{runtime}: {runs} runs, {deaths.total()} deaths")
        for what, count in deaths.most_common():
            print(f"  {count:4d}  {what}")
    return 1 if guilty else 0


def _death(run: Run) -> str:
    """The signal that a run ends with, in a fork; "" if it lives, or takes too long."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        signal.alarm(SECONDS_A_RUN)
        try:
            run()
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return "" if number in (0, signal.SIGALRM) else signal.Signals(number).name


def _tflite_cases(chance: random.Random) -> Iterator[tuple[str, bool, Run]]:
    seeds = dict(_tflite_operators())
    while True:
        tree = schema.ModelT.InitFromObj(schema.Model.GetRootAs(seeds[chance.choice(list(seeds))], 0))
        for _ in range(chance.choice((1, 1, 2, 3))):
            _damage(tree, chance)
        builder = flatbuffers.Builder(1024)
        try:
            builder.Finish(tree.Pack(builder), IDENTIFIER)
            graph = load_model(bytes(builder.Output()))
        except (Error, TypeError):  # a number too large for its field, or a file that is refused at once
            continue
        if all(operator.opaque is None for operator in graph.operators):
            allowed = litert_allows(graph)
            yield graph.operators[0].kind, allowed, lambda graph=graph: _run_tflite(graph)


def _tflite_operators() -> Iterator[tuple[tuple[str, ...], bytes]]:
    """One piece for each operator and combination of types in the shared models."""
    for file in sorted((shared_folder() / "models").rglob("*.tflite")):
        graph = load_model(file)
        for operator in graph.operators:
            if operator.opaque is not None:
                continue
            tensors = [graph.tensors[name] for name in operator.inputs if name is not None]
            data = list(dict.fromkeys(tensor.name for tensor in tensors if tensor.data is None))
            types = (operator.kind, *(str(tensor.dtype) for tensor in tensors))
            yield types, extract_piece(graph, [operator.index], data, operator.outputs)


def _damage(tree: Any, chance: random.Random) -> None:
    """Something wrong with a type, a shape, an option, a constant or an input."""
    graph = tree.subgraphs[0]
    tensor, operator, buffer = chance.choice(graph.tensors), graph.operators[0], chance.choice(tree.buffers)
    options = vars(operator.builtinOptions) if operator.builtinOptions else {}
    fields = [name for name, value in options.items() if isinstance(value, int | float)]
    match chance.choice(("type", "type", "shape", "shape", "option", "constant", "input", "no scale", *["scale"] * 4)):
        case "type":
            tensor.type = chance.choice((0, 1, 2, 3, 4, 6, 7, 9, 10, 16))
        case "shape":
            tensor.shape, tensor.shapeSignature = np.array(_other_shape(tensor.shape, chance), np.int32), None
        case "option" if fields:
            setattr(operator.builtinOptions, chance.choice(fields), chance.choice(NUMBERS))
        case "constant" if buffer.data is not None and 4 <= len(buffer.data) <= 64:
            words = np.frombuffer(bytes(buffer.data)[: len(buffer.data) // 4 * 4], np.int32).copy()
            words[chance.randrange(words.size)] = chance.choice(NUMBERS)
            buffer.data = words.view(np.uint8)
        case "scale" if tensor.quantization is not None and tensor.quantization.scale is not None:
            scales = np.array(tensor.quantization.scale, np.float32)
            scales[chance.choice((0, slice(None)))] = np.float32(2.0 ** chance.uniform(-60, 40))
            tensor.quantization.scale = scales
            if chance.random() < 0.3 and tensor.quantization.zeroPoint is not None:
                points = np.array(tensor.quantization.zeroPoint, np.int64)
                points[:] = chance.choice((-128, -1, 0, 127, 255))
                tensor.quantization.zeroPoint = points
        case "input":
            inputs = list(operator.inputs)
            inputs[chance.randrange(len(inputs) + 1) :] = chance.choice(
                ([], [-1], [chance.randrange(len(graph.tensors))])
            )
            operator.inputs = np.array(inputs, np.int32)
        case _:
            tensor.quantization = None


def _other_shape(shape: Any, chance: random.Random) -> list[int]:
    sizes = [] if shape is None else [int(size) for size in shape]
    place = chance.randrange(len(sizes) + 1)
    return [*sizes[:place], *chance.choice(([], [chance.choice(SIZES)])), *sizes[place + chance.choice((0, 1)) :]]


def _run_tflite(graph: Graph) -> None:
    engine = Engine(graph.model, "plain", 1, None, True)
    engine.run([np.zeros(2, np.int64), *(_zeros(graph.tensors[name]) for name in graph.inputs)])


def _zeros(tensor: Tensor) -> NDArray[Any]:
    return np.zeros(tensor.shape, tensor.dtype)


def _onnx_cases(chance: random.Random) -> Iterator[tuple[str, bool, Run]]:
    names = sorted({found.name for found in onnx.defs.get_all_schemas() if not found.domain and not found.deprecated})
    while True:
        kind = chance.choice(names)
        try:
            model, values = _onnx_model(onnx.defs.get_schema(kind, MAX_OPSET, ""), chance)
            found = load_model(model.SerializeToString()).model
        except (Error, TypeError, ValueError, onnx.defs.SchemaError):
            continue
        yield kind, ort_allows([kind]), lambda found=found, values=values: _run_onnx(found, values)


def _onnx_model(found: Any, chance: random.Random) -> tuple[Any, dict[str, NDArray[Any]]]:
    """A model of one operator of any shapes, attributes and constants, and values for its inputs."""
    common, dtype = chance.choice(SHAPES), chance.choice(DTYPES)
    values = {f"x{index}": _values(chance, dtype, common, index) for index, _ in enumerate(found.inputs)}
    constants = {name for name in values if name != "x0" and chance.random() < 0.5}
    left_out = {f"x{i}" for i, formal in enumerate(found.inputs) if "Optional" in str(formal.option)}
    left_out = {name for name in left_out if chance.random() < 0.5}
    attributes = {
        name: _attribute(str(item.type), chance)
        for name, item in found.attributes.items()
        if item.required or chance.random() < 0.4
    }
    outputs = [f"y{index}" for index in range(max(1, found.min_output))]
    node = helper.make_node(found.name, ["" if name in left_out else name for name in values], outputs, **attributes)
    element = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [node],
        "damaged",
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in values.items()
            if name not in constants | left_out
        ],
        [helper.make_tensor_value_info(outputs[0], element, None)],
        [numpy_helper.from_array(values[name], name) for name in constants - left_out],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", MAX_OPSET)], ir_version=10)
    return model, {name: value for name, value in values.items() if name not in constants | left_out}


def _values(chance: random.Random, dtype: Any, common: tuple[int, ...], index: int) -> NDArray[Any]:
    """The first tensor's type for half of the others, which are else positions."""
    kind = dtype if index == 0 or chance.random() < 0.5 else np.int64
    shape = common if index == 0 or chance.random() < 0.4 else chance.choice(SHAPES)
    return np.random.choice(LARGER_NUMBERS[: chance.choice((1, 6, 11))], shape).astype(kind)


def _attribute(kind: str, chance: random.Random) -> Any:
    numbers = [chance.choice((1, 1, 2, *LARGER_NUMBERS)) for _ in range(chance.choice((1, 2, 2, 4)))]
    match kind.rpartition(".")[2]:
        case "INT":
            return numbers[0]
        case "INTS":
            return numbers
        case "FLOAT":
            return float(numbers[0])
        case "STRING":
            return chance.choice(WORDS)
        case other:
            raise ValueError(f"attributes of type {other} are not drawn")


def _run_onnx(model: bytes, values: dict[str, NDArray[Any]]) -> None:
    session = build_session(model, optimize=False)
    run_session(session, [value.name for value in session.get_outputs()], values)


if __name__ == "__main__":
    sys.exit(main())
