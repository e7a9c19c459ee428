"""Ctrl-C ends the command line with code 130 and without a traceback, whatever is going on."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rocketnpu as rn
from rocketnpu.cli.command_line import COMMANDS
from support.models import ModelBuilder

INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["rocketnpu", "run", {model!r}, "--random", "1"]
from rocketnpu.cli import main
code = main()
assert not any(isinstance(finder, Interrupt) for finder in sys.meta_path), "the module is not imported"
sys.exit(code)
"""

INTERRUPTED_EXIT = """
import atexit, signal, sys, threading
atexit.register(signal.pthread_kill, threading.get_ident(), signal.SIGINT)  # os.kill may reach a library's thread
sys.argv = ["rocketnpu", "devices"]
from rocketnpu.cli import main
sys.exit(main())
"""


def ended(program: str) -> tuple[int, str]:
    """Exit code and standard error of a Python program."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "module",
    ["rocketnpu.cli.command_line", "argparse", "numpy", "PIL.Image", "rocketnpu.cli.run", "rocketnpu.compiler"],
)
def test_ctrl_c_during_an_import_ends_without_a_traceback(module: str, tmp_path: Path) -> None:
    model = ModelBuilder(seed=1)
    path = tmp_path / "m.tflite"
    path.write_bytes(model.build(model.conv2d(model.input((1, 8, 8, 8)), 8)))
    assert ended(INTERRUPTED_IMPORT.format(module=module, model=str(path))) == (130, "")


def test_ctrl_c_at_the_very_end_ends_without_a_traceback() -> None:
    assert ended(INTERRUPTED_EXIT) == (130, "")


def test_help_imports_no_array_library() -> None:
    program = "import sys; from rocketnpu.cli import main\ntry:\n main(['--help'])\nexcept SystemExit:\n pass\n"
    assert ended(program + "assert not {'numpy', 'rich', 'PIL', 'ai_edge_litert'} & sys.modules.keys()") == (0, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_summary_is_the_first_line_of_its_command(name: str) -> None:
    assert (import_module(f"rocketnpu.cli.{name}").__doc__ or "").splitlines()[0] == COMMANDS[name]


def test_importing_the_package_imports_what_is_used() -> None:
    program = (
        "import sys, rocketnpu; assert 'numpy' not in sys.modules; rocketnpu.Emulator; assert 'numpy' in sys.modules"
    )
    assert ended(program) == (0, "")
    assert set(rn.__all__) <= set(dir(rn))
