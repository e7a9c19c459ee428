"""Rules about convolutions: CNA, CORE and CBUF (hardware/convolution.md)."""

from __future__ import annotations

from collections.abc import Iterator

from rocketnpu.hw import cbuf, limits
from rocketnpu.hw.codes import ARGB_BASE, BF16, DEPTHWISE, DIRECT, FP16, INT4, INT8, INT16, TF32
from rocketnpu.hw.registers import CNA, CORE, DPU, DPU_RDMA
from rocketnpu.hw.rules._model import RegisterTask, Rule

_CHANNEL_GROUPS = {
    (DIRECT, INT8): limits.DIRECT_OUTPUT_GROUP,
    (DIRECT, INT16): limits.DIRECT_OUTPUT_GROUP_16_BIT,
    (DIRECT, FP16): limits.DIRECT_OUTPUT_GROUP_16_BIT,
    (DIRECT, INT4): 64,
    (DIRECT, TF32): 16,
    (DEPTHWISE, INT8): limits.DEPTHWISE_GROUP,
    (DEPTHWISE, FP16): limits.DEPTHWISE_GROUP_16_BIT,
}
"""Output channels of one pass, by mode and precision (hardware/README.md, Constants). Others are not known."""

_ELEMENT_BYTES = {INT8: 1, INT16: 2, FP16: 2, BF16: 2, TF32: 4}

_DECONVOLUTION_PAD_END = 12
"""First pad that gave wrong results at stride 2 (hardware/convolution.md, Transposed convolution)."""


def _mode(task: RegisterTask) -> int:
    return task.get(CNA.CONV_CON1, "CONV_MODE")


def _precision(task: RegisterTask) -> int:
    return task.get(CNA.CONV_CON1, "PROC_PRECISION")


def _dense_channels(task: RegisterTask) -> int:
    """Channels of a dense (ARGB) input, 0 for a feature cube."""
    code = task.get(CNA.CONV_CON1, "ARGB_IN")
    return code - ARGB_BASE if code else 0


def _data_banks(task: RegisterTask) -> int | None:
    """Banks that the input tile needs, None for a dense input whose cost is not known."""
    width, rows = task.get(CNA.DATA_SIZE0, "DATAIN_WIDTH"), task.get(CNA.DATA_SIZE0, "DATAIN_HEIGHT")
    channels = _dense_channels(task)
    if channels:
        known = channels in cbuf.IMAGE_PIXEL_BYTES and _precision(task) == INT8
        return cbuf.image_data_banks(width, rows, channels) if known else None
    return cbuf.data_banks(task.get(CNA.CBUF_CON1, "DATA_ENTRIES"), rows)


def modes_agree(task: RegisterTask) -> Iterator[str]:
    """CNA, CORE, DPU and DPU_RDMA have the same mode, direct (0) or depthwise (3). hardware/convolution.md,
    Differences by kind [vendor, silicon].
    """
    mode = _mode(task)
    if mode not in (DIRECT, DEPTHWISE):
        yield f"CONV_MODE {mode} of CNA is neither direct (0) nor depthwise (3)"
    if task.get(CORE.MISC_CFG, "DW_EN") != (mode == DEPTHWISE):
        yield f"DW_EN of CORE is {task.get(CORE.MISC_CFG, 'DW_EN')} with CONV_MODE {mode}"
    others = [DPU.FEATURE_MODE_CFG]
    if task.enables(DPU_RDMA) and task.knows(DPU_RDMA.RDMA_FEATURE_MODE_CFG):
        others.append(DPU_RDMA.RDMA_FEATURE_MODE_CFG)
    for register in others:
        if task.get(register, "CONV_MODE") != mode:
            yield f"{register}.CONV_MODE {task.get(register, 'CONV_MODE')} differs from CNA's {mode}"


def precisions_agree(task: RegisterTask) -> Iterator[str]:
    """CNA and CORE have one precision. hardware/convolution.md, Differences by kind [vendor]."""
    precisions = (_precision(task), task.get(CNA.CONV_CON1, "IN_PRECISION"), task.get(CORE.MISC_CFG, "PROC_PRECISION"))
    if len(set(precisions)) > 1:
        yield "PROC_PRECISION and IN_PRECISION of CNA and PROC_PRECISION of CORE are {}, {}, {}".format(*precisions)


def channel_counts_fill_groups(task: RegisterTask) -> Iterator[str]:
    """Channel counts of CORE, DPU and writer are multiples of the group: int8 32 direct, 64 depthwise; fp16 16 and 32.
    Otherwise the last group is never written and the task never completes. hardware/convolution.md, Must not emit
    [silicon]; other precisions by README.md, Constants [trm].
    """
    group = _CHANNEL_GROUPS.get((_mode(task), _precision(task)))
    if group is None:
        return
    for register, name in (
        (CORE.DATAOUT_SIZE_1, "DATAOUT_CHANNEL"),
        (DPU.DATA_CUBE_CHANNEL, "CHANNEL"),
        (DPU.WDMA_SIZE_0, "CHANNEL_WDMA"),
    ):
        channels = task.get(register, name) + 1
        if channels % group:
            yield f"{register}.{name} has {channels} channels, not a multiple of {group}"


def output_extents_agree(task: RegisterTask) -> Iterator[str]:
    """CNA, CORE, DPU and its writer have the same output width, height and channels. hardware/convolution.md, Minimal
    int8 program [vendor].
    """
    width = task.get(CNA.DATA_SIZE2, "DATAOUT_WIDTH")
    pixels = task.get(CNA.DATA_SIZE3, "DATAOUT_ATOMICS")
    extents = {
        "CORE": (
            task.get(CORE.DATAOUT_SIZE_0, "DATAOUT_WIDTH") + 1,
            task.get(CORE.DATAOUT_SIZE_0, "DATAOUT_HEIGHT") + 1,
            task.get(CORE.DATAOUT_SIZE_1, "DATAOUT_CHANNEL") + 1,
        ),
        "DPU": (
            task.get(DPU.DATA_CUBE_WIDTH, "WIDTH") + 1,
            task.get(DPU.DATA_CUBE_HEIGHT, "HEIGHT") + 1,
            task.get(DPU.DATA_CUBE_CHANNEL, "CHANNEL") + 1,
        ),
        "the writer": (
            task.get(DPU.WDMA_SIZE_1, "WIDTH_WDMA") + 1,
            task.get(DPU.WDMA_SIZE_1, "HEIGHT_WDMA") + 1,
            task.get(DPU.WDMA_SIZE_0, "CHANNEL_WDMA") + 1,
        ),
    }
    core = extents["CORE"]
    if core[:2] != (width, pixels // max(width, 1)) or pixels % max(width, 1):
        yield f"CNA makes {pixels} pixels in rows of {width}, CORE expects {core[0]} x {core[1]}"
    for name, extent in extents.items():
        if extent != core:
            yield f"CORE makes {core} (width, height, channels), {name} expects {extent}"


def sizes_are_not_zero(task: RegisterTask) -> Iterator[str]:
    """Raw sizes and strides of CNA are at least 1. hardware/registers.md, CNA [trm]."""
    for register, names in (
        (CNA.DATA_SIZE0, ("DATAIN_WIDTH", "DATAIN_HEIGHT")),
        (CNA.DATA_SIZE1, ("DATAIN_CHANNEL",)),
        (CNA.DATA_SIZE2, ("DATAOUT_WIDTH",)),
        (CNA.DATA_SIZE3, ("DATAOUT_ATOMICS",)),
        (CNA.WEIGHT_SIZE0, ("WEIGHT_BYTES",)),
        (CNA.WEIGHT_SIZE1, ("WEIGHT_BYTES_PER_KERNEL",)),
        (CNA.WEIGHT_SIZE2, ("WEIGHT_WIDTH", "WEIGHT_HEIGHT", "WEIGHT_KERNELS")),
        (CNA.CONV_CON3, ("CONV_X_STRIDE", "CONV_Y_STRIDE")),
        (CNA.CBUF_CON0, ("DATA_BANK", "WEIGHT_BANK")),
        (CNA.CBUF_CON1, ("DATA_ENTRIES",)),
        (CNA.FC_DATA_SIZE0, ("DMA_WIDTH", "DMA_HEIGHT")),
        (CNA.FC_DATA_SIZE1, ("DMA_CHANNEL",)),
    ):
        for name in names:
            if task.get(register, name) == 0:
                yield f"{register}.{name} is 0"


def dma_reads_the_tile(task: RegisterTask) -> Iterator[str]:
    """FC_DATA_SIZE0/1 repeat DATA_SIZE0/1. hardware/registers.md, CNA [vendor]."""
    for register, name, other, other_name in (
        (CNA.FC_DATA_SIZE0, "DMA_WIDTH", CNA.DATA_SIZE0, "DATAIN_WIDTH"),
        (CNA.FC_DATA_SIZE0, "DMA_HEIGHT", CNA.DATA_SIZE0, "DATAIN_HEIGHT"),
        (CNA.FC_DATA_SIZE1, "DMA_CHANNEL", CNA.DATA_SIZE1, "DATAIN_CHANNEL"),
    ):
        size, expected = task.get(register, name), task.get(other, other_name)
        if size != expected:
            yield f"{register}.{name} {size} differs from {other_name} {expected}"


def weight_bytes_are_those_of_the_kernels(task: RegisterTask) -> Iterator[str]:
    """WEIGHT_BYTES = WEIGHT_BYTES_PER_KERNEL * WEIGHT_KERNELS; WEIGHT_KERNELS is 1 for depthwise.
    hardware/registers.md, CNA [vendor, 609 of 609].
    """
    total = task.get(CNA.WEIGHT_SIZE0, "WEIGHT_BYTES")
    each = task.get(CNA.WEIGHT_SIZE1, "WEIGHT_BYTES_PER_KERNEL")
    kernels = task.get(CNA.WEIGHT_SIZE2, "WEIGHT_KERNELS")
    if total != each * kernels:
        yield f"WEIGHT_BYTES is {total}, {kernels} kernels of {each} bytes are {each * kernels}"
    if _mode(task) == DEPTHWISE and kernels != 1:
        yield f"WEIGHT_KERNELS is {kernels} in a depthwise task"


def kernel_count_is_even(task: RegisterTask) -> Iterator[str]:
    """An int8 direct convolution has an even WEIGHT_KERNELS; odd counts gave errors of up to 2.
    hardware/convolution.md, Must not emit [silicon, one lab].
    """
    kernels = task.get(CNA.WEIGHT_SIZE2, "WEIGHT_KERNELS")
    if (_mode(task), _precision(task)) == (DIRECT, INT8) and kernels % 2:
        yield f"WEIGHT_KERNELS is {kernels}"


def fc_data_bank_is_zero(task: RegisterTask) -> Iterator[str]:
    """FC_DATA_BANK is 0; 1..7 corrupt. hardware/convolution.md, Must not emit [silicon]."""
    banks = task.get(CNA.CBUF_CON0, "FC_DATA_BANK")
    if banks:
        yield f"FC_DATA_BANK is {banks}"


def reuse_is_of_data_or_weights(task: RegisterTask) -> Iterator[str]:
    """WEIGHT_REUSE and DATA_REUSE are never set together. hardware/convolution.md, Must not emit [silicon]."""
    if task.get(CNA.CBUF_CON0, "WEIGHT_REUSE") and task.get(CNA.CBUF_CON0, "DATA_REUSE"):
        yield "WEIGHT_REUSE and DATA_REUSE are both set"


def banks_are_at_most_twelve(task: RegisterTask) -> Iterator[str]:
    """DATA_BANK + WEIGHT_BANK <= 12. hardware/convolution.md, Banks [vendor]."""
    data, weight = task.get(CNA.CBUF_CON0, "DATA_BANK"), task.get(CNA.CBUF_CON0, "WEIGHT_BANK")
    if data + weight > cbuf.BANKS:
        yield f"{data} data banks and {weight} weight banks"


def data_fits_its_banks(task: RegisterTask) -> Iterator[str]:
    """The input tile fits DATA_BANK banks; rows past the capacity are lost. Dense input is charged by the vendor's
    planner, the hardware tolerated slightly more. hardware/convolution.md, Banks [vendor, silicon].
    """
    need, have = _data_banks(task), task.get(CNA.CBUF_CON0, "DATA_BANK")
    if need is not None and need > have:
        yield f"the tile needs {need} data banks, DATA_BANK is {have}"


def data_entries_hold_the_row(task: RegisterTask) -> Iterator[str]:
    """DATA_ENTRIES is at least the CBUF formula of width and channels; dense input: align(W, 16) * H. Less cuts the
    row short. hardware/convolution.md, DATA_ENTRIES [vendor, 609 of 609 tasks; silicon, 12 of 12 with less fail].
    """
    entries = task.get(CNA.CBUF_CON1, "DATA_ENTRIES")
    width = task.get(CNA.DATA_SIZE0, "DATAIN_WIDTH")
    element_bytes = _ELEMENT_BYTES.get(_precision(task))
    if _dense_channels(task):
        expected = cbuf.image_entries(width, task.get(CNA.DATA_SIZE0, "DATAIN_HEIGHT"))
    elif element_bytes is not None:
        expected = cbuf.data_entries_per_row(width, task.get(CNA.DATA_SIZE1, "DATAIN_CHANNEL"), element_bytes)
    else:
        return
    if entries < expected:
        yield f"{CNA.CBUF_CON1}.DATA_ENTRIES is {entries}, the row takes {expected}"


def streamed_weights_have_their_minimum(task: RegisterTask) -> Iterator[str]:
    """Weights that exceed WEIGHT_BANK banks stream, and need 3 banks up to 256 input channels, 4 at 320, 5 from 384 on:
    with fewer the upper channels read back as zero. hardware/convolution.md, Banks [silicon, one lab].
    """
    have = task.get(CNA.CBUF_CON0, "WEIGHT_BANK")
    minimum = cbuf.minimum_streaming_weight_banks(task.get(CNA.DATA_SIZE1, "DATAIN_CHANNEL"))
    need = cbuf.weight_banks(task.get(CNA.WEIGHT_SIZE0, "WEIGHT_BYTES"))
    if have < need and have < minimum:
        yield f"weights of {need} banks stream through {have}, the minimum is {minimum}"


def narrow_input_has_a_slack_bank(task: RegisterTask) -> Iterator[str]:
    """At input width 1, int8, a nearly full last data bank can corrupt the tail rows: give one bank more.
    hardware/convolution.md, Slack bank [silicon, no closed form].
    """
    if task.get(CNA.DATA_SIZE0, "DATAIN_WIDTH") != 1 or _precision(task) != INT8 or _dense_channels(task):
        return
    used = task.get(CNA.CBUF_CON1, "DATA_ENTRIES") * task.get(CNA.DATA_SIZE0, "DATAIN_HEIGHT")
    have = task.get(CNA.CBUF_CON0, "DATA_BANK")
    fill = used / cbuf.BANK_ENTRIES - (have - 1)
    if cbuf.SLACK_FILL <= fill < 1:
        yield f"the last of {have} data banks is filled to {fill:.1%}"


def channels_are_whole_atoms(task: RegisterTask) -> Iterator[str]:
    """DATAIN_CHANNEL is a multiple of the channels of a 16-byte atom; one atom for dense input.
    hardware/registers.md, CNA [vendor].
    """
    element_bytes = _ELEMENT_BYTES.get(_precision(task))
    if element_bytes is None:
        return
    atom = 16 // element_bytes
    channels = task.get(CNA.DATA_SIZE1, "DATAIN_CHANNEL")
    if channels % atom:
        yield f"DATAIN_CHANNEL is {channels}, an atom has {atom}"
    elif _dense_channels(task) and channels != atom:
        yield f"DATAIN_CHANNEL of a dense input is {channels}, not {atom}"


def dense_input_has_one_to_four_channels(task: RegisterTask) -> Iterator[str]:
    """ARGB_IN is 8..11 (1..4 channels), with NONALIGN_DMA and GROUP_LINE_OFF; 5 channels or more need a cube.
    hardware/layouts.md, First layer [vendor, silicon]; convolution.md, Must not emit [trm].
    """
    channels = _dense_channels(task)
    if channels and channels not in cbuf.IMAGE_PIXEL_BYTES:
        yield f"ARGB_IN {channels + ARGB_BASE} stands for {channels} channels"
    nonalign, single = task.get(CNA.CONV_CON1, "NONALIGN_DMA"), task.get(CNA.CONV_CON1, "GROUP_LINE_OFF")
    if channels and not (nonalign and single):
        yield f"dense input with NONALIGN_DMA {nonalign}, GROUP_LINE_OFF {single}"
    if nonalign and not channels:
        yield "NONALIGN_DMA without ARGB_IN"


def deconvolution_strides_are_known(task: RegisterTask) -> Iterator[str]:
    """A transposed convolution has strides 2, 4 or 8, convolution stride 1, and pads below 12 at stride 2.
    hardware/convolution.md, Transposed convolution and Must not emit [silicon].
    """
    if not task.get(CNA.CONV_CON1, "DECONV"):
        return
    for axis, pad in (("X", "PAD_LEFT"), ("Y", "PAD_TOP")):
        stride = task.get(CNA.CONV_CON3, f"DECONV_{axis}_STRIDE") + 1
        if stride not in limits.DECONV_STRIDES:
            yield f"DECONV_{axis}_STRIDE {stride - 1} is stride {stride}"
        if task.get(CNA.CONV_CON3, f"CONV_{axis}_STRIDE") != 1:
            yield f"CONV_{axis}_STRIDE is {task.get(CNA.CONV_CON3, f'CONV_{axis}_STRIDE')} in a transposed convolution"
        if stride == 2 and task.get(CNA.PAD_CON0, pad) >= _DECONVOLUTION_PAD_END:
            yield f"{pad} is {task.get(CNA.PAD_CON0, pad)} at stride 2"


def depthwise_pads_alike(task: RegisterTask) -> Iterator[str]:
    """The two low bytes of PAD_CON1 are equal in a depthwise task with padding: odd channels among the first 32 of a
    group read byte 1, all others byte 0. hardware/layouts.md, Padding value and byte lanes [silicon, one lab].
    """
    value = task.word(CNA.PAD_CON1)
    if _mode(task) == DEPTHWISE and task.word(CNA.PAD_CON0) and value & 0xFF != value >> 8 & 0xFF:
        yield f"PAD_CON1 is {value:#010x}"


_MODES = (CNA.CONV_CON1, CORE.MISC_CFG, DPU.FEATURE_MODE_CFG)
_CHANNELS = (CORE.DATAOUT_SIZE_1, DPU.DATA_CUBE_CHANNEL, DPU.WDMA_SIZE_0)
_EXTENTS = (
    CNA.DATA_SIZE2,
    CNA.DATA_SIZE3,
    CORE.DATAOUT_SIZE_0,
    DPU.DATA_CUBE_WIDTH,
    DPU.DATA_CUBE_HEIGHT,
    DPU.WDMA_SIZE_1,
    *_CHANNELS,
)
_TILE = (CNA.DATA_SIZE0, CNA.DATA_SIZE1, CNA.FC_DATA_SIZE0, CNA.FC_DATA_SIZE1)
_WEIGHTS = (CNA.WEIGHT_SIZE0, CNA.WEIGHT_SIZE1, CNA.WEIGHT_SIZE2)
_DATA = (CNA.CONV_CON1, CNA.DATA_SIZE0, CNA.CBUF_CON0, CNA.CBUF_CON1)

RULES = (
    Rule(modes_agree, "illegal", _MODES),
    Rule(precisions_agree, "illegal", (CNA.CONV_CON1, CORE.MISC_CFG)),
    Rule(channel_counts_fill_groups, "hang", (CNA.CONV_CON1, *_CHANNELS)),
    Rule(output_extents_agree, "illegal", _EXTENTS),
    Rule(
        sizes_are_not_zero,
        "illegal",
        (*_TILE, *_WEIGHTS, CNA.DATA_SIZE2, CNA.DATA_SIZE3, CNA.CONV_CON3, CNA.CBUF_CON0, CNA.CBUF_CON1),
    ),
    Rule(dma_reads_the_tile, "illegal", _TILE),
    Rule(weight_bytes_are_those_of_the_kernels, "illegal", (CNA.CONV_CON1, *_WEIGHTS)),
    Rule(
        kernel_count_is_even,
        "corrupt",
        (CNA.CONV_CON1, CNA.WEIGHT_SIZE2),
        "public matrix products with one kernel run on boards",
    ),
    Rule(fc_data_bank_is_zero, "corrupt", (CNA.CBUF_CON0,)),
    Rule(reuse_is_of_data_or_weights, "corrupt", (CNA.CBUF_CON0,)),
    Rule(banks_are_at_most_twelve, "illegal", (CNA.CBUF_CON0,)),
    Rule(data_fits_its_banks, "corrupt", _DATA),
    Rule(data_entries_hold_the_row, "corrupt", (*_DATA, CNA.DATA_SIZE1)),
    Rule(
        streamed_weights_have_their_minimum,
        "corrupt",
        (CNA.CBUF_CON0, CNA.DATA_SIZE1, CNA.WEIGHT_SIZE0),
        "public matrix products with 544 and 384 channels run on boards with 2 banks",
    ),
    Rule(narrow_input_has_a_slack_bank, "corrupt", _DATA),
    Rule(channels_are_whole_atoms, "illegal", (CNA.CONV_CON1, CNA.DATA_SIZE1)),
    Rule(dense_input_has_one_to_four_channels, "illegal", (CNA.CONV_CON1,)),
    Rule(deconvolution_strides_are_known, "corrupt", (CNA.CONV_CON1, CNA.CONV_CON3, CNA.PAD_CON0)),
    Rule(depthwise_pads_alike, "corrupt", (CNA.CONV_CON1, CNA.PAD_CON0, CNA.PAD_CON1)),
)
