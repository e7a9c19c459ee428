"""Runs any program on a virtual board: builds the library of preload.c once, starts a server, sets the environment."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rocketnpu.errors import Error
from rocketnpu.virtual.server import Server
from rocketnpu.virtual.system import System

QEMU = "qemu-aarch64"
"""A command whose name begins so runs arm64 programs: the library must be one, and the emulator must hand it on."""
_FLAGS = ("-O2", "-shared", "-fPIC", "-fvisibility=hidden")


@dataclass(frozen=True)
class Compiler:
    """A C compiler's command, and what it makes code for."""

    command: tuple[str, ...]
    machine: str


def native_compiler() -> Compiler:
    """This machine's C compiler; raises Error if there is none."""
    for name in ("cc", "gcc", "clang"):
        found = shutil.which(name)
        if found is not None:
            return Compiler((found,), os.uname().machine)
    raise Error("no C compiler (cc, gcc or clang) to build the library that goes in front of programs: install one")


def aarch64_compiler() -> Compiler:
    """A C compiler for arm64 programs; raises Error if there is none."""
    if os.uname().machine == "aarch64":
        return native_compiler()
    found = shutil.which("aarch64-linux-gnu-gcc")
    if found is not None:
        return Compiler((found,), "aarch64")
    if importlib.util.find_spec("ziglang") is not None:
        return Compiler((sys.executable, "-m", "ziglang", "cc", "-target", "aarch64-linux-gnu.2.17"), "aarch64")
    raise Error("no C compiler for arm64: install Debian's gcc-aarch64-linux-gnu, or ziglang from PyPI")


def build_library(compiler: Compiler, cache: Path | None = None) -> Path:
    """The library, built on first use into `cache` (default: the user's cache folder); raises Error if it cannot be."""
    source = files("rocketnpu.virtual").joinpath("preload.c").read_bytes()
    key = hashlib.sha256(b"\0".join([source, *(part.encode() for part in (*compiler.command, *_FLAGS))])).hexdigest()
    folder = cache_folder() if cache is None else cache
    library = folder / f"preload-{compiler.machine}-{key[:16]}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        text, built = Path(scratch, "preload.c"), Path(scratch, "preload.so")
        text.write_bytes(source)
        command = [*compiler.command, *_FLAGS, "-o", str(built), str(text), "-ldl", "-lpthread"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise Error(f"{compiler.command[0]}: {error.strerror}") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise Error(f"{' '.join(compiler.command)} cannot build the library: {lines[0] if lines else 'no message'}")
        built.replace(library)
    return library


def run(system: System, command: Sequence[str]) -> int:
    """Run a command with `system`'s device in front of it; its exit code (128 + N if signal N ended it).

    Raises Error if the library cannot be built or the command cannot be started.
    """
    if sys.platform != "linux":
        raise Error("putting a device in front of programs works on Linux only; VirtualKernel works everywhere")
    emulated = Path(command[0]).name.startswith(QEMU)
    library = build_library(aarch64_compiler() if emulated else native_compiler())
    with tempfile.TemporaryDirectory(prefix="rocketnpu-") as scratch:
        root, socket_path = Path(scratch, "root"), Path(scratch, "socket")
        system.tree.store(root)
        device = system.tree.device
        environment = {
            **os.environ,
            "ROCKETNPU_VIRTUAL_SOCKET": str(socket_path),
            "ROCKETNPU_VIRTUAL_NODE": f"{system.tree.node}={device.major}:{device.minor}",
            "ROCKETNPU_VIRTUAL_ROOT": str(root),
            "ROCKETNPU_VIRTUAL_PATHS": ";".join(system.tree.covered),
        }
        if emulated:
            environment["QEMU_SET_ENV"] = f"LD_PRELOAD={library}"
        else:
            environment["LD_PRELOAD"] = " ".join(filter(None, [str(library), os.environ.get("LD_PRELOAD")]))
        server = Server(system, socket_path)
        try:
            code = subprocess.run(command, env=environment, check=False).returncode
        except OSError as error:
            raise Error(f"{command[0]}: {error.strerror}") from None
        finally:
            server.close()
    return code if code >= 0 else 128 - code


def cache_folder() -> Path:
    """Where this user's programs keep what they can make again."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "rocketnpu"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rocketnpu"
