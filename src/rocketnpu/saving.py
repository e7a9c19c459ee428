"""Files that are written whole: a name holds the old content or the new one, whatever happens while it is written."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Generator[Path]:
    """A new file beside `path`, to be written and closed by the caller. It takes the place of `path` at the end.

    When the caller fails, or the process ends before, what was at `path` stays. Raises OSError that names `path`.
    A `path` that is no regular file, such as /dev/stdout, is written as it is.
    """
    target = Path(path)
    try:
        if target.exists() and not target.is_file():
            yield target
            return
        target = target.resolve()  # a link stays one
        part = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
        os.close(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        try:
            if target.exists():
                part.chmod(target.stat().st_mode & 0o777)
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            os.replace(part, target)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink()
            raise
    except OSError as error:
        # A full disk does not say which file it was.
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def write_whole(path: str | Path, data: bytes) -> None:
    """Write a file. Raises OSError that names it; the old content is then still there."""
    with replacing(path) as part:
        part.write_bytes(data)
