"""The register table, the page made from it, and its nouns."""

import copy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketnpu.errors import CompileError
from rocketnpu.hw.registers import (
    BLOCKS,
    CNA,
    CORE,
    DPU,
    PC,
    Register,
    block_of_target,
    register_at,
    register_of,
)
from rocketnpu.hw.registers.page import register_page

REGISTERS = [register for block in BLOCKS for register in block]


def test_fields_whose_note_says_signed_are_signed() -> None:
    signed = [
        (register, field)
        for register in REGISTERS
        for field in register.fields
        if "signed" in field.note and "35-bit" not in field.note
    ]
    assert len(signed) > 20
    assert [f"{register}.{field.name}" for register, field in signed if not field.signed] == []


def test_the_page_of_the_reference_is_made_from_the_table() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "hardware" / "register-list.md"
    assert page.read_text(encoding="utf-8") == register_page(), (
        "run `python -m rocketnpu.hw.registers > docs/hardware/register-list.md`"
    )


@pytest.mark.parametrize("register", REGISTERS, ids=str)
def test_fields_are_listed_from_the_top_and_do_not_overlap(register: Register) -> None:
    bits = [bit for field in register.fields for bit in range(field.msb, field.lsb - 1, -1)]
    assert bits == sorted(set(bits), reverse=True)
    assert register is PC.TARGET_BROADCAST or len(bits) == 32


def test_registers_lie_in_the_window_of_their_block() -> None:
    for block in BLOCKS:
        for register in block:
            assert (register.offset & 0xF000, register.block) == (block.base, block.name)


def test_conv_con1_of_a_three_channel_image_is_0x6000a000() -> None:
    # hardware/layouts.md, First layer
    assert CNA.CONV_CON1.encode(NONALIGN_DMA=1, GROUP_LINE_OFF=1, ARGB_IN=10) == 0x6000A000


def test_fields_that_are_not_named_are_zero_not_reset() -> None:
    assert CORE.MAC_GATING.reset == 0x07800800
    assert CORE.MAC_GATING.encode() == 0


def test_surface_stride_is_28_bit_twos_complement() -> None:
    # hardware/layouts.md: H = W = 1 has SURF_STRIDE 0xffffffd
    assert CNA.DMA_CON2.encode(SURF_STRIDE=-3) == 0xFFFFFFD
    assert CNA.DMA_CON2.field_value(0xFFFFFFD, "SURF_STRIDE") == -3


def test_output_scale_0x8000_is_minus_32768() -> None:
    assert DPU.OUT_CVT_SCALE.field_value(0x8000, "OUT_CVT_SCALE") == -32768


@given(st.sampled_from(REGISTERS), st.integers(0, 2**32 - 1))
def test_decoded_fields_encode_to_the_same_word(register: Register, word: int) -> None:
    covered = sum(field.mask for field in register.fields)
    assert register.encode(**register.decode(word)) == word & covered


@pytest.mark.parametrize(
    ("register", "fields", "text"),
    [
        (CNA.DATA_SIZE0, {"DATAIN_HEIGHT": 2500}, "CNA.DATA_SIZE0.DATAIN_HEIGHT = 2500 is outside 0..2047"),
        (CNA.DATA_SIZE0, {"DATAIN_HEIGHT": -1}, "CNA.DATA_SIZE0.DATAIN_HEIGHT = -1 is outside 0..2047"),
        (DPU.BS_OW_OP, {"OW_OP": 0xFF80}, "DPU.BS_OW_OP.OW_OP = 65408 is outside -32768..32767"),
        (CNA.DATA_SIZE0, {"HEIGHT": 1}, "CNA.DATA_SIZE0 has no field HEIGHT; it has DATAIN_WIDTH, DATAIN_HEIGHT"),
    ],
)
def test_values_the_silicon_would_truncate_are_refused(register: Register, fields: dict[str, int], text: str) -> None:
    with pytest.raises(CompileError) as error:
        register.encode(**fields)
    assert str(error.value) == text


def test_unknown_registers_are_refused_by_name() -> None:
    with pytest.raises(CompileError, match="block CNA has no register CONV_CON9"):
        CNA["CONV_CON9"]
    with pytest.raises(AttributeError, match="block CNA has no register CONV_CON9"):
        _ = CNA.CONV_CON9


def test_blocks_can_be_copied() -> None:
    assert copy.copy(CNA).CONV_CON1 is CNA.CONV_CON1


def test_lookup_by_offset_gives_the_cpu_view_and_by_target_the_stream_view() -> None:
    assert register_at(0x0008) is PC.OPERATION_ENABLE
    assert register_of(0x0101, 0x0008) is PC.OPERATION_ENABLE
    assert register_of(0x0081, 0x0008) is PC.TARGET_BROADCAST
    assert register_of(0x1001, 0x100C) is None
    assert register_at(0x2000) is None
    assert block_of_target(0x1001) is DPU
    assert block_of_target(0x0041) is None
