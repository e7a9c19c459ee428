"""Each rule against a legal task with one thing changed, and all rules against programs of the vendor's compiler."""

from pathlib import Path

import numpy as np
import pytest

from rocketnpu.hw import regcmd, rules
from rocketnpu.hw.assembly import assemble
from rocketnpu.hw.registers import CNA, CORE
from rocketnpu.program.model import COMMANDS
from rocketnpu.rknn import load_rknn, materialise

# hardware/convolution.md, Minimal int8 program: 3x3, 32 -> 64 channels, 16x16, pad 1, per-channel operands.
CONVOLUTION = """
CNA.CONV_CON1 = 0
CNA.CONV_CON2 = { FEATURE_GRAINS=20 }
CNA.CONV_CON3 = { CONV_X_STRIDE=1, CONV_Y_STRIDE=1 }
CNA.DATA_SIZE0 = { DATAIN_WIDTH=16, DATAIN_HEIGHT=16 }
CNA.DATA_SIZE1 = { DATAIN_CHANNEL_REAL=31, DATAIN_CHANNEL=32 }
CNA.DATA_SIZE2 = { DATAOUT_WIDTH=16 }
CNA.DATA_SIZE3 = { DATAOUT_ATOMICS=256 }
CNA.WEIGHT_SIZE0 = { WEIGHT_BYTES=18432 }
CNA.WEIGHT_SIZE1 = { WEIGHT_BYTES_PER_KERNEL=288 }
CNA.WEIGHT_SIZE2 = { WEIGHT_WIDTH=3, WEIGHT_HEIGHT=3, WEIGHT_KERNELS=64 }
CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=1 }
CNA.CBUF_CON1 = { DATA_ENTRIES=8 }
CNA.PAD_CON0 = { PAD_LEFT=1, PAD_TOP=1 }
CNA.PAD_CON1 = 0x80808080
CNA.FEATURE_DATA_ADDR = 0x1000
CNA.DCOMP_ADDR0 = 0x2000
CNA.FC_DATA_SIZE0 = { DMA_WIDTH=16, DMA_HEIGHT=16 }
CNA.FC_DATA_SIZE1 = { DMA_CHANNEL=32 }
CORE.MISC_CFG = { QD_EN=1 }
CORE.DATAOUT_SIZE_0 = { DATAOUT_HEIGHT=15, DATAOUT_WIDTH=15 }
CORE.DATAOUT_SIZE_1 = { DATAOUT_CHANNEL=63 }
DPU.FEATURE_MODE_CFG = 0x1e4
DPU.DATA_FORMAT = 0xe0
DPU.DST_BASE_ADDR = 0x3000
DPU.DST_SURF_STRIDE = 0x1000
DPU.DATA_CUBE_WIDTH = 15
DPU.DATA_CUBE_HEIGHT = 15
DPU.DATA_CUBE_NOTCH_ADDR = 0
DPU.DATA_CUBE_CHANNEL = { ORIG_CHANNEL=63, CHANNEL=63 }
DPU.BS_CFG = 0x20140
DPU.BS_MUL_CFG = 0x0e01
DPU.BS_OW_CFG = 0x125
DPU.WDMA_SIZE_0 = { CHANNEL_WDMA=63 }
DPU.WDMA_SIZE_1 = { HEIGHT_WDMA=15, WIDTH_WDMA=15 }
DPU.BN_CFG = 0x53
DPU.BN_MUL_CFG = 0
DPU.EW_CFG = 0x383
DPU.OUT_CVT_SHIFT = 22
DPU.SURFACE_ADD = 0x2000
DPU_RDMA.RDMA_BRDMA_CFG = 0xe
DPU_RDMA.RDMA_BS_BASE_ADDR = 0x4000
DPU_RDMA.RDMA_NRDMA_CFG = 0
DPU_RDMA.RDMA_ERDMA_CFG = 1
DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7810
DPU_RDMA.RDMA_SRC_DMA_CFG = 0
"""

# hardware/convolution.md, Differences by kind: 3x3 over 64 channels, 16x16.
DEPTHWISE = (
    CONVOLUTION
    + """
CNA.CONV_CON1 = { CONV_MODE=3 }
CNA.DATA_SIZE1 = { DATAIN_CHANNEL_REAL=63, DATAIN_CHANNEL=64 }
CNA.WEIGHT_SIZE0 = 576
CNA.WEIGHT_SIZE1 = 576
CNA.WEIGHT_SIZE2 = { WEIGHT_WIDTH=3, WEIGHT_HEIGHT=3, WEIGHT_KERNELS=1 }
CNA.CBUF_CON1 = { DATA_ENTRIES=16 }
CNA.FC_DATA_SIZE1 = { DMA_CHANNEL=64 }
CORE.MISC_CFG = { QD_EN=1, DW_EN=1 }
DPU.FEATURE_MODE_CFG = 0x1fc
DPU.BS_OW_CFG = 0x36d
DPU.SURFACE_ADD = 0x4000
DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7816
"""
)

# hardware/convolution.md, Transposed convolution: kernel 2, stride 2.
TRANSPOSED = CONVOLUTION + "CNA.CONV_CON1 = 0x10000\nCNA.CONV_CON3 = 0x909\nCNA.PAD_CON0 = 0x11\n"

# hardware/dpu.md: element-wise addition of two tensors, 16x16x32.
ADDITION = """
DPU.FEATURE_MODE_CFG = 0x1e5
DPU.DATA_CUBE_WIDTH = 15
DPU.DATA_CUBE_HEIGHT = 15
DPU.DATA_CUBE_CHANNEL = { ORIG_CHANNEL=31, CHANNEL=31 }
DPU.BS_CFG = 0x20040
DPU.BS_MUL_CFG = 0x40000000
DPU.BS_OW_CFG = 2
DPU.EW_CFG = 0x904202c0
DPU.DST_SURF_STRIDE = 0x1000
DPU.SURFACE_ADD = 0x1000
DPU.EW_OP_VALUE_0 = 0
DPU.EW_OP_VALUE_1 = 0
DPU.EW_OP_VALUE_2 = 0
DPU.EW_OP_VALUE_3 = 0
DPU.EW_OP_VALUE_4 = 0
DPU.EW_OP_VALUE_5 = 0
DPU.EW_OP_VALUE_6 = 0
DPU.EW_OP_VALUE_7 = 0
DPU_RDMA.RDMA_BRDMA_CFG = 0
DPU_RDMA.RDMA_ERDMA_CFG = 0x40000004
DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7801
"""

# hardware/ppu.md, Program: max 2x2 at stride 2 of 32x32x32.
POOL = """
PPU.DATA_CUBE_IN_WIDTH = 31
PPU.DATA_CUBE_IN_HEIGHT = 31
PPU.DATA_CUBE_IN_CHANNEL = 31
PPU.DATA_CUBE_OUT_WIDTH = 15
PPU.DATA_CUBE_OUT_HEIGHT = 15
PPU.DATA_CUBE_OUT_CHANNEL = 31
PPU.OPERATION_MODE_CFG = 0x11
PPU.POOLING_KERNEL_CFG = 0x110101
PPU.RECIP_KERNEL_WIDTH = 0
PPU.RECIP_KERNEL_HEIGHT = 0
PPU.POOLING_PADDING_CFG = 0
PPU.DATA_FORMAT = 0x1000
PPU_RDMA.RDMA_CUBE_IN_WIDTH = 31
PPU_RDMA.RDMA_CUBE_IN_HEIGHT = 31
PPU_RDMA.RDMA_CUBE_IN_CHANNEL = 31
PPU_RDMA.RDMA_DATA_FORMAT = 1
"""

MASKS = {
    CONVOLUTION: regcmd.CONVOLUTION_MASK,
    DEPTHWISE: regcmd.CONVOLUTION_MASK,
    TRANSPOSED: regcmd.CONVOLUTION_MASK,
    ADDITION: regcmd.DPU_MASK,
    POOL: regcmd.POOL_MASK,
}

# Legal task, what is changed, the rules it breaks then.
CASES = [
    (CONVOLUTION, "PPU.DATA_CUBE_IN_WIDTH = 1", "written_blocks_are_enabled"),
    (CONVOLUTION, "CORE.S_POINTER = 0xe", "stream_leaves_driver_pointers"),
    (CONVOLUTION, "CORE.MAC_GATING = 0x6800800", "mac_gating_keeps_the_mac_alive"),
    (CONVOLUTION, "CNA.FEATURE_DATA_ADDR = 0x1008", "addresses_are_aligned"),
    (CONVOLUTION, "CNA.CONV_CON3 = { CONV_X_STRIDE=1, CONV_Y_STRIDE=1, NN_MODE=1 }", "undocumented_bits_are_zero"),
    (CONVOLUTION, "0x0201:0x1018 = 1", "undocumented_bits_are_zero"),
    (CONVOLUTION, "0x0201:0x4018 = 0", "writes_reach_a_register"),
    (CONVOLUTION, "CORE.MISC_CFG = { QD_EN=1, DW_EN=1 }", "modes_agree"),
    (CONVOLUTION, "CORE.MISC_CFG = { QD_EN=1, PROC_PRECISION=1 }", "precisions_agree"),
    (
        CONVOLUTION,
        "CORE.DATAOUT_SIZE_1 = 47\nDPU.DATA_CUBE_CHANNEL = 0x3f002f\nDPU.WDMA_SIZE_0 = 47",
        "channel_counts_fill_groups",
    ),
    (
        DEPTHWISE,
        "CORE.DATAOUT_SIZE_1 = 95\nDPU.DATA_CUBE_CHANNEL = 0x3f005f\nDPU.WDMA_SIZE_0 = 95",
        "channel_counts_fill_groups",
    ),
    (CONVOLUTION, "DPU.WDMA_SIZE_0 = 31", "output_extents_agree"),
    (CONVOLUTION, "CNA.DATA_SIZE3 = 255", "output_extents_agree"),
    (CONVOLUTION, "CNA.CONV_CON3 = { CONV_X_STRIDE=1 }", "sizes_are_not_zero"),
    (CONVOLUTION, "CNA.FC_DATA_SIZE1 = 16", "dma_reads_the_tile"),
    (CONVOLUTION, "CNA.WEIGHT_SIZE0 = 18431", "weight_bytes_are_those_of_the_kernels"),
    (
        CONVOLUTION,
        "CNA.WEIGHT_SIZE2 = 0x0303003f\nCNA.WEIGHT_SIZE0 = 18144",
        "kernel_count_is_even",
    ),
    (CONVOLUTION, "CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=1, FC_DATA_BANK=1 }", "fc_data_bank_is_zero"),
    (
        CONVOLUTION,
        "CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=1, WEIGHT_REUSE=1, DATA_REUSE=1 }",
        "reuse_is_of_data_or_weights",
    ),
    (CONVOLUTION, "CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=2 }", "banks_are_at_most_twelve"),
    (
        CONVOLUTION,
        "CNA.DATA_SIZE0 = { DATAIN_WIDTH=16, DATAIN_HEIGHT=65 }\nCNA.FC_DATA_SIZE0 = { DMA_WIDTH=16, DMA_HEIGHT=65 }",
        "data_fits_its_banks",
    ),
    (CONVOLUTION, "CNA.CBUF_CON1 = 7", "data_entries_hold_the_row"),
    (
        CONVOLUTION,
        "CNA.CBUF_CON0 = { WEIGHT_BANK=2, DATA_BANK=1 }\n"
        "CNA.WEIGHT_SIZE2 = { WEIGHT_WIDTH=3, WEIGHT_HEIGHT=3, WEIGHT_KERNELS=256 }\nCNA.WEIGHT_SIZE0 = 73728",
        "streamed_weights_have_their_minimum",
    ),
    (
        CONVOLUTION,
        "CNA.DATA_SIZE0 = { DATAIN_WIDTH=1, DATAIN_HEIGHT=505 }\nCNA.CBUF_CON1 = 1\n"
        "CNA.FC_DATA_SIZE0 = { DMA_WIDTH=1, DMA_HEIGHT=505 }",
        "narrow_input_has_a_slack_bank",
    ),
    (
        CONVOLUTION,
        "CNA.DATA_SIZE1 = { DATAIN_CHANNEL=31 }\nCNA.FC_DATA_SIZE1 = 31",
        "channels_are_whole_atoms",
    ),
    (CONVOLUTION, "CNA.CONV_CON1 = { NONALIGN_DMA=1 }", "dense_input_has_one_to_four_channels"),
    (
        CONVOLUTION,
        "CNA.CONV_CON1 = { ARGB_IN=12, NONALIGN_DMA=1, GROUP_LINE_OFF=1 }\n"
        "CNA.DATA_SIZE1 = 16\nCNA.FC_DATA_SIZE1 = 16\nCNA.CBUF_CON1 = 256",
        "dense_input_has_one_to_four_channels",
    ),
    (TRANSPOSED, "CNA.CONV_CON3 = 0x1209", "deconvolution_strides_are_known"),
    (TRANSPOSED, "CNA.PAD_CON0 = 0xc1", "deconvolution_strides_are_known"),
    (DEPTHWISE, "CNA.PAD_CON1 = 0x0000007e", "depthwise_pads_alike"),
    (CONVOLUTION, "DPU.BS_OW_CFG = 0x025", "size_e_fields_are_alike"),
    (CONVOLUTION, "DPU.BS_OW_CFG = 0x36d\nDPU.SURFACE_ADD = 0x4000", "size_e_fits_the_mode"),
    (DEPTHWISE, "DPU.BS_OW_CFG = 0x125\nDPU.SURFACE_ADD = 0x2000", "size_e_fits_the_mode"),
    (CONVOLUTION, "DPU.SURFACE_ADD = 0x4000", "surface_add_steps_over_a_pass"),
    (
        DEPTHWISE,
        "DPU.DATA_FORMAT = { OUT_PRECISION=4 }\nDPU.BS_OW_CFG = 0x7fe\nDPU.SURFACE_ADD = 0x8000",
        "raw_depthwise_is_not_written",
    ),
    (
        CONVOLUTION,
        "DPU.DATA_FORMAT = { OUT_PRECISION=4 }\nDPU.BS_OW_CFG = 0x7fd\nDPU.SURFACE_ADD = 0x8000",
        "raw_output_bypasses_cpend",
    ),
    (CONVOLUTION, "CORE.MISC_CFG = 0", "cpend_has_the_window_sum"),
    (CONVOLUTION, "DPU.DATA_CUBE_NOTCH_ADDR = { NOTCH_ADDR_0=4 }", "notch_halves_are_equal"),
    (CONVOLUTION, "DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7801", "flying_modes_agree"),
    (CONVOLUTION, "DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7800", "main_reader_has_a_use"),
    (ADDITION, "DPU_RDMA.RDMA_FEATURE_MODE_CFG = 0x7d01", "flying_task_does_not_combine"),
    (ADDITION, "DPU.EW_CFG = 0x904902c0", "element_wise_mode_is_known"),
    (ADDITION, "DPU.DATA_CUBE_CHANNEL = { CHANNEL=31 }", "element_wise_has_whole_channels"),
    (ADDITION, "DPU.EW_CFG = 0x90420280\nDPU.EW_OP_VALUE_3 = 1", "scalar_operands_are_alike"),
    (ADDITION, "DPU_RDMA.RDMA_ERDMA_CFG = 1", "element_wise_operand_is_read"),
    (ADDITION, "DPU.EW_CFG = 0x302\nDPU.DATA_CUBE_WIDTH = 8190", "lut_width_is_at_most_4096"),
    (CONVOLUTION, "DPU_RDMA.RDMA_BRDMA_CFG = 0x2\nDPU.BS_OW_CFG = 0x124", "bs_operands_are_read"),
    (CONVOLUTION, "DPU.BN_CFG = 0x62\nDPU.BN_MUL_CFG = 1", "bn_operands_are_read"),
    (
        CONVOLUTION,
        "DPU.BN_CFG = 0x20140\nDPU_RDMA.RDMA_NRDMA_CFG = 0xe",
        "bn_operands_do_not_hang bn_operands_are_read",
    ),
    (CONVOLUTION, "DPU.OUT_CVT_SHIFT = 64", "output_shift_is_at_most_63"),
    (POOL, "PPU.DATA_CUBE_IN_WIDTH = 32\nPPU_RDMA.RDMA_CUBE_IN_WIDTH = 32", "pool_windows_consume_the_width"),
    (POOL, "PPU.DATA_CUBE_OUT_HEIGHT = 16", "pool_windows_stay_in_the_height"),
    (
        POOL,
        "PPU.POOLING_KERNEL_CFG = 0x010101\nPPU.DATA_CUBE_OUT_HEIGHT = 30\n"
        "PPU.DATA_CUBE_IN_WIDTH = 129\nPPU_RDMA.RDMA_CUBE_IN_WIDTH = 129\nPPU.DATA_CUBE_OUT_WIDTH = 64",
        "pool_rows_fit_the_line_buffer",
    ),
    (
        POOL,
        "PPU.POOLING_KERNEL_CFG = 0x11010f\nPPU.POOLING_PADDING_CFG = 0x707",
        "pool_kernel_16_has_no_padding",
    ),
    (POOL, "PPU.DATA_CUBE_OUT_CHANNEL = 15", "pool_keeps_its_channels"),
    (POOL, "PPU_RDMA.RDMA_CUBE_IN_HEIGHT = 15", "pool_reader_and_unit_agree"),
    (POOL, "PPU_RDMA.RDMA_DATA_FORMAT = 0", "pool_precisions_agree"),
    (POOL, "PPU.OPERATION_MODE_CFG = 0x13", "pool_method_is_known"),
    (POOL, "PPU.OPERATION_MODE_CFG = 0x10", "average_reciprocals_fit_the_kernel"),
]


def broken(text: str, mask: int) -> list[str]:
    return [str(violation) for violation in rules.check(rules.task_of(assemble(text), mask))]


@pytest.mark.parametrize(("text", "mask"), MASKS.items(), ids=["direct", "depthwise", "transposed", "add", "pool"])
def test_legal_tasks_break_no_rule(text: str, mask: int) -> None:
    assert broken(text, mask) == []


@pytest.mark.parametrize(("legal", "change", "expected"), CASES, ids=[f"{i}-{case[2]}" for i, case in enumerate(CASES)])
def test_one_change_breaks_just_that_rule(legal: str, change: str, expected: str) -> None:
    found = rules.check(rules.task_of(assemble(legal + change), MASKS[legal]))
    assert {violation.rule for violation in found} == set(expected.split()), [str(violation) for violation in found]


@pytest.mark.parametrize(
    ("legal", "mask", "expected"),
    [
        (POOL, 0x1D, {"written_blocks_are_enabled"}),
        (POOL, 0x20, {"written_blocks_are_enabled", "feeders_are_enabled"}),
        (CONVOLUTION, 0x0D, {"written_blocks_are_enabled"}),
        (CONVOLUTION, 0x1F, {"enable_mask_names_blocks"}),
        (ADDITION, 0x08, {"written_blocks_are_enabled", "feeders_are_enabled"}),
    ],
)
def test_masks_that_do_not_fit_the_blocks_are_found(legal: str, mask: int, expected: set[str]) -> None:
    assert {violation.rule for violation in rules.check(rules.task_of(assemble(legal), mask))} == expected


def test_every_rule_is_broken_by_a_case_here() -> None:
    tested = {name for _, _, expected in CASES for name in expected.split()}
    tested |= {"enable_mask_names_blocks", "feeders_are_enabled"}
    assert {rule.name for rule in rules.RULES} == tested


def test_every_rule_names_its_source_and_evidence() -> None:
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES)
    for rule in rules.RULES:
        assert ".md" in rule.statement, rule.name
        assert any(tag in rule.statement for tag in ("[silicon", "[vendor", "[trm", "[inferred")), rule.name
        assert f"| {rule.name} | {rule.effect} |" in rules.report()


def test_inherited_values_count_but_only_written_ones_offend_the_driver() -> None:
    words = assemble("CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=2 }")
    delta = rules.task_of(words, regcmd.CONVOLUTION_MASK)
    full = rules.task_of(assemble(CONVOLUTION), regcmd.CONVOLUTION_MASK).written
    inherited = {**full, CNA.S_POINTER: 0xE, CORE.S_POINTER: 0xE}
    task = rules.RegisterTask(delta.written, delta.enable_mask, inherited)
    assert [violation.rule for violation in rules.check(task)] == ["banks_are_at_most_twelve"]


def test_violations_say_rule_values_and_effect() -> None:
    assert broken(CONVOLUTION + "CNA.CBUF_CON0 = { WEIGHT_BANK=11, DATA_BANK=2 }", regcmd.CONVOLUTION_MASK) == [
        "banks_are_at_most_twelve: 2 data banks and 11 weight banks (illegal)"
    ]


@pytest.mark.parametrize("name", ["a_channel", "a_layer", "a2_channel", "a2_layer", "b_channel", "b_layer"])
def test_vendor_programs_break_no_rule(shared: Path, name: str) -> None:
    program = materialise(load_rknn((shared / "vectors" / "vendor" / f"{name}.rknn").read_bytes(), name))
    commands = next(segment.data for segment in program.segments if segment.name == COMMANDS)
    assert commands is not None
    words = np.frombuffer(commands, "<u8")
    applied: set[str] = set()
    for task in program.tasks:
        view = rules.task_of(words[task.first_word : task.first_word + task.body_entries], task.enable_mask)
        assert [str(violation) for violation in rules.check(view)] == [], task.name
        applied |= {rule.name for rule in rules.RULES if rule.applies(view)}
    assert applied == {rule.name for rule in rules.RULES}
