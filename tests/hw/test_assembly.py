"""The text form of command words: exact round trip, and errors that name the line."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.errors import CompileError
from rocketnpu.hw import regcmd
from rocketnpu.hw.assembly import assemble, disassemble
from rocketnpu.hw.registers import BLOCKS, CNA, Register

REACHABLE = [register for block in BLOCKS for register in block if register.target is not None]
VALUES = st.integers(0, 2**32 - 1)
WORDS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.builds(regcmd.write, st.sampled_from(REACHABLE), VALUES),
    st.sampled_from([0, 0x0041 << 48, 0x0081 << 48]),
)


@given(st.lists(WORDS, max_size=20))
def test_any_words_survive_the_text_form(words: list[int]) -> None:
    assert assemble(disassemble(np.array(words, np.uint64))).tolist() == words


@given(st.sampled_from(REACHABLE), VALUES)
def test_fields_alone_give_the_word_back(register: Register, value: int) -> None:
    word = regcmd.write(register, value)
    line = disassemble([word])
    if "{" in line:
        left, _, fields = line.partition("{")
        assert assemble(left.partition("=")[0] + "= {" + fields).tolist() == [word]


def test_text_names_registers_fields_and_blocks() -> None:
    words = [
        regcmd.write(CNA.CONV_CON1, 0x6000A000),
        regcmd.write(CNA.DMA_CON2, 0x0FFFFFFD),
        regcmd.write(CNA.FEATURE_DATA_ADDR, 0x1000),
        0x0201_00000001_1018,
        *regcmd.trailer(0, 0, regcmd.CONVOLUTION_MASK),
    ]
    assert disassemble(words).splitlines() == [
        "CNA.CONV_CON1 = 0x6000a000  { ARGB_IN=10, GROUP_LINE_OFF=1, NONALIGN_DMA=1 }",
        "CNA.DMA_CON2 = 0x0ffffffd  { SURF_STRIDE=-3 }",
        "CNA.FEATURE_DATA_ADDR = 0x00001000",
        "0x0201:0x1018 = 0x00000001",
        "EMPTY",
        "PC.REGISTER_AMOUNTS = 0x00000000",
        "MARKER",
        "PC.TARGET_BROADCAST = 0x0000001d  # starts CNA CORE DPU DPU_RDMA",
    ]


def test_comments_blank_lines_and_either_form_are_read() -> None:
    text = """
    # a convolution
    CNA.CONV_CON3 = {CONV_X_STRIDE=2,CONV_Y_STRIDE=0x2}   # stride 2
    CNA.CONV_CON3 = 18
    CNA.CONV_CON3 = 0x12 { CONV_X_STRIDE=2, CONV_Y_STRIDE=2 }
    CNA.CONV_CON3 = {}
    """
    assert assemble(text).tolist() == [regcmd.write(CNA.CONV_CON3, value) for value in (0x12, 0x12, 0x12, 0)]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("CNA.CONV_CON3 = 0x12 { CONV_X_STRIDE=1 }", "CNA.CONV_CON3 is 0x00000012 but its fields make 0x00000001"),
        ("CNA.CONV_CON3 = { CONV_X_STRIDE=8 }", "CNA.CONV_CON3.CONV_X_STRIDE = 8 is outside 0..7"),
        ("CNA.CONV_CON3 = { CONV_X_STRIDE=1, CONV_X_STRIDE=1 }", "CNA.CONV_CON3.CONV_X_STRIDE is given twice"),
        ("CNA.CONV_CON3 = { STRIDE=1 }", "CNA.CONV_CON3 has no field STRIDE"),
        ("CNA.CONV_CON3 = { CONV_X_STRIDE }", "CNA.CONV_CON3: expected FIELD=VALUE, not `CONV_X_STRIDE`"),
        ("CNA.CONV_CON3 = ", "expected `BLOCK.REGISTER = NUMBER { FIELD=VALUE, ... }`, not `CNA.CONV_CON3 =`"),
        ("CNA.CONV_CON9 = 1", "block CNA has no register CONV_CON9"),
        ("CAN.CONV_CON3 = 1", "no block CAN; blocks are PC, CNA"),
        ("GLOBAL.OPERATION_ENABLE = 1", "GLOBAL.OPERATION_ENABLE cannot be written from a command stream"),
        ("CNA.CONV_CON3 = 0x100000000", "command value 0x100000000 does not fit 32 bits"),
        ("CNA.CONV_CON3 = -1", "command value -0x1 does not fit 32 bits"),
        ("0x10000:0 = 1", "command target 0x10000 does not fit 16 bits"),
        ("0x0201:0x1018 = { A=1 }", "0x0201:0x1018 names no register"),
        ("0x0201:0x1018", "expected `BLOCK.REGISTER = NUMBER"),
        ("CNA.CONV_CON3 = " + "9" * 5000, "expected `BLOCK.REGISTER = NUMBER"),
        ("CNA.CONV_CON3 = 012", "expected `BLOCK.REGISTER = NUMBER"),
    ],
)
def test_errors_name_the_line_and_the_cause(line: str, text: str) -> None:
    with pytest.raises(CompileError) as error:
        assemble(f"EMPTY\n{line}\n")
    assert str(error.value).startswith(f"line 2: {text}")
