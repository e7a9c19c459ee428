"""The names that users build on (docs/api.md)."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.verify import verify
from support.models import ModelBuilder


def model() -> tuple[bytes, list[np.ndarray]]:
    builder = ModelBuilder(seed=1)
    return builder.build(builder.conv2d(builder.input((1, 8, 8, 3)), 8)), builder.random_inputs()


def test_the_public_names_exist() -> None:
    names = {"Program", "Session", "Device", "Emulator", "Error", "ModelError", "CompileError", "DeviceError"}
    names |= {"DeviceTimeout", "Interpreter", "assemble", "compile", "devices", "disassemble", "load"}
    assert names <= set(rn.__all__)
    assert all(getattr(rn, name).__doc__ for name in rn.__all__), "a public name has no docstring"


@pytest.mark.parametrize("kind", [rn.ModelError, rn.CompileError, rn.DeviceError, rn.DeviceTimeout])
def test_every_error_is_an_error_of_the_package(kind: type[Exception]) -> None:
    assert issubclass(kind, rn.Error)


def test_signatures_are_the_documented_ones() -> None:
    assert list(inspect.signature(rn.compile).parameters)[:1] == ["model"]
    assert {"cores", "keep"} <= set(inspect.signature(rn.compile).parameters)
    assert list(inspect.signature(rn.Session).parameters)[:2] == ["model", "device"]
    assert list(inspect.signature(rn.Session.run).parameters)[1:] == ["x", "fetch"]


def test_a_model_may_be_a_path_a_string_or_bytes(tmp_path: Path) -> None:
    data, inputs = model()
    path = tmp_path / "model.tflite"
    path.write_bytes(data)
    results = []
    for source in (path, str(path), data, rn.compile(path)):
        with rn.Session(source) as session:
            results.append(session.run(inputs)["conv_2d"])
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


def test_a_program_is_saved_and_loaded(tmp_path: Path) -> None:
    data, inputs = model()
    program = rn.compile(data)
    path = tmp_path / "model.rnpu"
    program.save(path)
    assert rn.load(path) == rn.load(str(path)) == rn.load(path.read_bytes()) == program
    with rn.Session(path) as session:
        assert session.run(inputs)["conv_2d"].dtype == np.int8


@pytest.mark.parametrize("content", [b"", b"RNPU", b"TFL3", b"not a model at all" * 100])
def test_other_files_are_model_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    for use in (rn.compile, rn.load, rn.Session):
        with pytest.raises(rn.ModelError) as caught:
            use(path)
        assert "\n" not in str(caught.value)
        assert "model.bin" in str(caught.value)


def test_the_emulator_is_always_there() -> None:
    assert "emulator" in [info.name for info in rn.devices()]
    with rn.Session(model()[0]) as session:
        assert session.device.name in [info.name for info in rn.devices()]


def test_commands_can_be_read_and_written_as_text() -> None:
    program = rn.compile(model()[0])
    words = next(
        np.frombuffer(segment.data or b"", "<u8") for segment in program.segments if segment.name == "commands"
    )
    text = rn.disassemble(words)
    assert "CNA" in text
    np.testing.assert_array_equal(rn.assemble(text), words)


def test_the_package_knows_its_version() -> None:
    assert rn.__version__ == version("rocketnpu")


def test_verify_takes_inputs_by_name() -> None:
    data, inputs = model()
    bad: Any
    for bad, message in (([inputs[0]], "is a mapping"), ([{}], "lacks 'input0'")):
        with pytest.raises(rn.ModelError, match=message):
            verify(data, bad)
