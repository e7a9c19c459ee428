"""What the commands print: tables, progress, JSON."""

from __future__ import annotations

import io
import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from rocketnpu.cli.text import plain, silence

LONGEST_NAME = 32
"""Longer names lose their beginning in tables; --json has them whole."""

_PAGE_WIDTH = 160
"""Columns of a table in an HTML page."""
PIPE_WIDTH = 1000
"""Columns for a table that goes to a file or a pipe: enough for any name to stay whole."""


class _Output(Console):
    """A console that lets the command go on when the reader has gone."""

    def on_broken_pipe(self) -> None:
        silence()


def console() -> Console:
    """The console of standard output."""
    return _Output(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)


def progress() -> Progress:
    """A progress bar on standard error that disappears when it is done, and is silent when that is no terminal."""
    errors = Console(stderr=True)
    return Progress(console=errors, transient=True, disable=not errors.is_terminal)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str | None = None) -> None:
    """Print rows under their headings; columns whose name ends in ">" are set to the right."""
    if title:
        print_line(title)
    console().print(_table(columns, rows))


Section: TypeAlias = tuple[str, Sequence[str], Sequence[Sequence[object]]]
"""A table's title, columns and rows, as `print_table` takes them."""


def html_page(sections: Iterable[Section]) -> str:
    """Titled tables as one HTML page."""
    page = Console(record=True, file=io.StringIO(), width=_PAGE_WIDTH, highlight=False)
    for title, columns, rows in sections:
        page.print(Text(plain(title)), soft_wrap=True)
        page.print(_table(columns, rows))
    return page.export_html(inline_styles=True)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table()
    for column in columns:
        side = "right" if column.endswith(">") else "left"
        table.add_column(column.removesuffix(">"), justify=side, overflow="fold")
    for row in rows:
        table.add_row(*(Text(plain(str(cell))) for cell in row))
    return table


def print_line(text: str) -> None:
    """Print one line as it is."""
    console().print(Text(plain(text)), soft_wrap=True)


def counted(number: int, noun: str) -> str:
    """The number with its noun, which takes an s in the plural."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document; its numbers are finite (see `finite`)."""
    try:
        print(json.dumps(document, indent=2, allow_nan=False), flush=True)
    except BrokenPipeError:
        silence()


def finite(value: float) -> float | None:
    """`value`, or None for one that JSON cannot express."""
    return value if math.isfinite(value) else None
