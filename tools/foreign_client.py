"""Run Mesa's own NPU driver, unmodified, on the virtual device: Debian's arm64 packages under qemu-aarch64.

    python tools/foreign_client.py prepare               once, about a minute and 200 MB: packages into the cache folder
    python tools/foreign_client.py run MODEL[=INPUT] ... each model through Mesa's TFLite delegate and LiteRT's kernels

Needs apt (a Debian or Ubuntu machine), dpkg-deb, pip, and a C compiler for arm64 (see virtual/preload.py). Nothing is
installed: apt works in folders of its own, and packages are only unpacked. Prints one JSON line for each model (the
operators that the delegate took, and how far all outputs differ) and one with the device's counters.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from rocketnpu.errors import Error
from rocketnpu.virtual.preload import aarch64_compiler, cache_folder, run
from rocketnpu.virtual.system import System

SUITES = ("trixie", "trixie-backports")
PACKAGES = ("mesa-teflon-delegate/trixie-backports", "python3", "libstdc++6")
"""Backports have the delegate with rocket (Mesa 26.1); trixie's own is older."""
WHEELS = ("ai-edge-litert", "numpy")
WHEEL_PLATFORMS = (
    "manylinux2014_aarch64",
    "manylinux_2_17_aarch64",
    "manylinux_2_27_aarch64",
    "manylinux_2_28_aarch64",
)
QEMU_PACKAGE = "qemu-user-static"
CPU = "cortex-a72"
"""qemu-user's default CPU has features that its older versions emulate very slowly."""
GUEST_PROGRAM = Path(__file__).with_name("foreign_client_guest.py")
READY = "ready.json"


def prepare(folder: Path) -> dict[str, str]:
    """Fill the cache folder, unless that has been done; the packages' versions. Raises Error if `run` would fail."""
    aarch64_compiler()
    ready = folder / READY
    if not ready.exists():
        shutil.rmtree(folder, ignore_errors=True)
        root = folder / "root"
        root.mkdir(parents=True)
        versions = _unpack_debian(folder, root)
        # What base-files does: programs name the loader by its old path.
        (root / "lib").symlink_to("usr/lib")
        versions |= _unpack_wheels(folder, root)
        if shutil.which("qemu-aarch64-static") is None:
            _unpack_qemu(folder)
        ready.write_text(json.dumps(versions))
    versions: dict[str, str] = json.loads(ready.read_text())
    return versions


def command(folder: Path, begun: Path, models: Sequence[str]) -> list[str]:
    """What runs the guest program on models; `begun` gets the number of each that it begins."""
    root = folder / "root"
    unpacked = folder / "qemu" / "usr" / "bin" / "qemu-aarch64-static"
    settings = {"PYTHONHOME": root / "usr", "PYTHONPATH": root / "wheels"}
    return [
        str(unpacked if unpacked.exists() else "qemu-aarch64-static"),
        *("-cpu", CPU, "-L", str(root)),
        *(part for name, value in settings.items() for part in ("-E", f"{name}={value}")),
        str(_python(root)),
        str(GUEST_PROGRAM),
        str(root / "usr" / "lib" / "teflon" / "libteflon.so"),
        str(begun),
        *models,
    ]


def run_models(system: System, folder: Path, models: Sequence[str]) -> int:
    """Run every model; one that ends the client gets a line that says so, and the others run in a new client.

    Returns 1 if there was such a model, else the client's exit code.
    """
    left, code = list(models), 0
    while left:
        with tempfile.TemporaryDirectory() as scratch:
            begun = Path(scratch, "begun")
            ended = run(system, command(folder, begun, left))
            count = len(begun.read_text().splitlines()) if begun.exists() else 0
        if not ended:
            break
        if not count:
            return ended
        path = left[count - 1].partition("=")[0]
        print(json.dumps({"model": Path(path).name, "error": f"the client ended with exit code {ended}"}), flush=True)
        left, code = left[count:], 1
    return code


def _unpack_debian(folder: Path, root: Path) -> dict[str, str]:
    apt = folder / "apt"
    for name in ("lists/partial", "archives/partial", "etc"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    mirror, keyring = _mirror()
    sources = [f"deb [signed-by={keyring}] {mirror} {suite} main\n" for suite in SUITES]
    (apt / "etc" / "sources.list").write_text("".join(sources))
    settings = {
        "Dir::State": apt,
        "Dir::State::status": apt / "status",
        "Dir::State::Lists": apt / "lists",
        "Dir::Cache": apt,
        "Dir::Cache::Archives": apt / "archives",
        "Dir::Etc::SourceList": apt / "etc" / "sources.list",
        "Dir::Etc::SourceParts": os.devnull,
        "Dir::Etc::Preferences": os.devnull,
        "Dir::Etc::PreferencesParts": os.devnull,
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Debug::NoLocking": "1",
    }
    (apt / "apt.conf").write_text("".join(f'{name} "{value}";\n' for name, value in settings.items()))
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    _call(["apt-get", "update"], environment)
    options = ["--yes", "--download-only", "--no-install-recommends", f"--target-release={SUITES[1]}"]
    _call(["apt-get", *options, "install", *PACKAGES], environment)
    packages = sorted((apt / "archives").glob("*.deb"))
    for package in packages:
        _call(["dpkg-deb", "--extract", str(package), str(root)])
    return {package.name.split("_")[0]: package.name.split("_")[1] for package in packages}


def _unpack_wheels(folder: Path, root: Path) -> dict[str, str]:
    version = _python(root).name.removeprefix("python")
    wheels = folder / "wheels"
    platforms = [part for platform in WHEEL_PLATFORMS for part in ("--platform", platform)]
    options = ["--quiet", "--only-binary=:all:", "--implementation=cp", f"--python-version={version}", *platforms]
    _call([sys.executable, "-m", "pip", "download", *options, "--dest", str(wheels), *WHEELS])
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(root / "wheels")
    return {wheel.name.split("-")[0]: wheel.name.split("-")[1] for wheel in wheels.glob("*.whl")}


def _unpack_qemu(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        _call(["apt-get", "-o", "APT::Sandbox::User=root", "download", QEMU_PACKAGE], folder=Path(scratch))
        for package in Path(scratch).glob("*.deb"):
            _call(["dpkg-deb", "--extract", str(package), str(folder / "qemu")])


def _python(root: Path) -> Path:
    return next(file for file in sorted((root / "usr" / "bin").iterdir()) if re.fullmatch(r"python3\.\d+", file.name))


def _mirror() -> tuple[str, str]:
    """This machine's mirror of Debian's archive and its keyring."""
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    for file in sorted(Path("/etc/apt/sources.list.d").glob("*.sources")):
        for paragraph in file.read_text().split("\n\n"):
            fields = dict(re.findall(r"^([A-Za-z-]+):[ \t]*(.*)$", paragraph, re.MULTILINE))
            uris = fields.get("URIs", "").split()
            if uris and uris[0].rstrip("/").endswith("/debian"):
                return uris[0], fields.get("Signed-By", keyring)
    listing = Path("/etc/apt/sources.list")
    found = re.search(r"^deb\s+(?:\[.*?\]\s+)?(\S+/debian/?)\s", listing.read_text() if listing.exists() else "", re.M)
    if found is None:
        raise Error("no mirror of Debian's archive among this machine's apt sources")
    return found[1], keyring


def _call(arguments: Sequence[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
    try:
        done = subprocess.run(arguments, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Error(f"{arguments[0]}: {error.strerror}") from None
    if done.returncode:
        raise Error(f"{' '.join(arguments)} failed:\n{done.stderr.strip()}")


def main() -> int:
    """The command line; see the module's text."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cache", type=Path, default=cache_folder() / "foreign-client", help="default: %(default)s")
    parser.add_argument("--record", type=Path, help="store every job in this file")
    parser.add_argument("action", choices=["prepare", "run"])
    parser.add_argument("models", nargs="*", metavar="MODEL[=INPUT]", help="INPUT: raw bytes; default: random, seed 0")
    arguments = parser.parse_args()
    try:
        versions = prepare(arguments.cache.resolve())
        if arguments.action == "prepare":
            print(json.dumps(versions))
            return 0
        system = System("rocket", record=arguments.record)
        try:
            code = run_models(system, arguments.cache.resolve(), arguments.models)
            print(json.dumps({"counters": system.counters, "messages": system.messages}), flush=True)
        finally:
            system.stop()
    except Error as error:
        print(error, file=sys.stderr)
        return 2
    return code


if __name__ == "__main__":
    sys.exit(main())
