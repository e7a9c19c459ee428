"""Reading the file that an application names."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from rocketnpu.errors import ModelError


def read_file(path: str | PathLike[str]) -> bytes:
    """The file's bytes; raises ModelError with the system's reason."""
    try:
        return Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"can't read {path}: {reason}") from error
