"""Text of foreign files made harmless, and output that nobody reads."""

from __future__ import annotations

import os
import sys


def plain(text: str) -> str:
    """`text` on one line and without control characters: a file's names must not steer the terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def silence() -> None:
    """Send standard output nowhere: its reader has gone (`| head`), but the command's exit code still counts."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
