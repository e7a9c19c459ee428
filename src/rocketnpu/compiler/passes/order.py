"""The order of operators: as few changes between the NPU and the CPU as there can be.

An operator on the CPU between two on the NPU ends a submission, also where neither has to do with it: the heads of a
detector, each followed by its change to float. Taking all that is ready on one side before going to the other gives the
fewest changes: whatever runs is ready no later than in any other order that starts on the same side.

1. While an operator is ready on the side where the last one was, the first of these is next. The NPU comes first.
2. A model without operators on the CPU therefore keeps its order.
3. Operators that must run in one piece (keep_together.py) count as one, and keep their order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from heapq import heappop, heappush

from rocketnpu.compiler.passes.assign import Placed
from rocketnpu.compiler.passes.keep_together import units


def ordered(placed: Sequence[Placed]) -> tuple[Placed, ...]:
    """The operators in the order of rules 1 and 3; `placed` must be in an order that can run."""
    members = units([item.operator for item in placed])
    unit_of = {index: number for number, unit in enumerate(members) for index in unit}
    makers = {name: unit_of[index] for index, item in enumerate(placed) for name in item.operator.outputs}
    readers: dict[int, list[int]] = defaultdict(list)
    waits: list[int] = []
    for number, unit in enumerate(members):
        before = {makers[name] for index in unit for name in placed[index].operator.inputs if name in makers}
        before.discard(number)
        waits.append(len(before))
        for maker in before:
            readers[maker].append(number)
    side = [any(placed[index].reason is not None for index in unit) for unit in members]  # True: the CPU
    ready: dict[bool, list[int]] = {False: [], True: []}
    for number in range(len(members)):
        if waits[number] == 0:
            heappush(ready[side[number]], number)
    result: list[Placed] = []
    on_cpu = False
    while ready[False] or ready[True]:
        on_cpu = on_cpu if ready[on_cpu] else not on_cpu
        number = heappop(ready[on_cpu])
        result += [placed[index] for index in members[number]]
        for reader in readers[number]:
            waits[reader] -= 1
            if waits[reader] == 0:
                heappush(ready[side[reader]], reader)
    return tuple(result)
