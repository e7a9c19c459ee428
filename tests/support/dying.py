"""Stand-ins for code of other projects that ends its process: which of their operators do so differs by release."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Any


class Dying:
    """What a child process makes and runs; it dies as by a division that overflows."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def run(self, _: Sequence[Any]) -> list[Any]:
        os.kill(os.getpid(), signal.SIGFPE)
        return []
