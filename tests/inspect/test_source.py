"""Files of bare commands: lists are found by their enable entries, and anything else is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rocketnpu.errors import ModelError
from rocketnpu.hw.assembly import assemble
from rocketnpu.inspect import Names, command_program, lint, read_program, summary, view
from rocketnpu.program.model import Program

from .mutate import words_of

TRAILER = "EMPTY\nPC.REGISTER_AMOUNTS = 0\nMARKER\nPC.TARGET_BROADCAST = {mask:#x}\n"


def commands(text: str, mask: int = 0x18) -> bytes:
    return assemble(text + TRAILER.format(mask=mask)).astype("<u8").tobytes()


def test_every_list_of_a_dump_is_a_task(vendor: dict[str, Program]) -> None:
    """The vendor's commands alone: lists by their own content, as the task table has them."""
    program = vendor["b_channel"]
    bare = command_program(words_of(program).tobytes(), "dump")
    found = {(task.first_word, task.body_entries, task.enable_mask) for task in bare.tasks}
    assert found == {(task.first_word, task.body_entries, task.enable_mask) for task in program.tasks}


def test_a_dump_is_summarised_with_its_raw_addresses(small: Program) -> None:
    bare = command_program(words_of(small).tobytes(), "dump")
    program = view(bare)
    assert program.is_bare
    assert summary(program.tasks[0], Names(bare)) == (
        "conv 3x3 int8, 16x16x16 -> 16x16x48, pad 1x1, banks 1+11: 0x0 -> 0x0"
    )
    assert lint(program) == []


def test_zeros_between_lists_are_padding() -> None:
    one = commands("DPU.S_POINTER = 0xe\n")
    program = command_program(one + bytes(24) + one + bytes(8), "dump")
    assert [(task.first_word, task.body_entries) for task in program.tasks] == [(0, 1), (8, 1)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; inspect takes"),
        (b"1234567", "its 7 bytes are no whole number"),
        (b"TFL3" * 4, "word 0 (0x334c4654334c4654) is no register command"),
        (bytes(64), "the command list at word 0 has no enable entry"),
        (commands("DPU.S_POINTER = 0xe\n")[:-8], "the command list at word 0 has no enable entry"),
        (commands("DPU.S_POINTER = 0xe\n") + commands("DPU.S_POINTER = 0xe\n")[:8], "at word 5 has no enable entry"),
        (assemble("MARKER\nPC.TARGET_BROADCAST = 0x18\n").tobytes(), "no room for a trailer before word 1"),
        (assemble("0x0201:0x3004 = 1\n").tobytes(), "word 0 (0x0201000000013004) is no register command"),
    ],
)
def test_what_is_no_command_list_is_one_clear_line(data: bytes, message: str) -> None:
    with pytest.raises(ModelError) as error:
        command_program(data, "dump.bin")
    assert str(error.value).startswith("dump.bin")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_random_words_are_refused_not_crashed_on() -> None:
    rng = np.random.default_rng(2)
    for _ in range(20):
        with pytest.raises(ModelError):
            command_program(rng.bytes(800), "noise")


def test_programs_of_both_containers_are_read(small: Program, shared: Path, tmp_path: Path) -> None:
    small.save(tmp_path / "small.rnpu")
    assert len(read_program(tmp_path / "small.rnpu").tasks) == len(small.tasks)
    assert len(read_program(shared / "vectors" / "vendor" / "b_layer.rknn").tasks) == 89
