"""The vendor's cost model on the figures of hardware/performance.md."""

import pytest

from rocketnpu.errors import Error
from rocketnpu.hw import cost, layouts, limits


def mobilenet_v1():
    """(kind, input size, output size, input channels, output channels, kernel) of MobileNetV1 224, 1000 classes.

    The global average is the depthwise convolution that the vendor makes of it (hardware/convolution.md).
    """
    layers = [("direct", 224, 112, 3, 32, 3)]
    size, channels = 112, 32
    blocks = [(1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512), *[(1, 512)] * 5, (2, 1024), (1, 1024)]
    for stride, wider in blocks:
        layers.append(("depthwise", size, size // stride, channels, channels, 3))
        size //= stride
        layers.append(("direct", size, size, channels, wider, 1))
        channels = wider
    return [*layers, ("depthwise", 7, 1, 1024, 1024, 7), ("direct", 1, 1, 1024, 1000, 1)]


def cycles(layer):
    kind, size_in, size_out, c_in, c_out, k = layer
    if kind == "direct":
        mac = cost.direct_cycles(size_out, size_out, c_out, c_in, k, k)
        weights = layouts.direct_weight_bytes(c_out, k, k, c_in)
    else:
        mac = cost.depthwise_cycles(size_out, size_out, c_out, k, k)
        weights = layouts.depthwise_weight_bytes(k, k, c_out)
    stored_out = layouts.FeatureCube(size_out, size_out, c_out).size_bytes
    moved = cost.convolution_ddr_bytes(size_in * size_in * c_in, stored_out, weights, c_out)
    return mac, cost.ddr_cycles(moved)


def test_mobilenet_v1_totals():
    layers = [cycles(layer) for layer in mobilenet_v1()]
    assert len(layers) == 29
    assert sum(mac for mac, _ in layers) == 1_145_056
    # The published sums are of whole cycles, rounded in an unknown way: up to 2 cycles a layer.
    assert sum(memory for _, memory in layers) == pytest.approx(617_505, abs=2 * len(layers))
    assert sum(cost.layer_cycles(*layer) for layer in layers) == pytest.approx(1_198_203, abs=2 * len(layers))


def test_a_pointwise_layer_costs_the_same_up_to_128_input_channels():
    assert {cost.direct_cycles(8, 8, 32, c, 1, 1) for c in (1, 32, 96, 128)} == {64 * 4}
    assert cost.direct_cycles(8, 8, 32, 129, 1, 1) == 64 * 5


def test_a_large_direct_layer_reaches_the_peak_rate():
    macs = 64 * 64 * 256 * 256 * 9
    assert cost.direct_cycles(64, 64, 256, 256, 3, 3) * cost.DIRECT_INT8_MACS_PER_CYCLE == macs
    macs = 64 * 64 * 256 * 9
    assert cost.depthwise_cycles(64, 64, 256, 3, 3) * cost.DEPTHWISE_INT8_MACS_PER_CYCLE == macs


def test_pixels_count_in_groups_of_sixteen():
    assert [cost.pixel_cycles(*size) for size in ((1, 1), (4, 4), (7, 7), (1, 17))] == [16, 16, 64, 32]


def test_rows_fill_groups_of_pixels_at_their_least_common_multiple():
    assert [cost.group_rows(width) for width in (1, 7, 14, 28, 56, 160)] == [16, 16, 8, 4, 2, 1]


def test_more_kicks_and_more_compute_cost_more():
    chain = cost.ChainCost(500.0, 400, 2365)
    halves = [cost.ChainCost(250.0, 200, 2365 // 2)] * 2
    assert cost.kick_cost([chain]) == 500 + cost.KICK_CYCLES + cost.COMPUTE_WEIGHT * 400
    assert cost.kick_cost(halves) < cost.kick_cost([chain]) < 2 * cost.kick_cost(halves)


def test_memory_cycles_scale_with_the_clock():
    assert cost.ddr_cycles(23654) == pytest.approx(1000)
    assert cost.ddr_cycles(23654, clock_hz=6e8) == pytest.approx(600)


def test_a_fused_addition_also_reads_its_second_operand():
    assert cost.convolution_ddr_bytes(100, 200, 300, 32) == 856
    assert cost.convolution_ddr_bytes(100, 200, 300, 32, addend_bytes=200) == 1056


def test_pool_tiles_are_as_wide_as_the_vendors():
    # hardware/ppu.md: 5x5 s1 in 16 columns, 3x3 s1 at 32 whole, 3x3 s2 capped at 64, 2x2 s2 up to 128.
    tiles = [limits.max_pool_output_columns(*pool) for pool in ((5, 1), (3, 1), (3, 2), (2, 2))]
    assert tiles == [16, 32, 64, 128]
    with pytest.raises(Error, match="unmeasured"):
        limits.max_pool_output_columns(9, 1)
