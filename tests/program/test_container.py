"""The .rnpu container: what it keeps, and what it refuses."""

from __future__ import annotations

import contextlib
import hashlib
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rocketnpu as rn
from rocketnpu.program.container import decode_program, encode_program
from support.models import ModelBuilder

HEADER = struct.Struct("<4sIQ32s")


def model_with_everything() -> tuple[bytes, list[Any]]:
    """Steps on both sides, an alias, a dissolved tensor, per-channel operands, several tasks."""
    model = ModelBuilder(seed=1)
    x = model.conv2d(model.input((1, 8, 8, 3), "int8"), 20, per_channel=True)
    x = model.add(x, model.softmax(x))
    x = model.reshape(x, (1, 4, 16, 20))
    x = model.depthwise(x, multiplier=2)
    flat = model.reshape(x, (1, 4 * 16 * 40))
    return model.build(model.fully_connected(flat, 7)), model.random_inputs()


DATA, INPUTS = model_with_everything()
PROGRAM = rn.compile(DATA)
FILE = encode_program(PROGRAM)


def pack(body: Any, version: int = 1) -> bytes:
    """A file of version 1 or 2 with this body and the checksum that belongs to it."""
    content = body if isinstance(body, bytes) else msgspec.msgpack.encode(body)
    return HEADER.pack(b"RNPU", version, len(content), hashlib.sha256(content).digest()) + content


def test_a_program_survives_the_file() -> None:
    assert decode_program(FILE) == PROGRAM


def test_the_file_depends_on_the_program_alone() -> None:
    assert encode_program(rn.compile(DATA)) == FILE
    assert encode_program(decode_program(FILE)) == FILE


def test_a_loaded_program_gives_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model.rnpu"
    PROGRAM.save(path)
    with rn.Session(PROGRAM) as fresh, rn.Session(path) as loaded:
        first, second = fresh.run(INPUTS, fetch="all"), loaded.run(INPUTS, fetch="all")
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_every_truncation_is_refused() -> None:
    for length in [*range(200), *range(200, len(FILE), max(1, len(FILE) // 300)), len(FILE) - 1]:
        with pytest.raises(rn.ModelError):
            decode_program(FILE[:length])


def test_anything_after_the_end_is_refused() -> None:
    with pytest.raises(rn.ModelError, match="damaged"):
        decode_program(FILE + b"\0")


@settings(derandomize=True, max_examples=400, deadline=None)
@given(st.integers(0, 8 * len(FILE) - 1))
def test_a_flipped_bit_anywhere_is_refused(bit: int) -> None:
    spoilt = bytearray(FILE)
    spoilt[bit // 8] ^= 1 << bit % 8
    with pytest.raises(rn.ModelError):
        decode_program(bytes(spoilt))


def test_every_bit_of_the_header_counts() -> None:
    for bit in range(8 * HEADER.size):
        spoilt = bytearray(FILE)
        spoilt[bit // 8] ^= 1 << bit % 8
        with pytest.raises(rn.ModelError):
            decode_program(bytes(spoilt))


def test_a_foreign_version_is_named() -> None:
    spoilt = bytearray(FILE)
    spoilt[4:8] = struct.pack("<I", 77)
    with pytest.raises(rn.ModelError, match="version 77; this release reads versions 1 to 3"):
        decode_program(bytes(spoilt), "old.rnpu")


def test_other_files_are_not_programs(tmp_path: Path) -> None:
    path = tmp_path / "model.rnpu"
    path.write_bytes(DATA)
    with pytest.raises(rn.ModelError, match=r"model\.rnpu is not a compiled program"):
        rn.load(path)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x93\x01\x02\x03", b"\xdf" + b"\xff" * 8, b"\x91" * 5000, b"\x80"])
def test_bodies_that_are_no_program_are_refused(body: bytes) -> None:
    with pytest.raises(rn.ModelError):
        decode_program(pack(body))


def tree() -> Any:
    """The body as plain lists, dicts and scalars."""
    return msgspec.msgpack.decode(FILE[HEADER.size :])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value of the tree."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            found += places(item, (*path, index))
    return found


def replaced(path: tuple[Any, ...], value: Any) -> bytes:
    """The file with one value exchanged and a right checksum."""
    body = tree()
    target = body
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return pack(body)


def fields(path: tuple[Any, ...]) -> tuple[Any, ...]:
    """The path without list positions, so that each field gets its share of the examples."""
    return tuple(key for key in path if not isinstance(key, int))


PLACES: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
for found_path in places(tree()):
    PLACES.setdefault(fields(found_path), []).append(found_path)

STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 40),
    st.sampled_from([2**15, 2**31, 2**32 - 16, 2**32, 2**63, 2**64 - 1, -(2**63), 0.5, float("nan"), float("inf")]),
    st.sampled_from(["", "constants", "commands", "activations", "conv_2d", "nothing", "npu", "cpu", "int8", "uint8"]),
    st.sampled_from(["O", "float64", "V0", "S0", "M8", "(2,", "i4,i4", "int16", "NCHW", b"", b"TFL3" * 5]),
    st.lists(st.integers(-1, 9), max_size=4),
    st.just({}),
)


DANGEROUS = {
    ("tensors", 0, "dtype"): "O",
    ("tensors", 2, "dtype"): "M8[s]",
    ("tensors", 6, "dtype"): "(2,",
    ("tensors", 0, "cube", "pitch_atoms"): 2**63,
    ("tensors", 0, "zero_points", 0): 2**64 - 1,
    ("tensors", 1, "cube", "offset_bytes"): -16,
    ("tasks", 0, "first_word"): 2**40,
    ("relocations", 0, "word"): -1,
    ("relocations", 0, "addend_bytes"): 2**33,
    ("segments", 0, "size_bytes"): 2**40,
}
"""Values that would read or write outside a buffer, or make numpy raise what is no error of the package."""


@pytest.mark.parametrize("path", DANGEROUS, ids=str)
def test_values_that_lead_outside_the_program_are_refused(path: tuple[Any, ...]) -> None:
    with pytest.raises(rn.ModelError, match="inconsistent"):
        decode_program(replaced(path, DANGEROUS[path]))


@pytest.mark.filterwarnings("ignore::rocketnpu.DeviceWarning")  # a register that is wrong but harmless
@settings(derandomize=True, max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_file_with_one_wrong_value_is_refused_or_harmless(data: st.DataObject) -> None:
    """Harmless: it loads and runs, or fails with one of the package's own errors; never with any other."""
    path = data.draw(st.sampled_from(PLACES[data.draw(st.sampled_from(sorted(PLACES, key=str)))]))
    spoilt = replaced(path, data.draw(STRANGE))
    with contextlib.suppress(rn.Error):
        program = decode_program(spoilt)
        if sum(segment.size_bytes for segment in program.segments) < 1 << 28:
            with rn.Session(program) as session:
                inputs = [np.zeros(info.shape, info.dtype) for info in session.inputs]
                session.run(inputs, fetch="all")


def piece_without_softmax() -> bytes:
    """A model with the inputs of the CPU's piece, and another output."""
    model = ModelBuilder(seed=2)
    x = model.input((1, 8, 8, 20))
    return model.build(model.average_pool(x))


def test_a_piece_with_other_outputs_than_its_step_is_refused() -> None:
    (index,) = (n for n, step in enumerate(PROGRAM.steps) if step.place == "cpu")
    spoilt = decode_program(replaced(("steps", index, "step", "model"), piece_without_softmax()))
    two = ModelBuilder(seed=3)
    x = two.input((1, 8, 8, 20))
    more = decode_program(replaced(("steps", index, "step", "model"), two.build(two.softmax(x), two.softmax(x))))
    for program, message in ((spoilt, "shape"), (more, "has 1 outputs, its piece of a model 2")):
        with rn.Session(program) as session, pytest.raises(rn.ModelError, match=message):
            session.run(INPUTS)


def test_a_piece_that_makes_other_tensors_than_the_table_says_is_refused() -> None:
    (output,) = (name for step in PROGRAM.steps if step.place == "cpu" for name in step.outputs)
    (index,) = (n for n, tensor in enumerate(PROGRAM.tensors) if tensor.name == output)
    program = decode_program(replaced(("tensors", index, "dtype"), "uint8"))
    with rn.Session(program) as session, pytest.raises(rn.ModelError, match="but the program says uint8"):
        session.run(INPUTS)


def test_a_program_keeps_its_target() -> None:
    for target in ("any", "rocket", "rknpu"):
        program = replace(PROGRAM, target=target)
        assert decode_program(encode_program(program)).target == target


def test_a_file_of_version_1_runs_through_either_driver() -> None:
    """Version 1 is that of version 2 without a target."""
    body = version_2()
    del body["target"]
    found = decode_program(pack(body))
    assert found == uncounted()
    assert found.target == "any"


def test_a_file_of_version_2_does_not_say_how_many_macs_it_has() -> None:
    found = decode_program(pack(version_2(), version=2))
    assert found == uncounted()
    placement = found.placement
    assert (placement.npu_macs, placement.macs) == (None, None)
    assert placement.npu_percent == 100 * placement.npu_operators / placement.operators


def version_2() -> dict[str, Any]:
    """Today's body without notes and MACs."""
    body = msgspec.msgpack.decode(FILE[HEADER.size :])
    del body["notes"]
    for item in body["steps"]:
        for operator in item["step"]["operators"]:
            del operator["macs"]
    return body


def uncounted() -> rn.Program:
    steps = tuple(
        replace(step, operators=tuple(replace(operator, macs=None) for operator in step.operators))
        for step in PROGRAM.steps
    )
    return replace(PROGRAM, steps=steps)


def test_notes_and_macs_survive_the_file() -> None:
    program = replace(PROGRAM, notes=("the batch is 1",))
    assert decode_program(encode_program(program)).notes == ("the batch is 1",)
    assert PROGRAM.placement.macs == decode_program(FILE).placement.macs != 0


def test_macs_below_zero_are_refused() -> None:
    step = PROGRAM.steps[0]
    wrong = replace(step, operators=(replace(step.operators[0], macs=-1), *step.operators[1:]))
    with pytest.raises(rn.ModelError, match="has -1 MACs"):
        decode_program(encode_program(replace(PROGRAM, steps=(wrong, *PROGRAM.steps[1:]))))


def test_an_unknown_target_is_refused() -> None:
    body = msgspec.msgpack.decode(FILE[HEADER.size :])
    with pytest.raises(rn.ModelError, match="target"):
        decode_program(pack({**body, "target": "tpu"}))
