"""Records of jobs: what is in them, running them again, and files that are none."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emulator.npu_programs import body
from rocketnpu.cli import main
from rocketnpu.errors import ModelError
from rocketnpu.inspect.source import read_program
from rocketnpu.virtual import VirtualKernel
from rocketnpu.virtual.record import Record
from rocketnpu.virtual.replay import replay
from virtual.clients import CUBE_BYTES, RknpuClient, RocketClient, copy_task, noise


@pytest.fixture
def rocket_record(tmp_path: Path) -> Path:
    """Two jobs that copy a cube on, then one whose task hangs."""
    path = tmp_path / "jobs.zip"
    with VirtualKernel("rocket", record=path, faults="hang@task:3", watchdog_ms=20) as kernel:
        client = RocketClient(kernel)
        cubes = [client.cube(1), client.cube(), client.cube(), client.cube()]
        for source, target in itertools.pairwise(cubes):
            client.submit_copy(source, target)
        client.prepare(cubes[-1])
    return path


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The record with its first job changed."""
    target = path.with_name("changed.zip")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "jobs/000001.json":
                job = json.loads(data)
                change(job)
                data = json.dumps(job).encode()
            new.writestr(name, data)
    return target


def test_a_record_holds_jobs_lists_and_buffers(rocket_record: Path):
    with Record(rocket_record) as record:
        first, second, hung = record.jobs()
        assert [job.timed_out for job in (first, second, hung)] == [False, False, True]
        assert [len(job.chains) for job in (first, second, hung)] == [1, 1, 1]
        source, target = first.buffers[:2]
        assert (source.address, source.before, source.after) == (0, source.after, source.after)
        np.testing.assert_array_equal(record.content(target.after, target.size)[:CUBE_BYTES], noise(1))
        ((_, address, words),) = record.commands(first)
        assert address == first.chains[0][0][0]
        assert words[:-4].tolist() == body(copy_task(source.address, target.address)[0])


def test_jobs_run_again_with_the_same_bytes(rocket_record: Path, capsys: pytest.CaptureFixture[str]):
    with Record(rocket_record) as record:
        assert [(job.number, job.same) for job in replay(record)] == [(1, True), (2, True)]
    assert main(["run", str(rocket_record), "--replay"]) == 0
    assert "different bytes" in capsys.readouterr().out


def test_a_difference_is_found_where_it_is(rocket_record: Path):
    def change(job: dict[str, Any]) -> None:
        # As if the job had left its target untouched.
        job["buffers"][1]["after"] = job["buffers"][1]["before"]

    changed = rewrite(rocket_record, change)
    with Record(changed) as record:
        (difference,) = next(replay(record)).differences
        assert difference.bytes == np.count_nonzero(noise(1))
        assert difference.largest == np.abs(noise(1).view(np.int8).astype(int)).max()
    assert main(["run", str(changed), "--replay"]) == 1


def test_chains_of_several_cores_run_again(tmp_path: Path):
    path = tmp_path / "jobs.zip"
    with VirtualKernel("rknpu", record=path) as kernel:
        client = RknpuClient(kernel)
        cubes = [client.cube(seed) for seed in (1, None, None, 4, None)]
        a, b, c, d, e = (cube.address for cube in cubes)
        chains = [*client.chain(copy_task(a, b), copy_task(b, c)), *client.chain(copy_task(d, e))]
        client.submit(client.table(chains), {0: (0, 2), 1: (2, 1)}, core_mask=3)
    with Record(path) as record:
        assert [(job.tasks, job.same) for job in replay(record)] == [(3, True)]


def test_the_inspector_reads_the_lists_of_a_record(rocket_record: Path):
    program = read_program(rocket_record)
    assert [task.body_entries for task in program.tasks] == [len(copy_task(0, 0)[0])] * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda job: job.pop("chains"), "missing required field `chains`"),
        (lambda job: job["buffers"][0].update(address=1), "is no pages"),
        (lambda job: job["buffers"][0].update(size=1 << 40), "is no pages"),
        (lambda job: job["buffers"][0].update(address=job["buffers"][1]["address"]), "overlap"),
        (lambda job: job["buffers"][0].update(before="no such"), "no such"),
        (lambda job: job["buffers"][0].update(before="../jobs/000001.json"), "data/../jobs"),
        (lambda job: job["chains"][0][0].__setitem__(0, 0xFFFF_0000), "is in no buffer"),
        (lambda job: job["chains"][0][0].__setitem__(1, -5), "without a trailer"),
        (lambda job: job["chains"].extend([[[0, 1]]] * 3), "1..3 chains"),
    ],
)
def test_what_is_no_record_is_refused(rocket_record: Path, change: Callable[[dict[str, Any]], object], message: str):
    def read(record: Record) -> None:
        for job in record.jobs():
            list(record.commands(job))
        list(replay(record))

    with Record(rewrite(rocket_record, change)) as record, pytest.raises(ModelError, match=message):
        read(record)


def test_every_cut_of_a_record_is_refused(rocket_record: Path):
    data = rocket_record.read_bytes()
    cut = rocket_record.with_name("cut.zip")
    for length in range(0, len(data), 997):
        cut.write_bytes(data[:length])
        with pytest.raises(ModelError, match="not a whole record of jobs"):
            Record(cut)
