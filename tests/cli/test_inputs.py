"""Arrays from files and random numbers."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from rocketnpu.cli.inputs import read_inputs
from rocketnpu.errors import ModelError
from rocketnpu.runtime.session import TensorInfo

A = TensorInfo("a", (1, 2, 3), np.dtype(np.int8), None)
B = TensorInfo("b=1", (2,), np.dtype(np.float32), None)
A_VALUES = np.arange(6, dtype=np.int8).reshape(1, 2, 3)
B_VALUES = np.array([0.5, -1], np.float32)


def npy_claiming(shape: tuple[int, ...], descr: str) -> bytes:
    """A .npy file with a header and no data."""
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def test_files_fill_the_inputs_in_the_models_order(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(A_VALUES))
    (tmp_path / "b.bin").write_bytes(B_VALUES.tobytes())
    given = read_inputs([A, B], [str(tmp_path / "a.npy"), str(tmp_path / "b.bin")])
    np.testing.assert_array_equal(given["a"], A_VALUES)
    np.testing.assert_array_equal(given["b=1"], B_VALUES)


def test_a_name_before_the_file_chooses_the_input(tmp_path: Path) -> None:
    np.save(tmp_path / "x=y.npy", B_VALUES)
    given = read_inputs([A, B], [f"b=1={tmp_path}/x=y.npy"])
    assert list(given) == ["b=1"]
    np.testing.assert_array_equal(given["b=1"], B_VALUES)


def test_an_npz_gives_inputs_by_name_and_may_hold_more(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **{"b=1": B_VALUES, "a": A_VALUES, "other": A_VALUES})
    given = read_inputs([A, B], [str(tmp_path / "all.npz")])
    assert sorted(given) == ["a", "b=1"]
    np.testing.assert_array_equal(given["a"], A_VALUES)


def test_a_name_before_an_npz_takes_only_that_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "all.npz", **{"b=1": B_VALUES, "a": A_VALUES})
    assert list(read_inputs([A, B], [f"a={tmp_path}/all.npz"])) == ["a"]


def test_more_files_than_inputs_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(A_VALUES.tobytes())
    with pytest.raises(ModelError, match="has 1 input, and all have a file"):
        read_inputs([A], [str(tmp_path / "a.bin")] * 2)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_inputs([A], [str(tmp_path / "a.npy")])


OBJECTS = io.BytesIO()
np.save(OBJECTS, np.array([[[{}, 1, 2], [3, 4, 5]]], object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.bin", b"12345", "needs 6 .* raw bytes; the file has 5 bytes"),
        ("long.bin", b"1234567", "needs 6 .* raw bytes; the file has more"),
        ("text.npy", b"hello there", "not a .npy array"),
        ("empty.npy", b"", "not a .npy array"),
        ("code.npy", npy_claiming((1,), "|i1")[:20] + b"exit((((", "not a .npy array"),
        ("huge.npy", npy_claiming((1 << 40, 2, 3), "|i1"), r"needs int8 of shape \(1, 2, 3\)"),
        ("wide.npy", npy_claiming((1, 2, 3), "|S1000000000"), "needs int8"),
        ("objects.npy", OBJECTS.getvalue(), "needs int8 .*the file has object"),
        ("cut.npy", npy_claiming((1, 2, 3), "|i1") + b"12345", "cut short"),
        ("text.npz", b"hello there", "not a whole .npz file"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        read_inputs([A], [str(tmp_path / name)])
    assert "\n" not in str(caught.value)


def test_an_npz_with_damaged_data_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bad.npz", a=A_VALUES)
    content = bytearray((tmp_path / "bad.npz").read_bytes())
    start = content.index(b"a.npy") + 40
    content[start : start + 20] = bytes(20)
    (tmp_path / "bad.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"not a (whole \.npz file|\.npy array)"):
        read_inputs([A], [str(tmp_path / "bad.npz")])


def test_an_npz_without_any_input_names_them(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "none.npz", "w") as archive:
        archive.writestr("c.npy", b"")
    with pytest.raises(ModelError, match=r"no array has the name of a tensor \('a', 'b=1'\)"):
        read_inputs([A, B], [str(tmp_path / "none.npz")])
