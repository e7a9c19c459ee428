"""Check whether this machine can run programs on its NPU, and say what to do where it cannot."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from rocketnpu.cli.arguments import add_json
from rocketnpu.cli.terminal import counted, print_json, print_line, print_table
from rocketnpu.doctor import State, diagnose
from rocketnpu.errors import ModelError
from rocketnpu.runtime.kernel import LinuxKernel


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--root", type=Path, default=Path("/"), metavar="DIR", help="look at a copy of /proc, /sys and /dev below DIR"
    )
    add_json(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Run the command."""
    if not arguments.root.is_dir():
        raise ModelError(f"--root {arguments.root}: not a directory")
    findings = diagnose(LinuxKernel(arguments.root))
    problems = sum(finding.state == State.PROBLEM for finding in findings)
    if arguments.json:
        print_json({"ready": not problems, "findings": [asdict(finding) for finding in findings]})
    else:
        print_table(
            ("subject", "state", "found", "advice"),
            [(finding.subject, finding.state.value, finding.found, finding.advice) for finding in findings],
        )
        print_line(f"the NPU cannot be used: {counted(problems, 'problem')}" if problems else "the NPU can be used")
    return 1 if problems else 0
