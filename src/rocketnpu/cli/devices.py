"""Show what this machine can run programs on."""

from __future__ import annotations

import argparse
from dataclasses import asdict

import rocketnpu as rn
from rocketnpu.cli.arguments import add_json
from rocketnpu.cli.terminal import print_json, print_table


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    found = [asdict(device) for device in rn.devices()]
    if arguments.json:
        print_json({"devices": found})
    else:
        print_table(list(found[0]), [list(device.values()) for device in found])
    return 0
