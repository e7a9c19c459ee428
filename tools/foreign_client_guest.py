"""The arm64 side of foreign_client.py: models through Mesa's delegate and through LiteRT's reference kernels.

Arguments: the delegate's library, then MODEL or MODEL=INPUT (raw bytes). Prints a JSON line for each model.
"""

import json
import os
import sys
import time

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate


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


def result(runner, values):
    """The first output as int, and the seconds it took."""
    runner.set_tensor(runner.get_input_details()[0]["index"], values)
    start = time.monotonic()
    runner.invoke()
    seconds = time.monotonic() - start
    return runner.get_tensor(runner.get_output_details()[0]["index"]).astype(int), seconds


def compare(delegate, path, input_path):
    """What the two runs of a model differ in."""
    with open(path, "rb") as file:
        model = bytearray(file.read())
    reference = interpreter(model)
    correct_shapes(model, reference)
    foreign = interpreter(model, [delegate])
    detail = reference.get_input_details()[0]
    limits = np.iinfo(detail["dtype"])
    values = np.random.default_rng(0).integers(limits.min, limits.max + 1, size=detail["shape"], dtype=detail["dtype"])
    if input_path:
        values = np.fromfile(input_path, detail["dtype"]).reshape(detail["shape"])
    expected, _ = result(reference, values)
    found, seconds = result(foreign, values)
    distance = np.abs(found - expected)
    return {
        "model": os.path.basename(path),
        "largest": int(distance.max()),
        "different": int(np.count_nonzero(distance)),
        "bytes": distance.size,
        "top": [int(expected.argmax()), int(found.argmax())],
        "seconds": round(seconds, 3),
    }


def main():
    """See the module's text."""
    delegate = load_delegate(sys.argv[1])
    for argument in sys.argv[2:]:
        path, _, input_path = argument.partition("=")
        print(json.dumps(compare(delegate, path, input_path)), flush=True)


main()
