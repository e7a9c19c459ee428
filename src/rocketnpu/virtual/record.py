"""Records of what programs sent to the NPU: a ZIP archive that any tool opens.

`jobs/000001.json`, counted from 1 in the order in which the jobs ended, is one job:

    driver       "rocket" or "rknpu"
    chains       for each core that took part, its command lists in order: [address, entries before the trailer]
    chained      whether each core's lists were one chain (rknpu), or were kicked one by one (rocket)
    status       errno of the job, 0 if it ended well; `timed_out` if the watchdog ended it
    buffers      everything mapped in the job's address space: address, size (bytes), and the names of its content
                 before the job and after it; the same name twice for what the job is not meant to write
`data/NAME` is a buffer's content; NAME is its SHA-256, so that equal contents are stored once.
"""

from __future__ import annotations

import hashlib
import itertools
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import msgspec
import numpy as np
from numpy.typing import NDArray

from rocketnpu.archives import naming, open_archive
from rocketnpu.errors import ModelError
from rocketnpu.hw.page_table import PAGE_BYTES, PAGES
from rocketnpu.hw.regcmd import TRAILER_ENTRIES, Words
from rocketnpu.virtual.memory import PhysicalPages
from rocketnpu.virtual.objects import Buffer, Job

MAGIC = b"PK\x03\x04"
"""How every ZIP archive with anything in it begins."""
LIMIT_BYTES = 1 << 30
"""More than this in one job's buffers is refused: no job of this NPU's programs comes near it."""
_JSON_LIMIT_BYTES = 1 << 26


KIND = "record of jobs"


class Content(msgspec.Struct, frozen=True):
    """A buffer in a record."""

    address: int
    size: int
    before: str
    after: str


class JobRecord(msgspec.Struct, frozen=True):
    """A job in a record; see the module's text."""

    driver: str
    chains: list[list[tuple[int, int]]]
    chained: bool
    status: int
    timed_out: bool
    buffers: list[Content]


class Recorder:
    """Writes a record; the file is complete when it is closed."""

    def __init__(self, path: Path, pages: PhysicalPages) -> None:
        self._archive = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._pages = pages
        self._stored: set[str] = set()
        self._open: dict[Job, tuple[str, list[list[tuple[int, int]]], bool, list[tuple[Buffer, str, bool]]]] = {}
        self._count = 0

    def begin(
        self,
        job: Job,
        driver: str,
        buffers: Sequence[Buffer],
        chains: list[list[tuple[int, int]]],
        *,
        chained: bool,
        outputs: Sequence[Buffer],
    ) -> None:
        """A job is about to start; it may write `outputs`, some of `buffers`. Chains are as in the module's text."""
        before = [(buffer, self._store(buffer), buffer in outputs) for buffer in buffers]
        self._open[job] = (driver, chains, chained, before)

    def end(self, job: Job, *, timed_out: bool = False) -> None:
        """A job has ended, whether or not it had started."""
        if job not in self._open:
            return
        driver, chains, chained, before = self._open.pop(job)
        contents = [
            Content(
                buffer.address, buffer.size_bytes, name, self._store(buffer) if written and buffer.references else name
            )
            for buffer, name, written in before
        ]
        self._count += 1
        record = JobRecord(driver, chains, chained, job.status, timed_out, contents)
        self._archive.writestr(f"jobs/{self._count:06}.json", msgspec.json.encode(record))

    def close(self) -> None:
        """Complete the file."""
        self._archive.close()

    def _store(self, buffer: Buffer) -> str:
        content = self._pages.bytes[buffer.offset :][: buffer.size_bytes].data
        name = hashlib.sha256(content).hexdigest()
        if name not in self._stored:
            self._stored.add(name)
            self._archive.writestr(f"data/{name}", bytes(content))
        return name


class Record:
    """A record that is read; raises ModelError, also from its methods, for what is not as the module's text says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ends = ExitStack()
        self._archive = self._ends.enter_context(open_archive(path, KIND))
        self._names = sorted(name for name in self._archive.namelist() if name.startswith("jobs/"))

    def __len__(self) -> int:
        return len(self._names)

    def jobs(self) -> Iterator[JobRecord]:
        """All jobs in order, checked: buffers are page aligned, disjoint, within 32 bits; lists have a length."""
        for name in self._names:
            try:
                job = msgspec.json.decode(self._member(name, _JSON_LIMIT_BYTES), type=JobRecord)
            except (msgspec.DecodeError, RecursionError) as error:
                raise ModelError(f"{self._path}: {name}: {error}") from None
            self._check(name, job)
            yield job

    def content(self, name: str, size_bytes: int) -> NDArray[np.uint8]:
        """A buffer's bytes, uint8 [size_bytes], read-only."""
        data = self._member(f"data/{name}", size_bytes)
        if len(data) != size_bytes:
            raise ModelError(f"{self._path}: data/{name} has {len(data)} bytes, not {size_bytes}")
        return np.frombuffer(data, np.uint8)

    def commands(self, job: JobRecord) -> Iterator[tuple[int, int, Words]]:
        """Core position, address and words (trailer included) of every command list of a job."""
        for position, chain in enumerate(job.chains):
            for address, body_entries in chain:
                size = 8 * (body_entries + TRAILER_ENTRIES)
                for buffer in job.buffers:
                    start = address - buffer.address
                    if start >= 0 and start + size <= buffer.size:
                        content = self.content(buffer.before, buffer.size)
                        yield position, address, np.frombuffer(content[start : start + size].tobytes(), "<u8")
                        break
                else:
                    raise ModelError(f"{self._path}: the command list at {address:#x} is in no buffer of its job")

    def all_commands(self) -> bytes:
        """The command lists of all jobs, one after the other."""
        return b"".join(words.tobytes() for job in self.jobs() for _, _, words in self.commands(job))

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._ends.close()

    def _check(self, name: str, job: JobRecord) -> None:
        ordered = sorted(job.buffers, key=lambda buffer: buffer.address)
        for buffer in ordered:
            inside = 0 <= buffer.address < buffer.address + buffer.size <= PAGES * PAGE_BYTES
            if buffer.address % PAGE_BYTES or buffer.size % PAGE_BYTES or not inside:
                raise ModelError(f"{self._path}: {name}: buffer {buffer.address:#x}, {buffer.size} bytes, is no pages")
        for one, other in itertools.pairwise(ordered):
            if one.address + one.size > other.address:
                raise ModelError(f"{self._path}: {name}: buffers {one.address:#x} and {other.address:#x} overlap")
        if sum(buffer.size for buffer in job.buffers) > LIMIT_BYTES:
            raise ModelError(f"{self._path}: {name}: more than {LIMIT_BYTES} bytes of buffers")
        if any(body_entries < 0 for chain in job.chains for _, body_entries in chain):
            raise ModelError(f"{self._path}: {name}: a command list without a trailer")

    def _member(self, name: str, limit_bytes: int) -> bytes:
        if name not in self._archive.NameToInfo:
            raise ModelError(f"{self._path}: there is no {name} in it")
        with naming(self._path, KIND), self._archive.open(name) as file:
            return file.read(limit_bytes + 1)
