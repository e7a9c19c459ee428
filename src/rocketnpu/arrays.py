"""Arrays from numpy's files, without trusting them: a header is checked before memory is taken for what it claims."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rocketnpu.archives import open_archive
from rocketnpu.errors import ModelError


def read_npy(
    file: IO[bytes], path: str | Path, check: Callable[[tuple[int, ...], np.dtype[Any]], None] | None = None
) -> NDArray[Any]:
    """The array of one .npy stream; `path` is what errors call it.

    `check` gets the shape and dtype that the header claims, and raises if they are not wanted. Arrays of other things
    than numbers and booleans are refused. Raises ModelError for what is no whole array.
    """
    try:
        version = npy.read_magic(file)
        header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = header(file)
    except zipfile.BadZipFile:
        raise
    except Exception as error:  # numpy's header parser lets through what its tokenizer and dtype parser raise
        raise ModelError(f"{path}: not a .npy array ({type(error).__name__}); write it with numpy.save") from None
    if check is not None:
        check(shape, dtype)
    if dtype.kind not in "iufb":
        raise ModelError(f"{path}: an array of {dtype}; numbers are needed")
    size_bytes = dtype.itemsize * math.prod(shape)
    data = file.read(size_bytes)
    if len(data) != size_bytes:
        raise ModelError(f"{path}: an array of shape {shape} is cut short")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")


@contextmanager
def open_npz(path: str | Path) -> Generator[zipfile.ZipFile]:
    """A .npz file, of which `archive.open(f"{name}.npy")` is the stream of an array.

    Raises ModelError when it is damaged, then or while it is read, OSError when it cannot be read.
    """
    with open_archive(path, ".npz file") as archive:
        yield archive
