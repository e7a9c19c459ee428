"""Cutting a convolution into tasks that fit the CBUF, and sharing its banks between features and weights.

Rules (hardware/convolution.md, Tiling rules and CBUF arithmetic):

1. A tile is a range of output rows, output columns and, where weights or rows ask for it, output channels. The input
   rows under it must fit the data banks completely; weights fit theirs or stream with at least the minimum of banks.
2. Rows are cut first, in bands of equal height, or in bands whose pixels fill the groups that the MAC array works on
   (hw/cost.py) with a smaller rest; columns only where the fewest rows do not fit; channels in multiples of
   32 (64 for depthwise).
3. Strides beyond the field are not needed where a tile has one output along that axis.
4. A dense image (hardware/layouts.md, First layer) is cut in rows only, since a tile must start on a 16-byte address.
5. Among the legal ways the one with the lowest cost wins: cycles by the vendor's model (hw/cost.py) of every task, halo
   and weights read again included, plus a fixed cost a task.
6. Images of a batch are one tall image where no output reads rows of two of them. Elsewhere a tile lies in one image,
   and the same channels of all images follow one another.
7. A task keeps the weights of the task before it (WEIGHT_REUSE) where both have the same ones, which fit their banks;
   the banks of such tasks are the same (hardware/convolution.md, Tiling rules).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, product

from rocketnpu.compiler.npu_ops import ATOM_CHANNELS, Convolution, Run, Window
from rocketnpu.compiler.npu_ops.error import ConstraintError
from rocketnpu.hw import cbuf, cost, limits
from rocketnpu.hw.cost import TaskCost, chain_cost
from rocketnpu.hw.sizes import INT32_BYTES, align


@dataclass(frozen=True)
class Tile:
    """One task's share: output `window`, output channels c0..c1, the input rows and columns read, padding and banks.

    `keeps_weights`: they are in the CBUF, from the tile before it.
    """

    window: Window
    c0: int
    c1: int
    input_y0: int
    input_y1: int
    input_x0: int
    input_x1: int
    pad_top: int
    pad_left: int
    data_banks: int
    weight_banks: int
    keeps_weights: bool = False


@dataclass(frozen=True)
class _Split:
    """How many channels, columns and rows of output one task takes at most, and the banks its weights get at least."""

    channels: int
    columns: int
    rows: int
    weight_banks: int


def tile(conv: Convolution, optimize: int = 1, rows: tuple[int, int] | None = None) -> tuple[Tile, ...]:
    """The tasks of one convolution, in order; ConstraintError names what no tile can satisfy.

    `rows` are a part of the output's, counted as for Convolution.runs; None: all of them.
    At the level 0 of `optimize` the first legal way wins instead of rule 5's; level 2 knows more ways (rule 2).
    """
    unmet = "one output pixel's input window and kernels fit the CBUF"
    best: tuple[Tile, ...] | None = None
    splits: list[_Split] = []
    conv = conv.joined()
    runs = tuple(conv.runs(*rows)) if rows else _all_runs(conv)
    for split in _splits(conv, runs):
        if _count(conv, split, runs) > limits.MAX_TASKS_PER_KICK:
            unmet = f"at most {limits.MAX_TASKS_PER_KICK} tasks compute one operator"
            continue
        try:
            tiles = _keeping_weights(conv, tuple(_tiles(conv, split, runs, fills_groups=False)))
        except ConstraintError as constraint:
            unmet = str(constraint)
            continue
        splits.append(split)
        if best is None or tiles_cycles(conv, tiles) < tiles_cycles(conv, best):
            best = tiles
        if optimize == 0:
            break
    if best is None:
        raise ConstraintError(unmet)
    return _with_filled_groups(conv, runs, splits, best) if optimize > 1 else best


def _all_runs(conv: Convolution) -> tuple[Run, ...]:
    return tuple(conv.runs(conv.window.y0, conv.window.y0 + conv.images * conv.window_rows))


def _with_filled_groups(
    conv: Convolution, runs: Sequence[Run], splits: Sequence[_Split], best: tuple[Tile, ...]
) -> tuple[Tile, ...]:
    """Bands that fill groups of pixels where nothing about them is worse: neither cycles nor traffic nor tasks."""
    for split in splits:
        try:
            tiles = _keeping_weights(conv, tuple(_tiles(conv, split, runs, fills_groups=True)))
        except ConstraintError:
            continue
        now, before = (chain_cost(tile_cost(conv, part) for part in found) for found in (tiles, best))
        worse = now.cycles > before.cycles or now.moved_bytes > before.moved_bytes or len(tiles) > len(best)
        if not worse and (now.cycles, now.mac_cycles) < (before.cycles, before.mac_cycles):
            best = tiles
    return best


def fits(conv: Convolution) -> bool:
    """Whether kernel, dilation and channels fit their fields, and one output pixel's window and kernels the CBUF."""
    within_fields = (
        max(conv.kernel_h, conv.kernel_w) <= limits.MAX_KERNEL
        and max(conv.dilation_h, conv.dilation_w) <= limits.MAX_DILATION
        and stored_input_channels(conv, limits.DEPTHWISE_GROUP) <= limits.MAX_CONV_CHANNELS
    )
    return within_fields and next(_splits(conv, _all_runs(conv)), None) is not None


def stored_input_channels(conv: Convolution, channels: int) -> int:
    """Input channels a task reads, in whole atoms: its own channels for depthwise, else all of them."""
    return align(channels if conv.depthwise else conv.input_channels, ATOM_CHANNELS)


def kernel_bytes(conv: Convolution, channels: int) -> int:
    """WEIGHT_BYTES_PER_KERNEL of a task with that many output channels."""
    return conv.kernel_h * conv.kernel_w * stored_input_channels(conv, channels)


def weight_bytes(conv: Convolution, channels: int) -> int:
    """WEIGHT_BYTES of a task: one kernel for depthwise, else an even number of them."""
    return kernel_bytes(conv, channels) * (1 if conv.depthwise else align(channels, 2))


def _splits(conv: Convolution, runs: Sequence[Run]) -> Iterator[_Split]:
    """Legal splits, coarse ones first: for each channel split the widest columns that fit."""
    columns, rows = conv.window.x1 - conv.window.x0, max(y1 - y0 for _, y0, y1 in runs)
    group = limits.DEPTHWISE_GROUP if conv.depthwise else limits.DIRECT_OUTPUT_GROUP
    for channels in _halvings(conv.output_channels, group):
        if kernel_bytes(conv, channels) > limits.MAX_KERNEL_BYTES or align(channels, group) > limits.MAX_CUBE:
            continue
        for weight_banks in _weight_bank_choices(conv, channels):
            for width in _halvings(columns, 1):
                height = min(rows, _rows_that_fit(conv, channels, width, weight_banks))
                if conv.output_shape.width - width > limits.MAX_NOTCH:
                    height = min(height, 1)
                if height >= 1 and _legal_width(conv, width):
                    yield _Split(channels, width, height, weight_banks)
                    break


def _halvings(total: int, unit: int) -> Iterator[int]:
    """total, then a half, a third ... of it, each rounded up to whole units, without repeats, down to one unit."""
    previous = 0
    for parts in range(1, -(-total // unit) + 1):
        size = min(total, align(-(-total // parts), unit))
        if size != previous:
            yield size
            previous = size


def _count(conv: Convolution, split: _Split, runs: Sequence[Run]) -> int:
    """Tasks of a split."""
    columns = -(-(conv.window.x1 - conv.window.x0) // split.columns)
    bands = sum(-(-(y1 - y0) // split.rows) for _, y0, y1 in runs)
    return -(-conv.output_channels // split.channels) * columns * bands


def _weight_bank_choices(conv: Convolution, channels: int) -> list[int]:
    """Banks for weights that fit completely, and the minimum for weights that stream."""
    total = weight_bytes(conv, channels)
    resident = cbuf.weight_banks(total)
    choices = [resident] if resident < cbuf.BANKS else []
    if not conv.depthwise:
        # What the vendor grants streamed weights, and the fewest banks with which silicon still gave right results.
        stored = stored_input_channels(conv, channels)
        least = cbuf.minimum_streaming_weight_banks(stored)
        granted = cbuf.vendor_streaming_weight_banks(conv.kernel_h, conv.kernel_w, stored)
        choices += [banks for banks in sorted({least, max(least, granted)}) if banks < min(resident, cbuf.BANKS)]
    return choices


def _legal_width(conv: Convolution, columns: int) -> bool:
    span = min(conv.input_shape.width, (columns - 1) * conv.stride_w + conv.reach_w)
    return max(span, columns) <= limits.MAX_CONV_INPUT and (conv.stride_w <= limits.MAX_CONV_STRIDE or columns == 1)


def _rows_that_fit(conv: Convolution, channels: int, columns: int, weight_banks: int) -> int:
    """The most output rows whose input rows fit the banks that weights leave, and the size fields; 0 if none."""
    span = min(conv.input_shape.width, (columns - 1) * conv.stride_w + conv.reach_w)
    banks = cbuf.BANKS - weight_banks - cbuf.slack_banks(span)
    capacity = _input_rows_that_fit(conv, channels, span, banks)
    input_rows = min(capacity, limits.MAX_CONV_INPUT, _grain_rows(conv))
    if input_rows >= conv.input_height and conv.stride_h <= limits.MAX_CONV_STRIDE:
        return conv.window_rows
    if input_rows < conv.reach_h:
        return 0
    return 1 if conv.stride_h > limits.MAX_CONV_STRIDE else (input_rows - conv.reach_h) // conv.stride_h + 1


def _input_rows_that_fit(conv: Convolution, channels: int, span: int, banks: int) -> int:
    if conv.image_input:
        # DATA_ENTRIES counts the whole tile here, and columns stay uncut: a tile must start on a 16-byte address.
        if span < conv.input_shape.width:
            return 0
        rows = cbuf.image_rows_that_fit(span, conv.input_channels, banks)
        return min(rows, limits.MAX_DATA_ENTRIES // cbuf.image_entries(span, 1))
    entries = cbuf.data_entries_per_row(span, stored_input_channels(conv, channels))
    return 0 if entries > limits.MAX_DATA_ENTRIES else cbuf.rows_that_fit(entries, banks)


def _data_banks(conv: Convolution, channels: int, columns: int, rows: int) -> int:
    if conv.image_input:
        return cbuf.image_data_banks(columns, rows, conv.input_channels)
    entries = cbuf.data_entries_per_row(columns, stored_input_channels(conv, channels))
    return cbuf.data_banks(entries, rows) + cbuf.slack_banks(columns)


def _grain_rows(conv: Convolution) -> int:
    """Rows of a tile for which rows + kernel + top padding stays within FEATURE_GRAINS."""
    return limits.MAX_FEATURE_GRAINS - conv.kernel_h - limits.MAX_CONV_PAD


def _bands(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of nearly equal length, none longer than `size`."""
    count = -(-(stop - start) // size)
    edges = [start + (stop - start) * part // count for part in range(count + 1)]
    yield from pairwise(edges)


def _filling_bands(start: int, stop: int, size: int, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows of `width` pixels in whole groups of pixels but for the last, none longer than `size`."""
    unit = cost.group_rows(width)
    step = size // unit * unit or size
    yield from pairwise([*range(start, stop, step), stop])


def _tiles(conv: Convolution, split: _Split, runs: Sequence[Run], *, fills_groups: bool) -> Iterator[Tile]:
    x0, x1 = conv.window.x0, conv.window.x1
    columns = list(_bands(x0, x1, split.columns))
    for c0 in range(0, conv.output_channels, split.channels):
        c1 = min(c0 + split.channels, conv.output_channels)
        for image, start, stop in runs:
            if fills_groups:
                rows = _filling_bands(start, stop, split.rows, min(split.columns, x1 - x0))
            else:
                rows = _bands(start, stop, split.rows)
            for (y0, y1), (left, right) in product(rows, columns):
                part = _tile(conv, Window(y0, y1, left, right), c0, c1, split.weight_banks)
                yield _in_image(conv, part, image) if image else part


def _in_image(conv: Convolution, part: Tile, image: int) -> Tile:
    """A tile of the first image in another one."""
    first, first_input, window = image * conv.output_height, image * conv.input_height, part.window
    return replace(
        part,
        window=replace(window, y0=first + window.y0, y1=first + window.y1),
        input_y0=first_input + part.input_y0,
        input_y1=first_input + part.input_y1,
    )


def _tile(conv: Convolution, window: Window, c0: int, c1: int, least_weight_banks: int) -> Tile:
    top = window.y0 * conv.stride_h + conv.origin_h
    left = window.x0 * conv.stride_w + conv.origin_w
    bottom = (window.y1 - 1) * conv.stride_h + conv.origin_h + conv.reach_h
    right = (window.x1 - 1) * conv.stride_w + conv.origin_w + conv.reach_w
    if max(-top, -left) > limits.MAX_CONV_PAD:
        raise ConstraintError("padding before the first row and column is at most 15")
    y0, y1 = max(top, 0), min(bottom, conv.input_height)
    x0, x1 = max(left, 0), min(right, conv.input_shape.width)
    if y0 >= y1 or x0 >= x1:
        raise ConstraintError("no task lies in the padding alone")
    data_banks = min(_data_banks(conv, c1 - c0, x1 - x0, y1 - y0), cbuf.BANKS - least_weight_banks)
    return Tile(
        window=window,
        c0=c0,
        c1=c1,
        input_y0=y0,
        input_y1=y1,
        input_x0=x0,
        input_x1=x1,
        pad_top=max(-top, 0),
        pad_left=max(-left, 0),
        data_banks=data_banks,
        weight_banks=cbuf.BANKS - data_banks,
    )


def _keeping_weights(conv: Convolution, tiles: tuple[Tile, ...]) -> tuple[Tile, ...]:
    """Rule 7. Data banks are the most that one of the tiles needs, in all of them."""
    data_banks = max(part.data_banks for part in tiles)
    weight_banks = cbuf.BANKS - data_banks
    result: list[Tile] = []
    for part in tiles:
        resident = cbuf.weight_banks(weight_bytes(conv, part.c1 - part.c0)) <= weight_banks
        same = bool(result) and (result[-1].c0, result[-1].c1) == (part.c0, part.c1)
        banks = replace(part, data_banks=data_banks, weight_banks=weight_banks)
        result.append(replace(banks, keeps_weights=resident and same))
    return tuple(result) if any(part.keeps_weights for part in result) else tiles


def tiles_cycles(conv: Convolution, tiles: Sequence[Tile]) -> float:
    """What a chain of tiles costs (rule 5)."""
    return sum(tile_cost(conv, part).cycles + cost.CHAINED_TASK_CYCLES for part in tiles)


def tile_cost(conv: Convolution, part: Tile) -> TaskCost:
    """What one task costs: its input rows, its weights and operands, its output and the residual that it adds."""
    window, channels = part.window, part.c1 - part.c0
    height, width = window.y1 - window.y0, window.x1 - window.x0
    pixels = (part.input_y1 - part.input_y0) * (part.input_x1 - part.input_x0)
    pixel_bytes = conv.input_channels if conv.image_input else stored_input_channels(conv, channels)
    element_bytes = 1 if conv.fraction_bits is None else INT32_BYTES
    written = height * width * align(channels * element_bytes, ATOM_CHANNELS)
    read = pixels * pixel_bytes + cost.OPERAND_BYTES_PER_CHANNEL * channels
    if not part.keeps_weights:
        read += weight_bytes(conv, channels)
    if conv.residual is not None:
        read += written
    if conv.depthwise:
        macs = cost.depthwise_cycles(height, width, channels, conv.kernel_h, conv.kernel_w)
    else:
        macs = cost.direct_cycles(height, width, channels, conv.input_channels, conv.kernel_h, conv.kernel_w)
    return TaskCost(macs, read, written)


def aligned_channels(conv: Convolution, tile: Tile) -> int:
    """Channels that CORE, DPU and the writer run: whole groups, or the task hangs (hardware/convolution.md)."""
    return align(tile.c1 - tile.c0, limits.DEPTHWISE_GROUP if conv.depthwise else limits.DIRECT_OUTPUT_GROUP)
