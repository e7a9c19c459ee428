"""Run the jobs of a record again, on the emulator."""

from __future__ import annotations

from pathlib import Path

from rocketnpu.cli.terminal import print_json, print_table
from rocketnpu.virtual.record import Record
from rocketnpu.virtual.replay import replay


def run_record(path: Path, *, json: bool) -> int:
    """Print how each job's results differ from those recorded; 0 if none does, else 1."""
    rows: list[tuple[object, ...]] = []
    same = True
    with Record(path) as record:
        for job in replay(record):
            count = sum(difference.bytes for difference in job.differences)
            largest = max((difference.largest for difference in job.differences), default=0)
            rows.append((job.number, job.tasks, count, largest, job.failure or ""))
            same = same and job.same
    if json:
        names = ("job", "tasks", "different_bytes", "largest", "failure")
        print_json({"same": same, "jobs": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        print_table(("job>", "tasks>", "different bytes>", "largest>", "failure"), rows)
    return 0 if same else 1
