"""`python -m benchmarks.degenerate`: drawn layers with degenerate numbers against exact arithmetic.

Zero filters, scales from subnormal to 1e30, zero points at the ends, biases to the ends of int32, gains from 1e-14 to
1e3, as TFLite, ONNX QDQ and ONNX QLinear files. Each result of the NPU must be within 1 of the exact one. Else the
operator is left to the CPU, or the file refused, by a sentence that names a tensor and a number; the CPU's runtime may
refuse it then. Exit code 1 if one is none of these.
"""

from __future__ import annotations

import argparse
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

import rocketnpu as rn
from benchmarks.degenerate_draws import KINDS, WEIGHTED, Layer, describe, draw, exact
from benchmarks.degenerate_files import FORMATS, TENSORS, has_format, result_of, write

ON_NPU, LEFT, LEFT_REFUSED, REFUSED, WRONG = "NPU, within 1", "CPU", "CPU, refused", "refused", "WRONG"
OUTCOMES = (ON_NPU, LEFT, LEFT_REFUSED, REFUSED, WRONG)


@dataclass(frozen=True)
class Case:
    """One draw: everything follows from these. `kinds` are those that take turns."""

    seed: int
    number: int
    kinds: tuple[str, ...] = KINDS

    def layer(self) -> tuple[Layer, str]:
        """The layer and the format of its file."""
        combinations = [(kind, format_) for kind in self.kinds for format_ in FORMATS if has_format(kind, format_)]
        kind, format_ = combinations[self.number % len(combinations)]
        return draw(np.random.default_rng((self.seed, self.number)), kind, format_), format_


@dataclass(frozen=True)
class Outcome:
    """What became of a case, and the sentence or the fault that goes with it."""

    kind: str
    words: str = ""
    unequal: float = 0.0
    inside: float = 0.0


def outcome(layer: Layer, format_: str) -> Outcome:
    """Compile and run a layer, and compare."""
    model, inputs = write(layer, format_)
    try:
        program = rn.compile(model)
    except rn.Error as refusal:
        return _named(REFUSED, str(refusal))
    except Exception:
        return Outcome(WRONG, traceback.format_exc())
    refused = ""
    try:
        with rn.Session(program, device="emulator") as session:
            (result,) = session.run(inputs).values()
    except rn.Error as refusal:
        result, refused = None, str(refusal)
    except Exception:
        return Outcome(WRONG, traceback.format_exc())
    reasons = [op.reason for step in program.steps for op in step.operators if op.reason is not None]
    if reasons:  # what LiteRT or ONNX Runtime make of it is not ours to judge
        kind = LEFT if result is not None else LEFT_REFUSED
        found = [_named(kind, reason) for reason in reasons]
        return next((each for each in found if each.kind == kind), found[0])
    if result is None:
        return Outcome(WRONG, refused)
    expected = exact(layer)
    difference = np.abs(result_of(layer, result, format_) - expected)
    if difference.max() > 1:
        return Outcome(WRONG, f"{difference.max()} steps off, {np.mean(difference > 1):.1%} of the result")
    inside = (expected > -128) & (expected < 127)
    return Outcome(ON_NPU, unequal=float(np.mean(difference != 0)), inside=float(inside.mean()))


def _named(kind: str, sentence: str) -> Outcome:
    """`kind` if the sentence names a tensor and a number."""
    tensor = any(re.search(rf"\b{name}", sentence) for name in TENSORS)
    number = re.search(r"\d|\b(inf|nan)\b", re.sub(r"int8|uint8|float32|int32|32 bits", "", sentence))
    return Outcome(kind if tensor and number else WRONG, sentence)


def cases(convolutions: int, others: int, seed: int) -> Iterator[Case]:
    """The draws of a seed: layers with weights, then the other kinds."""
    for count, kinds in ((convolutions, WEIGHTED), (others, tuple(kind for kind in KINDS if kind not in WEIGHTED))):
        yield from (Case(seed, number, kinds) for number in range(count))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.degenerate", description=__doc__)
    parser.add_argument("--draws", type=int, default=5000, help="convolutions and fully connected layers (5000)")
    parser.add_argument("--others", type=int, default=1000, help="element-wise operators (1000)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table, sentences, on_npu = Counter[tuple[str, str, str]](), Counter[str](), list[Outcome]()
    wrong = 0
    for case in cases(arguments.draws, arguments.others, arguments.seed):
        layer, format_ = case.layer()
        found = outcome(layer, format_)
        table[layer.kind, format_, found.kind] += 1
        if found.kind == ON_NPU:
            on_npu.append(found)
        elif found.kind == WRONG:
            wrong += 1
            print(f"draw {case.number}, {format_} {describe(layer)}: {found.words}", flush=True)
        else:
            sentences[re.sub(r"\d[\d.e+-]*", "N", re.sub(r" \(.*", "", found.words))] += 1
    _print(table, sentences, on_npu)
    return int(wrong > 0)


def _print(table: Counter[tuple[str, str, str]], sentences: Counter[str], on_npu: list[Outcome]) -> None:
    rows = sorted({(kind, format_) for kind, format_, _ in table}, key=lambda row: (FORMATS.index(row[1]), row[0]))
    print(f"{'':24s}" + "".join(f"{name:>16s}" for name in OUTCOMES))
    for kind, format_ in rows:
        print(f"{format_ + ' ' + kind:24s}" + "".join(f"{table[kind, format_, name]:16d}" for name in OUTCOMES))
    totals = [sum(count for key, count in table.items() if key[2] == name) for name in OUTCOMES]
    print(f"{'all':24s}" + "".join(f"{total:16d}" for total in totals))
    for words, field in (("1 from the exact ones", "unequal"), ("inside the range of int8", "inside")):
        share = np.mean([getattr(found, field) for found in on_npu] or [0.0])
        print(f"{share:8.2%} of the NPU's bytes are {words}")
    for sentence, count in sentences.most_common():
        print(f"{count:6d}  {sentence}")


if __name__ == "__main__":
    sys.exit(main())
