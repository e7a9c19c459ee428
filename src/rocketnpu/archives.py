"""ZIP files from outside. Damage is an error with the file's name, and no member unpacks to more than was asked for."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from rocketnpu.errors import ModelError

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Python unpacks bzip2 and LZMA in blocks of any size, however few bytes are asked for."""

_DAMAGE = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError, OSError, zlib.error)
"""What zipfile raises for files that are no whole archives, or that want a password."""


@contextmanager
def open_archive(path: str | Path, kind: str) -> Generator[zipfile.ZipFile]:
    """An archive of stored and deflated members; `kind` is what errors say the file should be.

    Raises ModelError for a damaged file, then or while it is read, and OSError when it cannot be opened.
    """
    with open(path, "rb") as file, naming(path, kind):
        archive = zipfile.ZipFile(file)
        for info in archive.infolist():
            if info.compress_type not in _METHODS:
                raise ModelError(f"{path}: {info.filename!r} is packed by method {info.compress_type}; use deflate")
        with archive:
            yield archive


@contextmanager
def naming(path: str | Path, kind: str) -> Generator[None]:
    """Raise ModelError with the file's name for what zipfile raises while it reads a damaged archive."""
    try:
        yield
    except _DAMAGE as error:
        raise ModelError(f"{path}: not a whole {kind} ({error or type(error).__name__})") from None
