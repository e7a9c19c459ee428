"""The system calls of LinuxKernel, taken by a virtual kernel in another process (a preloaded library)."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.resources import as_file, files
from typing import Any

import pytest

from drivers.boards import DRIVERS


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs Linux and a C compiler")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_program_finds_and_uses_the_board_through_system_calls(driver: str) -> None:
    with as_file(files("rocketnpu.demo").joinpath("digits.tflite")) as model:
        run = [sys.executable, "-m", "rocketnpu", "run", str(model), "--random", "1", "--json", "--device"]
        virtual = [sys.executable, "-m", "rocketnpu", "virtual", "--driver", driver, "--", *run, driver]
        assert outputs(virtual) == outputs([*run, "emulator"])


def outputs(command: list[str]) -> Any:
    """What `rocketnpu run --json` says of the outputs."""
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)["outputs"]
