"""`python -m benchmarks`: MobileNetV1 on the emulator, in time, size and memory, each beside its target.

Exit code 1 if a target is missed. Times are medians in a process of its own; runs of the emulator and of LiteRT take
turns, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rocketnpu as rn
from benchmarks.figures import MEGABYTE, CountingDevice, Figure, interleaved, run_fresh
from benchmarks.models import MOBILENET, shared_folder
from rocketnpu.cpu.litert.interpreter import Kernels, build_interpreter, run_interpreter
from rocketnpu.frontends import load_model

IMPORTS = "import numpy, rocketnpu"
INFERENCE = """
import numpy, rocketnpu
with rocketnpu.Session({model!r}) as session:
    session.run(numpy.zeros((1, 224, 224, 3), numpy.uint8))
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="timed runs of each side (default: 15)")
    arguments = parser.parse_args()
    model = shared_folder() / "models" / MOBILENET
    picture = np.fromfile(shared_folder() / "vectors/golden/grace_hopper_224.bin", np.uint8).reshape(1, 224, 224, 3)
    print(f"{MOBILENET}, {arguments.runs} runs")
    missed = 0
    parts = (
        _accuracy(model, picture),
        _speed(model, picture, arguments.runs),
        _compilation(model),
        _submissions(model, picture),
        _memory(model),
    )
    for figure in chain.from_iterable(parts):
        print(figure, flush=True)
        missed += figure.missed
    return 1 if missed else 0


def _accuracy(model: Path, picture: NDArray[np.uint8]) -> Iterator[Figure]:
    """The scores of the picture against LiteRT's reference kernels, and LiteRT's own default kernels beside them."""
    scores: dict[Kernels, NDArray[np.int16]] = {}
    for kernels in ("reference", "fast"):
        interpreter = build_interpreter(model.read_bytes(), kernels)
        run_interpreter(interpreter, [picture])
        scores[kernels] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(np.int16)
    with rn.Session(model, device="emulator") as session:
        (found,) = session.run(picture).values()
    yield Figure("top class", float(found.argmax()), "")
    yield Figure("scores against the reference kernels", float(np.abs(found - scores["reference"]).max()), "steps", 4)
    xnnpack = np.abs(scores["fast"] - scores["reference"]).max()
    yield Figure("XNNPACK's against the reference kernels", float(xnnpack), "steps")


def _speed(model: Path, picture: NDArray[np.uint8], runs: int) -> Iterator[Figure]:
    interpreter = build_interpreter(model.read_bytes(), "fast", threads=1)
    with rn.Session(model, device="emulator") as session:
        emulator, litert = interleaved(
            (lambda: session.run(picture), lambda: run_interpreter(interpreter, [picture])), runs
        )
    yield Figure("emulated inference, warm", 1000 * emulator, "ms")
    yield Figure("LiteRT inference, 1 thread", 1000 * litert, "ms")
    yield Figure("emulator / LiteRT", emulator / litert, "times", 2.0)


def _compilation(model: Path) -> Iterator[Figure]:
    data = model.read_bytes()
    times: list[float] = []
    for _ in range(3):
        start = time.perf_counter()
        program = rn.compile(data)
        times.append(time.perf_counter() - start)
    sizes = {segment.name: segment.size_bytes for segment in program.segments}
    weights = sum(tensor.data.nbytes for tensor in load_model(data).tensors.values() if tensor.data is not None)
    yield Figure("compile time", statistics.median(times), "s", 2.0)
    yield Figure("constants / the model's weights", sizes["constants"] / weights, "times", 1.05)
    yield Figure("arena", sizes["activations"] / MEGABYTE, "MB", 2.5)
    yield Figure("command lists", sizes["commands"] / MEGABYTE, "MB")
    yield Figure("tasks", len(program.tasks), "", 45)


def _submissions(model: Path, picture: NDArray[np.uint8]) -> Iterator[Figure]:
    program = rn.compile(model)
    device = CountingDevice(2 * sum(segment.size_bytes + 4096 for segment in program.segments))
    with rn.Session(program, device) as session:
        session.run(picture)
    device.close()
    yield Figure("submissions an inference", device.submits, "", 1)


def _memory(model: Path) -> Iterator[Figure]:
    """Peak resident memory of fresh processes, by the operating system's count."""
    imports = _peak_bytes(IMPORTS)
    inference = _peak_bytes(INFERENCE.format(model=str(model)))
    yield Figure("peak memory, imports alone", imports / MEGABYTE, "MB")
    yield Figure("peak memory, compile and run", inference / MEGABYTE, "MB", 400)


def _peak_bytes(script: str) -> int:
    return int(run_fresh(script)[-1])


if __name__ == "__main__":
    sys.exit(main())
