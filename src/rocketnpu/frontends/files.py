"""Reading the file that a user names: whole, up to a limit, and every failure one clear line."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from rocketnpu.errors import ModelError

MOST_BYTES = 1 << 30
"""Largest file that is read: more than any model for this chip needs, and an end for files that have none."""


def read_file(path: str | PathLike[str]) -> bytes:
    """The file's bytes.

    Raises ModelError with the system's reason, and for a directory, an empty path or a file of more than MOST_BYTES.
    """
    try:
        if not str(path):
            raise ModelError("the path of the file is empty")
        if Path(path).is_dir():
            raise ModelError(f"{path} is a directory, not a file")
        with Path(path).open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"can't read {path}: {reason}") from error
    if len(data) > MOST_BYTES:
        raise ModelError(f"{path} has more than {MOST_BYTES} bytes, the most that is read of a file")
    return data
