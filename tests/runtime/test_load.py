"""Files that are no program, or a damaged one, are refused in one line that names them."""

from __future__ import annotations

from pathlib import Path

import pytest

import rocketnpu as rn


@pytest.mark.parametrize("load", [rn.load, rn.Session])
def test_a_damaged_rknn_file_is_named_with_advice(load: type[rn.Session], shared: Path, tmp_path: Path) -> None:
    whole = (shared / "vectors" / "vendor" / "a_layer.rknn").read_bytes()
    path = tmp_path / "vendor.rknn"
    wrong_root = whole[:64] + b"\xff" * 4 + whole[68:]
    for damaged in (whole[:10], whole[:1000], whole[:-100], wrong_root):
        path.write_bytes(damaged)
        with pytest.raises(rn.ModelError, match=r"^vendor\.rknn: .*damaged.*copy it again"):
            load(path)


def test_a_file_of_no_kind_lists_all_that_a_session_takes(tmp_path: Path) -> None:
    path = tmp_path / "x.rnpu"
    path.touch()
    with pytest.raises(rn.ModelError, match=r"x\.rnpu is empty; supported: TFLite .*, compiled programs"):
        rn.Session(path)
    path.write_bytes(b"hello there")
    with pytest.raises(rn.ModelError, match=r"x\.rnpu is not a supported file; supported: .*\.rnpu, \.rknn"):
        rn.Session(path)
