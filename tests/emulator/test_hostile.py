"""Register programs from outside: whatever the bits, a run ends well or with one of the package's own errors."""

from __future__ import annotations

import numpy as np
import pytest

from rocketnpu.errors import DeviceError
from rocketnpu.hw import regcmd

from .npu_programs import BASE, Board, Conv, Writes, flying, pool

PROGRAMS = 300


def _programs(board: Board) -> list[tuple[Writes, int]]:
    """One task of each kind."""
    shape = {"height": 6, "width": 6, "outputs": 32, "out_height": 4, "out_width": 4, "kernel": (3, 3)}
    places = {"features": board.reserve(4096), "weights": board.reserve(9 * 32 * 32), "target": board.reserve(8192)}
    bias = board.reserve(1024)
    return [
        Conv(channels=32, **shape, **places, bias=bias, bias_use=7).task(),  # type: ignore[arg-type]
        Conv(channels=64, depthwise=True, **shape, **places, bias=bias, bias_use=1).task(),  # type: ignore[arg-type]
        Conv(channels=3, dense=True, pitch=16, **shape, **places).task(),  # type: ignore[arg-type]
        flying(6, 6, 32, places["features"], places["target"], element=bias),
        pool((6, 6), (4, 4), 32, places["features"], places["target"], method=0, kernel=(3, 3)),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_mutated_registers_never_escape_the_emulator(seed: int) -> None:
    """Random bits of random registers, of every task kind; memory past what is mapped stays as it was."""
    rng = np.random.default_rng(seed)
    board = Board()
    writes, mask = _programs(board)[seed]
    lists = board.reserve(4096)
    guard = board.chip.memory[board.top :]
    guard[:] = 0xA5
    board.chip.unmap(BASE, board.chip.memory.size)
    board.chip.map(BASE, 0, board.top)
    registers = list(writes)
    outcomes = {True: 0, False: 0}
    for _ in range(PROGRAMS):
        mutated = dict(writes)
        for _ in range(rng.integers(1, 4)):
            register = registers[rng.integers(len(registers))]
            mutated[register] ^= 1 << int(rng.integers(32))
        words = [regcmd.write(register, value) for register, value in mutated.items()]
        listing = np.array([*words, *regcmd.trailer(0, 0, mask)], "<u8")
        board.bytes_at(lists, listing.nbytes)[:] = listing.view(np.uint8)
        message = _outcome(board, lists, len(words))
        outcomes[message is None] += 1
        assert message is None or (message.startswith("core 0") and "\n" not in message), message
    assert (guard == 0xA5).all()
    assert min(outcomes.values()) > 2, outcomes


def _outcome(board: Board, address: int, entries: int) -> str | None:
    """The error of a run, None if there is none."""
    try:
        board.chip.run(address, 1, body_entries=entries)
    except DeviceError as error:
        return str(error)
    return None


def test_random_command_words_are_refused_in_one_line() -> None:
    rng = np.random.default_rng(9)
    board = Board()
    place = board.reserve(1024)
    for _ in range(200):
        words = rng.integers(0, 1 << 63, 60, dtype=np.uint64)
        listing = np.concatenate([words, np.array(regcmd.trailer(0, 0, int(rng.integers(128))), np.uint64)])
        board.bytes_at(place, listing.nbytes)[:] = listing.view(np.uint8)
        with pytest.raises(DeviceError) as caught:
            board.chip.run(place, 1, body_entries=60)
        assert "\n" not in str(caught.value)
