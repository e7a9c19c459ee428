"""Where the shared models and vectors are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

MOBILENET = "mobilenet_v1_1.0_224_quant.tflite"


def shared_folder() -> Path:
    """$ROCKETNPU_SHARED, or `shared` beside the checkout; ends the program with one line if there is none."""
    default = Path(__file__).resolve().parents[2] / "shared"
    folder = Path(os.environ.get("ROCKETNPU_SHARED", default))
    if not (folder / "models" / MOBILENET).is_file():
        sys.exit(f"no shared models at {folder}; set ROCKETNPU_SHARED to their folder")
    return folder
