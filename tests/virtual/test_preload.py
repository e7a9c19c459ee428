"""Ordinary programs with the virtual device in front of them."""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.cli import main
from rocketnpu.errors import Error
from rocketnpu.verify import random_inputs
from rocketnpu.virtual.preload import Compiler, build_library, native_compiler, run
from rocketnpu.virtual.system import System
from support.models import ModelBuilder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and device nodes are Linux's"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc)"),
]
PROGRAM = Path(__file__).with_name("preloaded.py")


def run_program(
    what: str, monkeypatch: pytest.MonkeyPatch, *, faults: str = "", watchdog_ms: int = 500
) -> dict[str, int]:
    """The counters after the program's end."""
    monkeypatch.setenv("PYTHONPATH", str(PROGRAM.parents[1]), prepend=":")
    system = System("rocket", memory_bytes=1 << 24, faults=faults, watchdog_ms=watchdog_ms)
    try:
        assert run(system, [sys.executable, str(PROGRAM), what]) == 0
        return system.counters
    finally:
        system.stop()


@pytest.mark.parametrize("what", ["copy", "files", "inherited", "mappings", "bad_pointers"])
def test_a_program_finds_the_device_and_leaves_nothing_behind(what: str, monkeypatch: pytest.MonkeyPatch):
    counters = run_program(what, monkeypatch)
    assert [counters.get(name, 0) for name in ("files", "buffers", "mappings", "timeouts")] == [0, 0, 0, 0]


def test_a_thread_that_waits_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch):
    assert run_program("threads", monkeypatch, faults="hang@task:1", watchdog_ms=1000)["timeouts"] == 1


def test_a_signal_interrupts_a_wait(monkeypatch: pytest.MonkeyPatch):
    start = time.monotonic()
    counters = run_program("signals", monkeypatch, faults="hang@task:1", watchdog_ms=60_000)
    assert time.monotonic() - start < 30
    assert counters["files"] == 0


def test_a_killed_server_is_a_device_that_is_gone(monkeypatch: pytest.MonkeyPatch):
    assert run_program("killed", monkeypatch, faults="kill@submit:1")["files"] == 0


@pytest.mark.parametrize("driver", ["rocket", "rknpu"])
def test_a_model_runs_through_real_system_calls_with_the_emulators_bytes(
    driver: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    model = ModelBuilder(seed=3)
    x = model.input((1, 8, 8, 16))
    program = rn.compile(model.build(model.conv2d(x, 16, kernel=3)))
    (inputs,) = random_inputs(program, 1)
    with rn.Session(program, device="emulator") as session:
        expected = session.run(inputs)
    program.save(tmp_path / "model.rnpu")
    np.savez(tmp_path / "input.npz", **inputs)
    (tmp_path / "client.py").write_text(
        "import sys, numpy as np, rocketnpu as rn\n"
        "assert [info.name for info in rn.devices()] == [sys.argv[1], 'emulator'], rn.devices()\n"
        "with rn.Session('model.rnpu', device='auto') as session:\n"
        "    np.savez('output.npz', **session.run(dict(np.load('input.npz'))))\n"
    )
    command = ["sh", "-c", f"cd {tmp_path} && exec {sys.executable} client.py {driver}"]
    assert main(["virtual", "--driver", driver, "--stats", "--", *command]) == 0
    with np.load(tmp_path / "output.npz") as found:
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array)
    assert "jobs 1" in capfd.readouterr().err


def test_the_programs_exit_code_is_the_commands(capfd: pytest.CaptureFixture[str]):
    assert main(["virtual", "--", sys.executable, "-c", "raise SystemExit(7)"]) == 7
    assert main(["virtual", "--", "/no/such/program"]) == 2
    assert "/no/such/program: No such file or directory" in capfd.readouterr().err
    assert main(["virtual", "--fault", "EWHAT@submit:1", "--", "true"]) == 2
    assert "'EWHAT' is neither" in capfd.readouterr().err
    assert main(["virtual"]) == 2


def test_the_library_is_built_once_and_a_failing_compiler_is_said(tmp_path: Path):
    library = build_library(native_compiler(), tmp_path)
    built = library.stat().st_mtime_ns
    assert build_library(native_compiler(), tmp_path) == library
    assert library.stat().st_mtime_ns == built
    assert [file.name for file in tmp_path.iterdir()] == [library.name]
    with pytest.raises(Error, match="false cannot build the library"):
        build_library(Compiler((shutil.which("false") or "false",), "none"), tmp_path)
