"""Reading the file that a user names: whole, up to a limit, and every failure one clear line."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import BinaryIO

from rocketnpu.errors import ModelError

MOST_BYTES = 1 << 30
"""Largest file that is read: more than any model for this chip needs, and an end for files that have none."""

_CHUNK_BYTES = 1 << 20
"""How much is read at once of what has no size, such as a pipe."""


@dataclass(frozen=True)
class ModelFile:
    """A model as it was read: its bytes, and its path if it has one."""

    data: bytes = field(repr=False)
    path: Path | None = None

    @property
    def where(self) -> str:
        """What errors about the file call it: its path."""
        return "the model" if self.path is None else str(self.path)

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return "the model" if self.path is None else self.path.name


def open_model(source: str | PathLike[str] | bytes | ModelFile) -> ModelFile:
    """The model of a path, or of a file's bytes.

    Raises ModelError for a path that can't be read (see `read_file`), and for anything else.
    """
    if isinstance(source, ModelFile):
        return source
    if isinstance(source, bytes):
        return ModelFile(source)
    if not isinstance(source, str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
        raise ModelError(f"a model is a path or a file's bytes, not {type(source).__name__}")
    return ModelFile(read_file(source), Path(source))


def read_file(path: str | PathLike[str]) -> bytes:
    """The file's bytes. The memory that this takes follows from the file's size, not from the limit.

    Raises ModelError with the system's reason, and for a directory, a device, an empty path or a file of more than
    MOST_BYTES.
    """
    try:
        if not str(path):
            raise ModelError("the path of the file is empty")
        kind = Path(path).stat().st_mode
        if stat.S_ISDIR(kind):
            raise ModelError(f"{path} is a directory, not a file")
        if stat.S_ISCHR(kind) or stat.S_ISBLK(kind):
            raise ModelError(f"{path} is a device, not a file")
        with Path(path).open("rb") as file:
            data = _content(file)
    except (OSError, ValueError) as error:
        raise ModelError(f"can't read {path}: {reason_of(error)}") from error
    if data is None:
        raise ModelError(f"{path} has more than {MOST_BYTES} bytes, the most that is read of a file")
    return data


def reason_of(error: OSError | ValueError) -> str:
    """Why a file can't be read, in the system's words."""
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


def _content(file: BinaryIO) -> bytes | None:
    """All bytes of a file; None for one that has more than MOST_BYTES."""
    size = os.fstat(file.fileno()).st_size  # 0 for a pipe
    if size > MOST_BYTES:
        return None
    parts = [file.read(size)]
    total = len(parts[0])
    while part := file.read(_CHUNK_BYTES):
        parts.append(part)
        total += len(part)
        if total > MOST_BYTES:
            return None
    return b"".join(parts) if len(parts) > 1 else parts[0]
