"""The files that programs find the virtual device by."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from rocketnpu.virtual.tree import Tree, rknpu_tree, rocket_tree
from virtual.clients import fails


@pytest.mark.parametrize(
    ("tree", "node", "number", "driver"),
    [
        (rocket_tree(), "/dev/accel/accel0", "261:0", "rocket"),
        (rknpu_tree(), "/dev/dri/renderD129", "226:129", "RKNPU"),
    ],
)
def test_sysfs_leads_from_the_nodes_number_to_the_driver(tree: Tree, node: str, number: str, driver: str):
    status = tree.stat(node)
    assert stat.S_ISCHR(status.st_mode)
    folder, name = node.rsplit("/", 1)
    assert tree.listdir(folder) == [name]
    assert f"DRIVER={driver}\n" in tree.read_text(f"/sys/dev/char/{number}/device/uevent")
    assert tree.read_text(f"/sys/dev/char/{number}/dev") == f"{number}\n"
    assert tree.readlink(f"/sys/dev/char/{number}/device/subsystem") == "/sys/bus/platform"
    assert stat.S_ISDIR(tree.stat(f"/sys/dev/char/{number}").st_mode)


def test_what_is_not_there_fails_as_the_system_does():
    tree = rocket_tree()
    assert not tree.exists("/dev/accel/accel1")
    with fails(errno.ENOENT):
        tree.stat("/nowhere")
    with fails(errno.ENOTDIR):
        tree.listdir("/dev/accel/accel0")
    with fails(errno.EISDIR):
        tree.read_text("/dev/accel")
    with fails(errno.EINVAL):
        tree.readlink("/dev/accel/accel0")
    with fails(errno.ENOENT):
        tree.readlink("/dev/accel/accel1")


def test_stored_files_say_the_same(tmp_path: Path):
    tree = rocket_tree()
    tree.store(tmp_path)
    uevent = "sys/dev/char/261:0/device/uevent"
    assert (tmp_path / uevent).read_text() == tree.read_text(f"/{uevent}")
    assert (tmp_path / "dev/accel/accel0").read_text() == ""
