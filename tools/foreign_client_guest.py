"""The arm64 side of foreign_client.py: models through Mesa's delegate and through LiteRT's reference kernels.

Arguments: the delegate's library, a file for the numbers of the models begun, then MODEL or MODEL=INPUT (raw bytes of
the first input). Prints a JSON line for each model.
"""

import json
import os
import sys
import time

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

DELEGATE = "DELEGATE"
"""LiteRT's name for the node that stands for what a delegate took."""


def interpreter(model, delegates=()):
    """An interpreter with memory. The reference is not XNNPACK: its results depend on the CPU that qemu shows."""
    resolver = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES if delegates else OpResolverType.BUILTIN_REF
    made = Interpreter(
        model_content=bytes(model), experimental_delegates=list(delegates), experimental_op_resolver_type=resolver
    )
    made.allocate_tensors()
    return made


def correct_shapes(model, reference):
    """Write the shapes that LiteRT derives into the file: the delegate sees the file's, and one of Mesa's is wrong."""
    graph = schema.Model.GetRootAs(model, 0).Subgraphs(0)
    for detail in reference.get_tensor_details():
        if detail["index"] < graph.TensorsLength():
            stored = graph.Tensors(detail["index"]).ShapeAsNumpy()
            if list(stored) != list(detail["shape"]):
                stored[:] = detail["shape"]


def taken(runner):
    """The operators that the delegate computes, counted by kind, and how many there are in all.

    What the delegate took lies between the inputs and the outputs of its nodes.
    """
    nodes = runner._get_ops_details()
    operators = [node for node in nodes if node["op_name"] != DELEGATE]
    makers = {int(output): node for node in operators for output in node["outputs"]}
    counts = {}
    for delegate in (node for node in nodes if node["op_name"] == DELEGATE):
        given, found = set(map(int, delegate["inputs"])), {}
        wanted = [int(output) for output in delegate["outputs"]]
        while wanted:
            node = makers.get(wanted.pop())
            if node is not None and node["index"] not in found:
                found[node["index"]] = node["op_name"]
                wanted += [int(name) for name in node["inputs"] if int(name) not in given]
        for kind in found.values():
            counts[kind] = counts.get(kind, 0) + 1
    return counts, len(operators)


def inputs_of(runner, input_path):
    """Random values for every input; those of the first come from a file, if there is one."""
    rng = np.random.default_rng(0)
    values = []
    for detail in runner.get_input_details():
        if detail["dtype"] == np.float32:
            values.append(rng.standard_normal(detail["shape"]).astype(np.float32))
        else:
            limits = np.iinfo(detail["dtype"])
            values.append(rng.integers(limits.min, limits.max + 1, size=detail["shape"], dtype=detail["dtype"]))
    if input_path:
        first = runner.get_input_details()[0]
        values[0] = np.fromfile(input_path, first["dtype"]).reshape(first["shape"])
    return values


def results(runner, values):
    """All outputs, and the seconds that the run took."""
    for detail, value in zip(runner.get_input_details(), values, strict=True):
        runner.set_tensor(detail["index"], value)
    start = time.monotonic()
    runner.invoke()
    seconds = time.monotonic() - start
    return [runner.get_tensor(detail["index"]).astype(float) for detail in runner.get_output_details()], seconds


def compare(delegate, path, input_path):
    """What the two runs of a model differ in."""
    with open(path, "rb") as file:
        model = bytearray(file.read())
    reference = interpreter(model)
    correct_shapes(model, reference)
    foreign = interpreter(model, [delegate])
    values = inputs_of(reference, input_path)
    expected, _ = results(reference, values)
    found, seconds = results(foreign, values)
    distances = [np.abs(a - b) for a, b in zip(found, expected, strict=True)]
    counts, operators = taken(foreign)
    return {
        "model": os.path.basename(path),
        "largest": float(max(distance.max() for distance in distances)),
        "different": int(sum(np.count_nonzero(distance) for distance in distances)),
        "elements": sum(distance.size for distance in distances),
        "top": [int(expected[0].argmax()), int(found[0].argmax())],
        "delegated": counts,
        "operators": operators,
        "seconds": round(seconds, 3),
    }


def main():
    """See the module's text."""
    delegate = load_delegate(sys.argv[1])
    for number, argument in enumerate(sys.argv[3:]):
        with open(sys.argv[2], "a", encoding="ascii") as begun:
            begun.write(f"{number}\n")
        path, _, input_path = argument.partition("=")
        try:
            line = compare(delegate, path, input_path)
        except (OSError, RuntimeError, ValueError) as error:
            line = {"model": os.path.basename(path), "error": " ".join(str(error).split())}
        print(json.dumps(line), flush=True)


main()
