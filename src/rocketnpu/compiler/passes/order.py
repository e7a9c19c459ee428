"""The order of operators: the NPU's as early, the CPU's as late as what they read allows.

An operator on the CPU between two on the NPU ends a submission, also where neither has to do with it: the heads of a
detector, each followed by its change to float.

1. Of the operators whose inputs exist, the first one on the NPU is next; without one, the first one on the CPU.
2. A model without operators on the CPU therefore keeps its order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from rocketnpu.compiler.passes.assign import Placed


def ordered(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """The operators in the order of rule 1; `placed` must be in an order that can run."""
    makers = {name: index for index, item in enumerate(placed) for name in item.operator.outputs}
    readers: dict[int, list[int]] = defaultdict(list)
    waits: list[int] = []
    for index, item in enumerate(placed):
        before = {makers[name] for name in item.operator.inputs if name in makers}
        waits.append(len(before))
        for maker in before:
            readers[maker].append(index)
    ready = sorted((item.reason is not None, index) for index, item in enumerate(placed) if waits[index] == 0)
    result: list[Placed] = []
    while ready:
        _, index = heappop(ready)
        result.append(placed[index])
        for reader in readers[index]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heappush(ready, (placed[reader].reason is not None, reader))
    return tuple(result)
