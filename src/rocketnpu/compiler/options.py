"""What the caller of the compiler may choose, checked in one place."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import numpy as np

from rocketnpu.errors import CompileError
from rocketnpu.hw.limits import CORES
from rocketnpu.ir import Graph
from rocketnpu.program.model import ANY, ROCKET, TARGETS, Target

ALL = "all"
"""As `keep`: every tensor."""

LEVELS = (0, 1, 2)
"""Of `optimize`."""


@dataclass(frozen=True)
class Options:
    """How to compile. Raises CompileError for a value that does not exist.

    cores: the program has task lists for 1 .. cores cores; a program for rocket has those for one core alone, as that
    driver keeps the jobs of a descriptor on one core (hardware/kernels.md, `rocket`).
    keep: tensors that fusion must leave in place: a name, several, or "all".
    target: the driver that is to run the program. "any" and "rocket" have no task of the pooling unit alone, whose end
    rocket does not see (hardware/regcmd.md, What completes a task); "rknpu" may have some.
    optimize: how far the search for cheap tilings goes: 0 takes the first legal one, 2 looks farther than 1.
    experimental: take operators and forms whose only evidence is documentation (docs/evidence.md).
    """

    cores: int = 1
    keep: str | Collection[str] = ()
    target: Target = ANY
    optimize: int = 1
    experimental: bool = False

    def __post_init__(self) -> None:
        given = cast("dict[str, object]", vars(self))
        for name in ("cores", "optimize"):
            if not isinstance(given[name], int | np.integer):
                raise CompileError(f"{name} is a whole number, not {given[name]!r}")
        if not 1 <= self.cores <= CORES:
            raise CompileError(f"the chip has {CORES} cores; cores={self.cores} was asked for")
        keep = given["keep"]
        if not isinstance(keep, Collection) or not all(
            isinstance(name, str) for name in cast(Collection[object], keep)
        ):
            raise CompileError(f"keep is the name of a tensor, a collection of names, or {ALL!r}, not {keep!r}")
        if self.target not in TARGETS:
            raise CompileError(f"target is {', '.join(map(repr, TARGETS))}, not {self.target!r}")
        if self.target == ROCKET and self.cores > 1:
            raise CompileError(
                f"with rocket an inference runs on one core, cores={self.cores} was asked for: leave it out, "
                "Session.submit runs frames on all cores at the same time"
            )
        if self.optimize not in LEVELS:
            raise CompileError(f"optimize is 0, 1 or 2, not {self.optimize}")
        if not isinstance(given["experimental"], bool):
            raise CompileError(f"experimental is True or False, not {given['experimental']!r}")

    @property
    def names(self) -> tuple[str, ...]:
        """The tensors that `keep` names one by one."""
        return () if self.keep == ALL else (self.keep,) if isinstance(self.keep, str) else tuple(self.keep)

    def kept(self, graph: Graph) -> tuple[str, ...]:
        """The tensors of the graph to keep. Raises CompileError for a name that it does not have."""
        unknown = [name for name in self.names if name not in graph.tensors]
        if unknown:
            raise CompileError(f"keep names {unknown[0]!r}, which is not a tensor of the model")
        return tuple(graph.tensors) if self.keep == ALL else self.names
