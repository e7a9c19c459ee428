"""The command word codec against the examples and the length table of hardware/regcmd.md."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.errors import CompileError
from rocketnpu.hw import regcmd
from rocketnpu.hw.regcmd import Command
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA, GLOBAL, PC, PPU, PPU_RDMA, Register


@pytest.mark.parametrize(
    ("register", "value", "word"),
    [(DPU.S_POINTER, 0x0E, 0x10010000000E4004), (CNA.CBUF_CON0, 0xB1, 0x0201000000B11040)],
)
def test_words_equal_the_vendors(register: Register, value: int, word: int) -> None:
    assert hex(regcmd.write(register, value)) == hex(word)


@given(st.integers(0, 2**64 - 1))
def test_every_word_decodes_and_encodes_to_itself(word: int) -> None:
    assert regcmd.encode(regcmd.decode(word)) == word


@given(st.lists(st.integers(0, 2**64 - 1), max_size=8))
def test_split_agrees_with_decode(words: list[int]) -> None:
    targets, values, offsets = regcmd.split(np.array(words, np.uint64))
    assert [Command(int(t), int(o), int(v)) for t, v, o in zip(targets, values, offsets, strict=True)] == [
        regcmd.decode(word) for word in words
    ]


@pytest.mark.parametrize(("body", "code"), [(126, 0x40), (26, 0x0E), (122, 0x3E), (69, 0x24), (1097, 0x226)])
def test_length_codes_equal_the_vendors(body: int, code: int) -> None:
    assert regcmd.length_code(body) == code
    assert 0 <= regcmd.entries_fetched(code) - (body + regcmd.TRAILER_ENTRIES) <= 1


def test_enable_masks_are_the_documented_bitmaps() -> None:
    assert regcmd.enable_mask([CNA, CORE, DPU, DPU_RDMA]) == regcmd.CONVOLUTION_MASK
    assert regcmd.enable_mask([DPU, DPU_RDMA]) == regcmd.DPU_MASK
    assert regcmd.enable_mask([PPU, PPU_RDMA]) == regcmd.POOL_MASK
    assert regcmd.enabled_blocks(0x1D) == (CNA, CORE, DPU, DPU_RDMA)
    with pytest.raises(CompileError, match="GLOBAL has no bit"):
        regcmd.enable_mask([GLOBAL])


def test_enable_bits_are_those_of_the_global_register() -> None:
    for block in (CNA, CORE, DPU, DPU_RDMA, PPU, PPU_RDMA):
        field = GLOBAL.OPERATION_ENABLE.field(f"{block.name}_OP_EN")
        assert (field.lsb, field.msb) == (block.enable_bit, block.enable_bit)


def test_trailer_points_to_the_next_list() -> None:
    words = regcmd.trailer(0x12340, 126, regcmd.CONVOLUTION_MASK)
    assert [hex(word) for word in words] == [
        "0x101000123400010",
        "0x101000000400014",
        "0x41000000000000",
        "0x810000001d0008",
    ]


def test_last_trailer_has_an_empty_entry_for_the_address() -> None:
    words = regcmd.trailer(0, 0, regcmd.POOL_MASK)
    assert words[0] == regcmd.EMPTY
    assert regcmd.decode(words[1]) == Command(0x0101, 0x0014, 0)


def test_impossible_commands_are_refused() -> None:
    with pytest.raises(CompileError, match="0x12348 is not 16-byte aligned"):
        regcmd.trailer(0x12348, 126, 0x1D)
    with pytest.raises(CompileError, match=r"GLOBAL.OPERATION_ENABLE cannot be written from a command stream"):
        regcmd.write(GLOBAL.OPERATION_ENABLE, 1)
    with pytest.raises(CompileError, match="value 0x100000000 does not fit 32 bits"):
        regcmd.write(PC.BASE_ADDRESS, 1 << 32)
