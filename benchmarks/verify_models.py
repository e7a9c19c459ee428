"""`python -m benchmarks.verify_models`: accuracy of all shared models against LiteRT's reference kernels, a line each.

`alone` compares each layer on the NPU fed with the reference's tensors; `output` is end to end. Exit code 1 if a layer
alone is more than 1 off.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.models import shared_folder
from rocketnpu.runtime.load import compile_model
from rocketnpu.verify import Difference, random_inputs, verify

COLUMNS = ("model", "npu", "cpu", "alone max", "unequal", "output max", "same top", "seconds")
WIDTHS = (46, 4, 4, 10, 10, 11, 9, 8)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verify_models", description=__doc__)
    parser.add_argument("--inputs", type=int, default=2, help="random inputs for each model (default: 2)")
    parser.add_argument("models", nargs="*", type=Path, help="default: all shared models")
    arguments = parser.parse_args()
    models = arguments.models or _shared_models()
    _print_row(COLUMNS)
    return 1 if max([_line(model, arguments.inputs) for model in models], default=0.0) > 1 else 0


def _shared_models() -> list[Path]:
    folder = shared_folder()
    quantized = [path for path in folder.glob("models/**/*.tflite") if "float32" not in path.name]
    return sorted([*quantized, *folder.glob("vectors/**/*.tflite")])


def _line(model: Path, count: int) -> float:
    """Print a model's line; the largest difference of any of its layers alone."""
    start = time.perf_counter()
    report = verify(model, random_inputs(compile_model(model), count))
    alone, output = Difference(), max(difference.maximum for difference in report.outputs.values())
    layers = [layer for layer in report.layers if layer.place == "npu"]
    for layer in layers:
        alone.elements += layer.isolated.elements
        alone.equal += layer.isolated.equal
    same_top = f"{min(report.same_top.values())}/{report.inputs}"
    _print_row(
        (
            model.name,
            len(layers),
            len(report.layers) - len(layers),
            f"{report.worst_npu_layer:g}",
            f"{1 - alone.equal_fraction:.4%}",
            f"{output:g}",
            same_top,
            f"{time.perf_counter() - start:.1f}",
        )
    )
    return report.worst_npu_layer


def _print_row(cells: Sequence[object]) -> None:
    """Names to the left, figures to the right."""
    first, *rest = (str(cell) for cell in cells)
    print(
        first.ljust(WIDTHS[0]), *(cell.rjust(width) for cell, width in zip(rest, WIDTHS[1:], strict=True)), flush=True
    )


if __name__ == "__main__":
    sys.exit(main())
