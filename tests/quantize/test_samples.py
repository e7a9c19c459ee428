"""Calibration inputs: what is taken, in which order, and what is refused with one line."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from rocketnpu.errors import ModelError
from rocketnpu.images import Normalization
from rocketnpu.ir import Tensor
from rocketnpu.quantizer.samples import PictureRule, read_samples

PICTURE = Tensor("x", (1, 4, 4, 3), np.dtype(np.float32), None, None)
VECTOR = Tensor("v", (1, 5), np.dtype(np.float32), None, None)


def read(tensors: list[Tensor], source: Any, **rule: Any) -> list[list[np.ndarray]]:
    return list(read_samples(tensors, source, PictureRule(**rule)))


def test_one_array_holds_many_sets_with_and_without_a_batch_axis():
    values = np.arange(15, dtype=np.float32).reshape(3, 5)
    for array in (values, values[:, None]):
        found = read([VECTOR], array)
        assert [(one.shape, one[0, 0]) for (one,) in found] == [((1, 5), 0), ((1, 5), 5), ((1, 5), 10)]


def test_arrays_by_name_go_together_set_by_set():
    arrays = {"v": np.arange(10).reshape(2, 5), "x": np.stack([np.full((4, 4, 3), 7), np.full((4, 4, 3), 8)])}
    found = read([PICTURE, VECTOR], arrays)
    assert [(x[0, 0, 0, 0], v[0, 0], x.dtype, v.dtype) for x, v in found] == [
        (7, 0, np.float32, np.float32),
        (8, 5, np.float32, np.float32),
    ]


def test_sets_may_come_one_by_one():
    assert len(read([VECTOR], (np.zeros((1, 5)) for _ in range(3)))) == 3
    assert len(read([VECTOR], [{"v": np.zeros((1, 5)), "unused": None}])) == 1


def test_a_folder_gives_its_pictures_by_name_in_the_input_s_size_and_range(tmp_path: Path):
    for name, shade in (("b.png", 255), ("a.PNG", 0), ("deeper/c.bmp", 128)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (9, 7), (shade,) * 3).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    assert [x[0, 0, 0, 0] for (x,) in read([PICTURE], tmp_path)] == [-1, 127 / 128, 0]
    rule = Normalization((255.0,), (1.0,))
    assert [x[0, 0, 0, 0] for (x,) in read([PICTURE], tmp_path, normalization=rule)] == [-255, 0, -127]


def test_a_picture_is_decoded_only_when_its_turn_comes(tmp_path: Path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    samples = read_samples([PICTURE], tmp_path, PictureRule())
    assert len(samples) == 1
    with pytest.raises(ModelError, match="cannot decode"):
        samples[0]


def test_npz_files_have_arrays_by_name_or_one_for_the_only_input(tmp_path: Path):
    file = tmp_path / "sets.npz"
    np.savez(file, np.zeros((6, 5)))
    assert len(read([VECTOR], file)) == 6
    np.savez(file, v=np.zeros((2, 5)), x=np.zeros((2, 4, 4, 3), np.uint8))
    assert len(read([PICTURE, VECTOR], str(file))) == 2


def test_fewer_sets_are_spread_over_all():
    samples = read_samples([VECTOR], np.arange(10)[:, None] * np.ones((10, 5)), PictureRule())
    assert [values[0, 0] for (values,) in samples.spread(4)] == [0, 2, 5, 7]
    assert len(samples.spread(99)) == 10


@pytest.mark.parametrize(
    ("tensors", "source", "line"),
    [
        ([VECTOR], np.zeros((3, 6)), r"input 'v' needs arrays Nx1x5; float64 of shape \(3, 6\)"),
        ([VECTOR], np.zeros((0, 5)), "no calibration inputs"),
        ([VECTOR], [], "no calibration inputs"),
        ([VECTOR], 5, "not int"),
        ([VECTOR], [np.zeros((2, 5))], r"needs float32 of shape \(1, 5\)"),
        ([VECTOR], {"w": np.zeros((1, 5))}, "no array for input 'v'"),
        ([PICTURE, VECTOR], np.zeros((1, 5)), "give arrays by name"),
        ([PICTURE, VECTOR], [{"x": np.zeros((1, 4, 4, 3))}], "lacks 'v'"),
        ([PICTURE, VECTOR], {"x": np.zeros((1, 4, 4, 3)), "v": np.zeros((2, 5))}, "different numbers of sets"),
        ([VECTOR], "missing", "no such file or folder"),
    ],
)
def test_what_does_not_fit_is_refused_with_one_line(tensors, source, line):
    with pytest.raises(ModelError, match=line) as refusal:
        read(tensors, source)
    assert "\n" not in str(refusal.value)


def test_files_that_do_not_fit_are_refused_with_one_line(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04")
    np.savez(tmp_path / "other.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "shape.npz", v=np.zeros((3, 9)))
    Image.new("RGB", (4, 4)).save(tmp_path / "one.png")
    for tensors, name, line in (
        ([PICTURE], "notes.txt", "no folder, no picture and no .npz"),
        ([VECTOR], "cut.npz", "not a whole .npz file"),
        ([VECTOR], "other.npz", r"no array 'v'.*\['a', 'b'\]"),
        ([VECTOR], "shape.npz", "needs arrays Nx1x5"),
        ([VECTOR], "one.png", "give a .npz"),
    ):
        with pytest.raises(ModelError, match=line):
            read(tensors, tmp_path / name)
    (tmp_path / "one.png").unlink()
    with pytest.raises(ModelError, match="holds no pictures"):
        read([PICTURE], tmp_path)


def test_a_header_that_claims_the_moon_takes_no_memory(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "huge.npz", "w") as archive, archive.open("v.npy", "w") as member:
        np.lib.format.write_array_header_1_0(member, {"descr": "<f4", "fortran_order": False, "shape": (1 << 50, 5)})
    with pytest.raises(ModelError, match="cut short"):
        read([VECTOR], tmp_path / "huge.npz")


def test_rules_for_pictures_need_pictures(tmp_path: Path):
    np.savez(tmp_path / "sets.npz", v=np.zeros((2, 5)))
    for source in (tmp_path / "sets.npz", np.zeros((2, 5))):
        with pytest.raises(ModelError, match="pictures"):
            read([VECTOR], source, normalization=Normalization((0.0,), (1.0,)))
