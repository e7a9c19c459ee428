"""What becomes of a task that breaks a rule of `hw.rules`.

1. A rule whose effect is "hang": the task never completes.
2. A rule whose effect is "illegal": the task is refused, as nobody knows what the chip does.
3. A rule whose effect is "corrupt": the chip writes wrong bytes. A rule of MODELLED is computed as the hardware
   reference says. A disputed rule is ignored, since programs that break it run on boards. Every other such task writes
   the byte POISON everywhere, so that nobody takes its output for a result.
4. Each case of rule 3 gives a warning. A strict emulator refuses these tasks too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rocketnpu.emulator.faults import never_completes
from rocketnpu.emulator.machine import Machine, Task
from rocketnpu.emulator.memory import Memory, Region, Target
from rocketnpu.errors import DeviceError
from rocketnpu.hw import rules

MODELLED = frozenset({"depthwise_pads_alike", "data_entries_hold_the_row"})
"""Rules whose wrong bytes are computed: padding lanes as measured, rows cut short at DATA_ENTRIES."""

POISON = 0xA5
"""Each byte of an output whose value on the chip is wrong in a way that nobody has described."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a task that runs all the same, as sentences, and whether its output is poisoned."""

    warnings: tuple[str, ...] = ()
    poisoned: bool = False


def judge(task: rules.RegisterTask, *, strict: bool) -> Verdict:
    """The verdict on a task. Raises DeviceTimeout for one that hangs, DeviceError for one that is refused."""
    found = rules.check(task)
    for violation in found:
        if violation.effect == "hang":
            raise never_completes(f"{violation.rule}: {violation.text}")
    for violation in found:
        if violation.effect == "illegal" or strict:
            raise DeviceError(str(violation))
    poisons = [item for item in found if item.rule not in MODELLED and not item.disputed]
    return Verdict(tuple(_warning(item) for item in found), bool(poisons))


def _warning(violation: rules.Violation) -> str:
    if violation.disputed:
        return f"{violation}: computed as if it were legal"
    if violation.rule in MODELLED:
        return f"{violation}: computed as the hardware reference says"
    return f"{violation}: the output is filled with {POISON:#04x}"


class QuestionableTask:
    """A task that breaks rules. It warns each time it runs. A poisoned one reads and writes the programmed places."""

    def __init__(self, task: Task, verdict: Verdict) -> None:
        self._task, self._verdict = task, verdict

    @property
    def kept_bytes(self) -> int:
        """See Task."""
        return self._task.kept_bytes

    def run(self, machine: Machine) -> None:
        """See Task."""
        machine.warnings += self._verdict.warnings
        poisoned = self._verdict.poisoned
        self._task.run(replace(machine, memory=_PoisonedMemory(machine.memory)) if poisoned else machine)


class _PoisonedMemory(Memory):
    """The same memory, in which every output becomes POISON."""

    def __init__(self, memory: Memory) -> None:
        super().__init__(memory.physical, memory.translation)

    def target(self, region: Region, unit: str) -> Target:
        """See Memory."""
        target = super().target(region, unit)
        return _PoisonedTarget(target)


class _PoisonedTarget(Target):
    """An output that is POISON once it is complete."""

    def __init__(self, target: Target) -> None:
        self._target, self.array = target, target.array

    def commit(self) -> None:
        """See Target."""
        self.array[...] = POISON
        self._target.commit()
