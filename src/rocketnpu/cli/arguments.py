"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rocketnpu.errors import ModelError
from rocketnpu.images import Fit, Normalization

MODEL_ENDINGS = (".tflite", ".onnx", ".rknn")
"""Names of model files, which only `quantize` writes."""


def seed(text: str) -> int:
    """An argument that is an integer of at least 0."""
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    if text != digits:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 0")
    return int(text)


def positive(text: str) -> int:
    """An argument that is an integer of at least 1."""
    value = seed(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 1")
    return value


def channel_values(text: str) -> tuple[float, ...]:
    """An argument of one number, or of numbers with commas between them, one for each channel."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = (math.nan,)
    if not all(math.isfinite(value) for value in values):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number, nor numbers with commas between them")
    return values


def channel_divisors(text: str) -> tuple[float, ...]:
    """`channel_values` that are all positive."""
    values = channel_values(text)
    if min(values) <= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not positive")
    return values


def steps(text: str) -> float:
    """An argument that is a number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value >= 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def add_model(parser: argparse.ArgumentParser, kinds: str = ".tflite, .onnx, .rnpu or .rknn") -> None:
    """The positional argument MODEL."""
    parser.add_argument("model", type=Path, metavar="MODEL", help=f"a {kinds} file")


def check_output(output: Path, source: Path, ending: str) -> None:
    """Raise ModelError for an output that is `source` itself, or has a model's name; it should end in `ending`."""
    if output.suffix.lower() in MODEL_ENDINGS:
        raise ModelError(f"{output} has the name of a model: --output names a {ending} file")
    if output.exists() and source.exists() and output.samefile(source):
        raise ModelError(f"{output} is the input itself: --output names another file, a {ending} file")


def add_json(parser: argparse.ArgumentParser) -> None:
    """The flag --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")


def add_image(parser: argparse.ArgumentParser) -> None:
    """--image and how the picture becomes a tensor."""
    group = parser.add_argument_group("pictures")
    group.add_argument("--image", type=Path, metavar="FILE", help="a picture for the model's image input")
    sizes = [fit.value for fit in Fit]
    group.add_argument("--fit", choices=sizes, help="how it gets the input's size (default: stretch)")
    group.add_argument(
        "--mean", type=channel_values, metavar="M[,M,M]", help="real value = (pixel - mean) / std, pixels 0..255"
    )
    group.add_argument(
        "--std",
        type=channel_divisors,
        metavar="S[,S,S]",
        help="default: what the input's own range tells, of (0, 1), (0, 255) and (128, 128)",
    )


def check_image(arguments: argparse.Namespace) -> None:
    """Raise ModelError for options of a picture without a picture."""
    for name in ("fit", "mean", "std"):
        if arguments.image is None and getattr(arguments, name) is not None:
            raise ModelError(f"--{name} says how --image becomes a tensor: give --image, too")


def normalization(arguments: argparse.Namespace) -> Normalization | None:
    """What --mean and --std ask for; None when neither is given."""
    if arguments.mean is None and arguments.std is None:
        return None
    return Normalization(arguments.mean or (0.0,), arguments.std or (1.0,))
