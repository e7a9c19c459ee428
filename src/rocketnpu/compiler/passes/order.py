"""The order of operators: as few changes between the NPU and the CPU as there can be.

An operator on the CPU between two on the NPU ends a submission, also where neither has to do with it: the heads of a
detector, each followed by its change to float. Taking all that is ready on one side before going to the other gives the
fewest changes: whatever runs is ready no later than in any other order that starts on the same side.

1. While an operator is ready on the side where the last one was, the first of these is next. The NPU comes first.
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
    ready: dict[bool, list[int]] = {False: [], True: []}  # by whether it is on the CPU
    for index, item in enumerate(placed):
        if waits[index] == 0:
            heappush(ready[item.reason is not None], index)
    result: list[Placed] = []
    on_cpu = False
    while ready[False] or ready[True]:
        on_cpu = on_cpu if ready[on_cpu] else not on_cpu
        index = heappop(ready[on_cpu])
        result.append(placed[index])
        for reader in readers[index]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heappush(ready[placed[reader].reason is not None], reader)
    return tuple(result)
