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
    found = rn.devices()
    if arguments.json:
        print_json({"devices": [asdict(device) for device in found]})
    else:
        rows = [
            (device.name, device.version, device.node or "", device.cores, device.problem or "") for device in found
        ]
        print_table(("device", "version", "node", "cores>", "problem"), rows)
    return 0
