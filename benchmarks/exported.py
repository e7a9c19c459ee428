"""`python -m benchmarks.exported FOLDER`: what stays on the CPU of networks exported by PyTorch; how exact the rest is.

Exit code 1 if a layer on the NPU is more than 1 from ONNX Runtime. `benchmarks.exported_models` makes the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import rocketnpu as rn
from benchmarks.placement import BORDER
from rocketnpu.verify import verify


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported", description=__doc__)
    parser.add_argument("folder", type=Path)
    worst = 0.0
    for model in sorted(parser.parse_args().folder.glob("*.onnx")):
        report, program = verify(model), rn.compile(model)
        operators = [(step.place, operator.kind) for step in program.steps for operator in step.operators]
        left = Counter(kind for place, kind in operators if place == "cpu" and kind not in BORDER)
        on_npu = sum(place == "npu" for place, _ in operators)
        on_cpu = ", ".join(f"{count} {kind}" for kind, count in left.items()) or "nothing"
        print(
            f"{model.stem:16} {on_npu:3} operators within {report.worst_npu_layer:g}; on the CPU {on_cpu}", flush=True
        )
        worst = max(worst, report.worst_npu_layer)
    return 1 if worst > 1 else 0


if __name__ == "__main__":
    sys.exit(main())
