"""`python -m benchmarks.yolo`: YOLOv5s with ReLU and with SiLU, from operators and accuracy to time and cycles.

Exit code 1 if a target is missed. Models are built once into `--folder` by `benchmarks.yolo_model`, which needs
PyTorch: `python3 -m venv FOLDER; FOLDER/bin/pip install torch onnx onnxruntime`, then `--torch FOLDER/bin/python`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from benchmarks.cycles import core_figures, level_figures
from benchmarks.figures import MEGABYTE, Figure, interleaved, run_fresh
from benchmarks.placement import operator_lines, operators_on_cpu, submissions
from benchmarks.yolo_images import INPUT, smooth_images
from rocketnpu.frontends import load_model
from rocketnpu.frontends.onnx.session import build_session, run_session
from rocketnpu.hw.limits import CORES
from rocketnpu.profile import profile
from rocketnpu.verify import verify

TEST_SEED = 2
COMPILE = """
import time, rocketnpu
start = time.perf_counter()
rocketnpu.compile({model!r}, cores={cores})
print(time.perf_counter() - start)
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.yolo", description=__doc__)
    parser.add_argument("--size", type=int, default=640, help="height and width of the image (default: 640)")
    parser.add_argument("--activation", choices=("relu", "silu"), action="append", help="default: both")
    parser.add_argument("--runs", type=int, default=5, help="timed runs of each side (default: 5)")
    parser.add_argument("--folder", type=Path, default=Path("build/yolo"), help="of models (default: build/yolo)")
    parser.add_argument("--torch", default=sys.executable, help="a Python with PyTorch, to build what is not there yet")
    arguments = parser.parse_args()
    missed = 0
    for activation in arguments.activation or ("relu", "silu"):
        model = arguments.folder / f"yolov5s-{activation}-{arguments.size}.onnx"
        if not model.exists():
            _build(arguments.torch, model, activation, arguments.size)
        print(f"{model.name}, {arguments.runs} runs")
        for figure in _figures(model, arguments.size, arguments.runs):
            print(figure, flush=True)
            missed += figure.missed
    return 1 if missed else 0


def _build(python: str, model: Path, activation: str, size: int) -> None:
    model.parent.mkdir(parents=True, exist_ok=True)
    options = ("--activation", activation, "--size", str(size))
    command = (python, "-W", "ignore", "-m", "benchmarks.yolo_model", str(model), *options)
    if subprocess.run(command, check=False).returncode:
        sys.exit(f"{model} could not be built; --torch names a Python that has PyTorch (see --help)")


def _figures(model: Path, size: int, runs: int) -> Iterator[Figure]:
    image = smooth_images(1, size, TEST_SEED)
    program = rn.compile(model, cores=CORES)
    yield from chain(_operators(program), _compilation(model), _submissions(program, image))
    yield from _accuracy(model, program, image)
    yield from _speed(model, program, image, runs)
    yield from core_figures(profile(program))
    yield from level_figures(model)


def _operators(program: rn.Program) -> Iterator[Figure]:
    print("\n".join(operator_lines(program)))
    yield Figure("operators on the CPU, float border excepted", operators_on_cpu(program), "", 0)
    alone = {task for step in program.steps if step.place == "npu" for chains in step.tasks[1] for task in chains[0]}
    yield Figure("tasks, one core", len(alone), "")


def _compilation(model: Path) -> Iterator[Figure]:
    seconds, peak = run_fresh(COMPILE.format(model=str(model), cores=CORES))
    yield Figure(f"compile time, {CORES} cores", float(seconds), "s", 15)
    yield Figure("peak memory of compiling", int(peak) / MEGABYTE, "MB", 1000)


def _submissions(program: rn.Program, image: NDArray[np.float32]) -> Iterator[Figure]:
    """One core's results are also those of three."""
    with rn.Session(program, "emulator") as session:
        alone = session.run(image)
    yield Figure("submissions an inference", submissions(program, {INPUT: image}), "", 1)
    with rn.Session(program, "emulator", cores=CORES) as session:
        together = session.run(image)
    differing = sum(int(np.count_nonzero(alone[name] != together[name])) for name in alone)
    yield Figure(f"elements that differ on {CORES} cores", differing, "", 0)


def _accuracy(model: Path, program: rn.Program, image: NDArray[np.float32]) -> Iterator[Figure]:
    """Heads are in steps of their own grids. How far ONNX Runtime's optimizations move them says what the model itself
    makes of a difference in rounding."""
    report = verify(model, [{INPUT: image}])
    layers = [layer.isolated for layer in report.layers if layer.place == "npu"]
    unequal = 1 - sum(layer.equal for layer in layers) / sum(layer.elements for layer in layers)
    yield Figure("largest difference of a layer alone", report.worst_npu_layer, "steps", 1)
    yield Figure("unequal elements of layers alone", 100 * unequal, "%")
    plain, optimized = (
        run_session(build_session(model.read_bytes(), optimize=optimize), program.outputs, {INPUT: image})
        for optimize in (False, True)
    )
    steps = _head_steps(model)
    for name, head, moved in zip(program.outputs, plain, optimized, strict=True):
        step, found = steps[name], report.outputs[name]
        yield Figure(f"{name}: standard deviation", float(head.std()) / step, "steps")
        yield Figure(f"{name}: mean difference", found.mean / step, "steps", 1)
        yield Figure(f"{name}: largest difference", found.maximum / step, "steps")
        yield Figure(f"{name}: ONNX Runtime, optimized", float(np.abs(moved - head).mean()) / step, "steps")


def _head_steps(model: Path) -> dict[str, float]:
    """The step of each output: the scale of the tensor that it is dequantized from."""
    graph = load_model(model)
    steps: dict[str, float] = {}
    for op in graph.operators:
        if op.outputs[0] in graph.outputs and op.inputs[0] is not None:
            grid = graph.tensors[op.inputs[0]].quantization
            assert grid is not None
            steps[op.outputs[0]] = float(grid.scales[0])
    return steps


def _speed(model: Path, program: rn.Program, image: NDArray[np.float32], runs: int) -> Iterator[Figure]:
    original = model.with_suffix(".float.onnx")
    runtimes = [build_session(path.read_bytes(), optimize=True) for path in (original, model)]
    with rn.Session(program, "emulator") as session:
        emulator, real, integer = interleaved(
            (lambda: session.run(image), *(partial(_run, runtime, image) for runtime in runtimes)), runs
        )
    yield Figure("emulated inference, warm", 1000 * emulator, "ms")
    yield Figure("ONNX Runtime, float, 1 thread", 1000 * real, "ms")
    yield Figure("ONNX Runtime, integer, 1 thread", 1000 * integer, "ms")
    yield Figure("emulator / the faster of them", emulator / min(real, integer), "times", 3)


def _run(runtime: Any, image: NDArray[np.float32]) -> None:
    run_session(runtime, [output.name for output in runtime.get_outputs()], {INPUT: image})


if __name__ == "__main__":
    sys.exit(main())
