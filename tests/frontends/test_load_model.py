"""Model files that can't be read are refused in one clear line."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.files import MOST_BYTES
from support.models import ModelBuilder


def test_a_path_a_string_and_bytes_give_the_same_graph(tmp_path: Path) -> None:
    model = ModelBuilder()
    data = model.build(model.conv2d(model.input((1, 4, 4, 2)), 4))
    file = tmp_path / "anything.bin"
    file.write_bytes(data)
    graphs = [load_model(source) for source in (file, str(file), data)]
    assert len({str(graph) for graph in graphs}) == 1
    assert graphs[0].model == data


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't read .*nothing\.tflite: No such file"):
        load_model(tmp_path / "nothing.tflite")


def test_a_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a directory, not a file"):
        load_model(tmp_path)


def test_an_empty_file_lists_what_is_supported(tmp_path: Path) -> None:
    (tmp_path / "empty.tflite").touch()
    with pytest.raises(ModelError, match=r"empty\.tflite is empty; supported models: TFLite"):
        load_model(tmp_path / "empty.tflite")


def test_an_unknown_file_lists_what_is_supported(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" * 4)
    with pytest.raises(ModelError, match=r"picture\.png is not a supported model; supported: TFLite"):
        load_model(tmp_path / "picture.png")


def test_a_tflite_file_without_its_identifier_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.tflite").write_bytes(b"hello world, this is no model")
    with pytest.raises(ModelError, match="is not a TFLite file"):
        load_model(tmp_path / "broken.tflite")


def test_a_device_is_named() -> None:
    with pytest.raises(ModelError, match="/dev/zero is a device, not a file"):
        load_model("/dev/zero")


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.tflite"
    with large.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ModelError, match=r"large\.tflite has more than 1073741824 bytes"):
        load_model(large)


def test_a_pipe_is_read_to_its_end() -> None:
    model = ModelBuilder()
    data = model.build(model.conv2d(model.input((1, 4, 4, 2)), 4))
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    try:
        assert load_model(f"/dev/fd/{reading}").model == data
    finally:
        os.close(reading)


def test_a_small_file_takes_little_memory(tmp_path: Path) -> None:
    """A machine with 1 GiB runs the compiler, whatever the limit of a file is."""
    model = ModelBuilder()
    (tmp_path / "small.tflite").write_bytes(model.build(model.conv2d(model.input((1, 4, 4, 2)), 4)))
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1_200_000 << 10,) * 2); "
        "from rocketnpu.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = ["compile", str(tmp_path / "small.tflite"), "-o", str(tmp_path / "small.rnpu")]
    run = subprocess.run([sys.executable, "-c", script, *command], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_what_is_no_source_is_refused() -> None:
    for source in (None, 5, bytearray(b"TFL3")):
        with pytest.raises(ModelError, match="a model is a path or a file's bytes, not"):
            load_model(cast(Any, source))


def test_an_empty_path_is_one_line() -> None:
    with pytest.raises(ModelError, match="the path of the file is empty"):
        load_model("")


def test_a_file_that_is_cut_short_says_so() -> None:
    model = ModelBuilder()
    data = model.build(model.conv2d(model.input((1, 4, 4, 2)), 4))
    for size in range(8, len(data), 40):
        with pytest.raises(ModelError) as caught:
            load_model(data[:size])
        assert "unpack_from" not in str(caught.value)
    with pytest.raises(ModelError, match="leads beyond the end of the file, which is cut short or damaged"):
        load_model(data[: len(data) // 2])


def test_a_scale_that_is_a_signalling_nan_is_refused_without_a_warning() -> None:
    model = ModelBuilder()
    data = model.build(model.conv2d(model.input((1, 4, 4, 2), scale=0.0123), 4))
    scale = struct.pack("<f", 0.0123)
    assert data.count(scale) == 1
    with pytest.raises(ModelError, match="has the scale nan"):
        load_model(data.replace(scale, bytes.fromhex("0100a07f")))
