"""Classify the embedded pictures with the embedded model.

On the emulator unless --device says otherwise.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from PIL import Image
from rich.table import Table
from rich.text import Text

import rocketnpu as rn
from rocketnpu import demo
from rocketnpu.cli.results import real_values
from rocketnpu.cli.steps import print_steps
from rocketnpu.cli.terminal import console, print_line, progress
from rocketnpu.images import image_to_input

PICTURE_SIDE = 14
"""Columns of a drawn picture, and twice its rows: a character cell is about twice as high as wide."""

PICTURES_A_ROW = 5


@dataclass(frozen=True)
class Answer:
    """What the model said about one sample; `score` is its probability."""

    sample: demo.Sample
    digit: int
    score: float


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--device", default="emulator", help="emulator (default), auto, rocket or rknpu")


def execute(arguments: argparse.Namespace) -> int:
    """Run the command: 1 if a picture is classified wrongly."""
    start = time.perf_counter()
    program = rn.compile(demo.model())
    compiled = time.perf_counter()
    with rn.Session(program, device=arguments.device) as session:
        answers = classify(session)
        device = session.device.name
    ended = time.perf_counter()
    _print_answers(answers)
    print_steps(program, cores=1)
    right = sum(answer.digit == answer.sample.digit for answer in answers)
    print_line(
        f"{right} of {len(answers)} right; compiled in {compiled - start:.2f} s,"
        f" {(ended - compiled) / len(answers):.2f} s a picture on {device}"
    )
    return 0 if right == len(answers) else 1


def classify(session: rn.Session) -> list[Answer]:
    """The model's answer for every sample."""
    picture, scores = session.inputs[0], session.outputs[0]
    answers: list[Answer] = []
    with progress() as bar:
        for sample in bar.track(demo.samples(), description="classifying"):
            x = image_to_input(sample.image, picture.shape, picture.dtype, picture.quantization)
            probabilities = real_values(scores, session.run(x)[scores.name]).ravel()
            best = int(probabilities.argmax())
            answers.append(Answer(sample, best, float(probabilities[best])))
    return answers


def draw(image: Image.Image, *, ascii_only: bool) -> str:
    """A grey picture in characters, two rows of pixels a line, white where it is bright."""
    small = image.resize((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    bright = np.asarray(small) > 96
    cells = " .'#" if ascii_only else " ▄▀█"
    return "\n".join("".join(cells[2 * up + down] for up, down in zip(*pair, strict=True)) for pair in _pairs(bright))


def _pairs(bright: np.ndarray[tuple[int, ...], np.dtype[np.bool]]) -> list[tuple[list[int], list[int]]]:
    rows: list[list[int]] = bright.astype(int).tolist()
    return list(zip(rows[::2], rows[1::2], strict=True))


def _print_answers(answers: list[Answer]) -> None:
    screen = console()
    table = Table(show_header=False, show_lines=True)
    for first in range(0, len(answers), PICTURES_A_ROW):
        table.add_row(*(_cell(answer, screen.options.ascii_only) for answer in answers[first : first + PICTURES_A_ROW]))
    screen.print(table)


def _cell(answer: Answer, ascii_only: bool) -> Text:
    verdict = "right" if answer.digit == answer.sample.digit else f"WRONG, it is {answer.sample.digit}"
    return Text(f"{draw(answer.sample.image, ascii_only=ascii_only)}\n{answer.digit}  {answer.score:.1%}\n{verdict}")
