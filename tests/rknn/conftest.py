"""The vendor's compiled models and the tensors recorded for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

NAMES = ("a_channel", "a_layer", "a2_channel", "a2_layer", "b_channel", "b_layer")


@pytest.fixture(scope="session")
def vendor(shared: Path) -> dict[str, bytes]:
    """The containers by name."""
    return {name: (shared / "vectors" / "vendor" / f"{name}.rknn").read_bytes() for name in NAMES}


@pytest.fixture(scope="session")
def recorded(shared: Path) -> dict[str, dict[str, NDArray[np.int8]]]:
    """The vendor simulator's int8 tensors of each model, by tensor name."""
    return {name: dict(np.load(shared / "vectors" / "vendor" / f"{name}.tensors.npz")) for name in NAMES}
