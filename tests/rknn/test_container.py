"""Reading the vendor's container: what is in the files, and that nothing in them is trusted."""

from __future__ import annotations

import csv
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketnpu.compat.rknnlite import RKNNLite
from rocketnpu.errors import CompileError, ModelError
from rocketnpu.rknn import load_rknn
from rocketnpu.rknn.container import HEADER_BYTES, MAGIC, TASK_RECORD, parse_container
from rocketnpu.rknn.flat import FlatReader
from rocketnpu.runtime.load import load
from rocketnpu.runtime.session import Session

from .conftest import NAMES


@pytest.mark.parametrize("name", NAMES)
def test_tensors_have_the_recorded_quantization(name: str, vendor: dict[str, bytes], shared: Path) -> None:
    program = load_rknn(vendor[name], name)
    entries = {entry.name: entry for entry in program.tensors}
    with (shared / "vectors" / "vendor" / f"{name}.tensors.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(entries) == sorted(row["tensor"] for row in rows)
    for row in rows:
        entry = entries[row["tensor"]]
        assert (*entry.scales, *entry.zero_points) == (float(row["scale"]), int(row["zero_point"]))
        assert str(list(entry.shape)) == row["shape"]


@pytest.mark.parametrize("name", NAMES)
def test_tensor_names_inputs_and_outputs(name: str, vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor[name], name)
    outputs = {"a": ("conv1_relu",), "a2": ("conv3",), "b": ("sigmoid", "fc")}
    assert (program.inputs, program.outputs) == (("x",), outputs[name.partition("_")[0]])


def test_every_node_with_tasks_is_a_step_for_one_two_and_three_cores(vendor: dict[str, bytes]) -> None:
    steps = {step.name: step for step in load_rknn(vendor["b_channel"], "b").steps}
    kinds = [operator.kind for step in steps.values() for operator in step.operators]
    assert kinds[:8] == ["ConvRelu", "ConvClip", "ConvAdd", "MaxPool", "ConvRelu", "Concat", "Resize", "ConvSigmoid"]
    assert kinds[8:] == ["Conv", "Conv", "Conv"]
    assert steps["concat"].tasks == {
        1: (((5, 6),),),
        2: (((23, 24, 25), (42, 43, 44)),),
        3: (((54, 55, 56), (73, 74, 75), (84, 85, 86)),),
    }
    assert steps["resize"].tasks == {
        1: (((7, 8, 9, 10),),),
        2: (((26, 27, 28, 29), ()),),
        3: (((57, 58, 59, 60), (), ()),),
    }
    assert steps["add"].inputs == ("dw_relu6", "conv_rgb_relu")


def test_a_reshape_of_one_pixel_is_another_name_for_its_bytes(vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor["b_layer"], "b")
    entries = {entry.name: entry for entry in program.tensors}
    assert entries["fc"].cube == entries["fc_mm"].cube
    assert (entries["fc"].shape, entries["fc_mm"].shape) == ((1, 10), (1, 10, 1, 1))
    assert program.steps[-1].outputs == ("fc_mm", "fc")


def test_only_what_tasks_write_is_outside_the_constants(vendor: dict[str, bytes]) -> None:
    program = load_rknn(vendor["b_channel"], "b")
    sizes = {segment.name: (segment.size_bytes, segment.data is not None) for segment in program.segments}
    # tempMC11_output of 1024 bytes, and the place of the LUT load's cube, 8776 bytes in the file.
    assert sizes["scratch"] == (1024 + 8832, True)
    assert not sizes["arena"][1]


Change = Callable[[bytes], bytes]


def _patched(data: bytes, offset: int, value: bytes) -> bytes:
    return data[:offset] + value + data[offset + len(value) :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:0], "not an RKNN file"),
        (lambda data: b"TFL3" + data[4:], "not an RKNN file"),
        (lambda data: _patched(data, 8, struct.pack("<Q", 5)), "has version 5; only version 6"),
        (lambda data: data[:10], "cut short .*: 10 bytes, its header alone has 64"),
        (lambda data: data[:1000], "cut short .*: 1000 bytes, its body needs"),
        (lambda data: data[:-100], "cut short"),
        (lambda data: data.replace(b"rk3588\0", b"rk3568\0"), "compiled for 'rk3568'"),
        (lambda data: _patched(data, HEADER_BYTES + 4, b"TFL3"), "identifier"),
    ],
)
def test_other_files_are_refused_in_one_clear_line(change: Change, message: str, vendor: dict[str, bytes]) -> None:
    with pytest.raises(ModelError, match=message) as raised:
        load_rknn(change(vendor["a_channel"]), "a")
    assert "\n" not in str(raised.value)


def test_a_file_is_judged_by_its_content_not_by_the_compiler_that_it_names(vendor: dict[str, bytes]) -> None:
    data = vendor["a_channel"]
    assert b"2.5.0(comp" in data
    assert load_rknn(data.replace(b"2.5.0(comp", b"2.3.2(comp"), "a") == load_rknn(data, "a")


def test_a_relocation_to_a_segment_without_bytes_is_refused(
    vendor: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = load_rknn(vendor["b_channel"], "b")
    without = replace(program, segments=tuple(item for item in program.segments if item.name != "scratch"))
    monkeypatch.setattr("rocketnpu.runtime.load.load_rknn", lambda *_: without)
    with pytest.raises(ModelError, match="segment 'scratch', which does not exist"):
        load(vendor["b_channel"])


def test_a_refusal_names_the_compiler_of_the_file(vendor: dict[str, bytes]) -> None:
    with pytest.raises(ModelError, match=r"no node computes.*\(compiled by version 2\.5\.0\)"):
        load_rknn(vendor["a_channel"], "a", outputs=["nothing"])


def test_a_program_ends_at_the_outputs_that_are_asked_for(vendor: dict[str, bytes]) -> None:
    whole = load_rknn(vendor["b_layer"], "b")
    end = whole.steps[1].outputs[0]
    program = load_rknn(vendor["b_layer"], "b", outputs=[end])
    assert program.outputs == (end,)
    assert [step.name for step in program.steps] == [step.name for step in whole.steps[:2]]
    inputs = np.zeros(whole.tensors[0].shape, np.int8)
    with Session(whole, device="emulator") as first, Session(program, device="emulator") as second:
        assert np.array_equal(first.run(inputs, fetch=end)[end], second.run(inputs)[end])


def _for_one_core(data: bytes) -> bytes:
    """The file as a conversion for one core leaves it: no counts and no task records for the other lists."""
    container = parse_container(data)
    changed, kept = bytearray(data), 0
    for node in container.nodes:
        counts = struct.pack("<6I", *node.counts)
        if any(node.counts):
            kept += node.counts[0]
            position = changed.find(counts)
            assert position > 0
            changed[position : position + len(counts)] = struct.pack("<6I", node.counts[0], *[0] * 5)
    first = container.records[0]
    record = TASK_RECORD.pack(
        0, first.node, first.enable_mask, first.interrupt_mask, 0x1FFFF, 0, first.body_entries, 0, 0
    )
    table = changed.find(record)
    assert table > 0
    changed[table - 4 : table] = struct.pack("<I", kept * TASK_RECORD.size)
    return bytes(changed)


def test_a_file_for_one_core_runs_on_one(vendor: dict[str, bytes], tmp_path: Path) -> None:
    data = _for_one_core(vendor["a_channel"])
    program = load_rknn(data, "a")
    assert {cores for step in program.steps for cores in step.tasks} == {1}
    whole = load_rknn(vendor["a_channel"], "a")
    inputs = np.zeros(whole.tensors[0].shape, np.int8)
    with Session(program, device="emulator") as first, Session(whole, device="emulator") as second:
        found, expected = first.run(inputs), second.run(inputs)
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in expected.items()
    }
    with pytest.raises(CompileError, match="no task lists for 2 cores"):
        Session(program, device="emulator", cores=2)
    path = tmp_path / "a.rknn"
    path.write_bytes(data)
    rknn = RKNNLite()
    assert rknn.load_rknn(path) == 0
    assert rknn.init_runtime(core_mask=RKNNLite.NPU_CORE_0_1_2) == 0
    rknn.release()


@pytest.fixture(scope="module")
def smallest(vendor: dict[str, bytes]) -> bytes:
    return vendor["a_layer"]


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_load_or_are_refused(smallest: bytes, data: st.DataObject) -> None:
    """Offsets, lengths, indices and counts are all in the first kilobytes after the header, and around the end."""
    damaged = bytearray(smallest)
    position = data.draw(st.one_of(st.integers(0, 8000), st.integers(0, len(smallest) - 9)))
    size = data.draw(st.sampled_from([1, 2, 4, 8]))
    value = data.draw(st.one_of(st.just(b"\xff" * size), st.just(bytes(size)), st.binary(min_size=size, max_size=size)))
    damaged[position : position + size] = value
    cut = data.draw(st.one_of(st.just(len(damaged)), st.integers(0, len(damaged))))
    try:
        program = load_rknn(bytes(damaged[:cut]), "damaged")
    except ModelError:
        return
    assert program.steps


def _flatbuffer(builder: flatbuffers.Builder, root: int) -> bytes:
    builder.Finish(root, file_identifier=MAGIC)
    return bytes(builder.Output())


def test_tables_that_alias_each_other_cannot_amplify_a_file() -> None:
    count = 3000
    builder = flatbuffers.Builder(0)
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUint32(7)
    numbers = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, numbers, 0)
    table = builder.EndObject()
    builder.StartVector(4, count, 4)
    for _ in range(count):
        builder.PrependUOffsetTRelative(table)
    tables = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, tables, 0)
    root = FlatReader(_flatbuffer(builder, builder.EndObject()), MAGIC).root()
    items = root.tables(0, "item")
    with pytest.raises(ModelError, match="more than 4 times over"):
        any(item.vector(0, np.dtype(np.uint32)).size == 0 for item in items)


def test_a_field_outside_its_table_is_refused() -> None:
    builder = flatbuffers.Builder(0)
    builder.StartObject(1)
    builder.PrependUint8Slot(0, 1, 0)
    reader = FlatReader(_flatbuffer(builder, builder.EndObject()), MAGIC)
    assert reader.root().integer(0, "B") == 1
    with pytest.raises(ModelError, match="root slot 0: offset 7 lies outside the table of 8 bytes"):
        reader.root().integer(0, "I")


def test_task_records_are_in_list_order(vendor: dict[str, bytes]) -> None:
    container = parse_container(vendor["a_channel"])
    kinds = {0x1D: "conv", 0x60: "pool"}
    assert " ".join(kinds[record.enable_mask] for record in container.records) == "conv" + 5 * " conv pool"
    assert {record.interrupt_mask for record in container.records} == {0x300, 0xC00}
