"""CBUF arithmetic against the vendor compiler's tiling of 158 convolutions, and the measured rules."""

import json
from dataclasses import replace

import pytest

from rocketnpu.errors import Error
from rocketnpu.hw import cbuf, layouts
from rocketnpu.hw.cbuf import ConvPlan


@pytest.fixture(scope="module")
def vendor_plans(shared):
    """Every task of every case as (model, ConvPlan)."""
    cases = json.loads((shared / "vectors/vendor-conv-plans/conv_int8.json").read_text())["cases"]
    plans = []
    for case in cases:
        channels = case["shape"]["cin"]
        for task in case["vendor_programs"]:
            plan = ConvPlan(
                width=task["in_width"],
                rows=task["in_rows"],
                channels=channels,
                kernel_bytes=layouts.kernel_bytes(task["kernel_h"], task["kernel_w"], channels),
                kernels=task["kernels"],
                data_entries=task["cbuf_data_entries"],
                data_banks=task["cbuf_data_banks"],
                weight_banks=task["cbuf_weight_banks"],
                dense_image=channels <= 4,
                feature_grains=task["feature_grains"],
                address=task["in_offset"],
            )
            plans.append((case["model"], plan))
    assert len(cases) == 158
    assert len(plans) == 993
    return plans


def banks_needed(plan):
    if plan.dense_image:
        return cbuf.image_data_banks(plan.width, plan.rows, plan.channels)
    return cbuf.data_banks(cbuf.data_entries_per_row(plan.width, plan.channels), plan.rows)


def with_rows(plan, rows):
    entries = cbuf.image_entries(plan.width, rows) if plan.dense_image else plan.data_entries
    return replace(plan, rows=rows, data_entries=entries)


def fitting_rows(plan):
    if plan.dense_image:
        return cbuf.image_rows_that_fit(plan.width, plan.channels, plan.data_banks)
    return cbuf.rows_that_fit(plan.data_entries, plan.data_banks)


def test_every_vendor_plan_is_legal(vendor_plans):
    broken = {(model, plan): found for model, plan in vendor_plans if (found := cbuf.violations(plan))}
    assert not broken


def test_one_data_bank_less_than_an_exact_fit_is_refused(vendor_plans):
    exact = [plan for _, plan in vendor_plans if banks_needed(plan) == plan.data_banks]
    assert len(exact) == 705, "the exact fits among the plans"
    for plan in exact:
        short = replace(plan, data_banks=plan.data_banks - 1, weight_banks=plan.weight_banks + 1)
        found = cbuf.violations(short)
        assert any("data banks, " in line or "both need" in line for line in found), (short, found)


def test_one_row_more_than_the_banks_hold_is_refused(vendor_plans):
    for _, plan in vendor_plans:
        most = fitting_rows(plan)
        assert most >= plan.rows
        fits, over = with_rows(plan, most), with_rows(plan, most + 1)
        lost = [line for line in cbuf.violations(fits) if "lost" in line]
        assert not lost, fits
        assert any("the last rows are lost" in line for line in cbuf.violations(over)), over


def test_a_bank_sum_of_13_is_refused(vendor_plans):
    for _, plan in vendor_plans:
        assert plan.data_banks + plan.weight_banks == 12
        found = cbuf.violations(replace(plan, weight_banks=plan.weight_banks + 1))
        assert any("exceed the 12" in line for line in found), (plan, found)


def test_wrong_data_entries_are_refused(vendor_plans):
    for _, plan in vendor_plans:
        for entries in (plan.data_entries - 1, plan.data_entries + 1):
            found = cbuf.violations(replace(plan, data_entries=entries))
            assert found == [f"data entries {entries}, but this tile has {plan.data_entries}"], found


@pytest.mark.parametrize(
    ("width", "channels", "entries"),
    [
        (32, 16, 8),
        (32, 32, 16),
        (32, 48, 32),
        (32, 64, 32),
        (5, 32, 3),
        (14, 512, 112),
        (7, 1024, 112),
        (1, 112, 2),
    ],
)
def test_data_entries_examples(width, channels, entries):
    assert cbuf.data_entries_per_row(width, channels) == entries


def test_half_precision_takes_the_entries_of_twice_the_int8_channels():
    assert cbuf.data_entries_per_row(32, 24, element_bytes=2) == cbuf.data_entries_per_row(32, 48)


def test_a_dense_image_counts_aligned_pixels_of_the_whole_tile():
    assert cbuf.image_entries(226, 93) == 22320
    assert cbuf.image_data_banks(32, 32, 1) == 1
    assert [cbuf.image_data_banks(64, 64, c) for c in (1, 2, 3, 4)] == [1, 1, 2, 2]
    with pytest.raises(Error, match="1 to 4 channels, not 5"):
        cbuf.image_data_banks(64, 64, 5)


def plan_of(**changes):
    base = ConvPlan(
        width=14, rows=14, channels=512, kernel_bytes=512, kernels=512, data_entries=112, data_banks=4, weight_banks=8
    )
    return replace(base, **changes)


def test_weights_that_fit_need_only_their_banks():
    assert cbuf.violations(plan_of()) == []
    assert cbuf.violations(plan_of(kernels=64, weight_banks=1)) == []


@pytest.mark.parametrize(("channels", "least"), [(32, 3), (256, 3), (320, 4), (384, 5), (512, 5), (1024, 5)])
def test_streamed_weights_need_the_measured_minimum_of_banks(channels, least):
    assert cbuf.minimum_streaming_weight_banks(channels) == least
    entries = cbuf.data_entries_per_row(1, channels)
    streamed = plan_of(
        width=1, rows=1, channels=channels, kernel_bytes=9 * channels, kernels=8192, data_entries=entries, data_banks=1
    )
    assert cbuf.violations(replace(streamed, weight_banks=least)) == []
    (line,) = cbuf.violations(replace(streamed, weight_banks=least - 1))
    assert "upper channels would be zero" in line


@pytest.mark.parametrize(
    ("kernel", "channels", "kernels", "banks"),
    [
        (3, 256, 256, 8),  # 589,824 bytes
        (3, 256, 512, 10),  # 1.18 MB
    ],
)
def test_the_vendors_streamed_layers_are_legal(kernel, channels, kernels, banks):
    kernel_bytes = layouts.kernel_bytes(kernel, kernel, channels)
    assert cbuf.weight_banks(kernel_bytes * kernels) > banks
    plan = plan_of(
        width=7,
        rows=3,
        channels=channels,
        kernel_bytes=kernel_bytes,
        kernels=kernels,
        data_entries=28,
        data_banks=12 - banks,
        weight_banks=banks,
    )
    assert cbuf.violations(plan) == []
    assert cbuf.vendor_streaming_weight_banks(kernel, kernel, channels) <= banks


def test_width_one_needs_a_spare_bank_when_the_last_is_nearly_full():
    def column(rows, **changes):
        return plan_of(width=1, rows=rows, channels=64, data_entries=1, **changes)

    assert cbuf.slack_banks(1) == 1
    assert cbuf.slack_banks(2) == cbuf.slack_banks(1, element_bytes=2) == 0
    for rows in (500, 511, 1012, 1023):  # 97.7 % and more of the last bank
        full = cbuf.data_banks(1, rows)
        (line,) = cbuf.violations(column(rows, data_banks=full))
        assert "spare bank" in line
        assert cbuf.violations(column(rows, data_banks=full + 1)) == []
    for rows in (490, 512, 1024):  # well below, and exactly full
        assert cbuf.violations(column(rows, data_banks=cbuf.data_banks(1, rows))) == []
    half = replace(column(511, data_banks=1), channels=32, element_bytes=2, kernel_bytes=64)
    assert cbuf.violations(half) == []
    wide = plan_of(width=2, rows=511, channels=32, data_entries=1, data_banks=1)
    assert cbuf.violations(wide) == []


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": 2048, "data_entries": 16384}, "input width 2048 exceeds"),
        ({"kernel_bytes": 1 << 19}, "bytes per kernel 524288 exceeds"),
        ({"feature_grains": 1024}, "feature grains 1024 exceeds"),
        ({"address": 24}, "0x18 is not a multiple of 16"),
        ({"kernels": 33}, "an odd count of int8 kernels, 33"),
        ({"weight_banks": 0}, "both need at least 1"),
        ({"dense_image": True}, "not 512"),
        ({"rows": 0}, "at least 1"),
    ],
)
def test_other_violations_are_named(changes, text):
    assert any(text in line for line in cbuf.violations(plan_of(**changes))), cbuf.violations(plan_of(**changes))


def test_depthwise_programs_one_kernel():
    assert cbuf.violations(plan_of(kernel_bytes=9 * 512, kernels=1, depthwise=True)) == []
