"""Fixtures that every test can use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The same cases every time, however busy the machine is; `--hypothesis-profile=search` looks for new ones, and longer.
settings.register_profile("repeatable", deadline=None, derandomize=True)
settings.register_profile("search", deadline=None, max_examples=2000)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of hardware tables, vectors and models: $ROCKETNPU_SHARED, or `shared` beside the checkout."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ROCKETNPU_SHARED", default))
    if not (folder / "hardware" / "registers.csv").is_file():
        message = f"no shared vectors at {folder}; set ROCKETNPU_SHARED to their folder"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return folder
