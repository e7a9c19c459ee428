"""What is said about outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rocketnpu.cli.results import Score, describe, read_labels, real_values, to_json, write_npz
from rocketnpu.errors import ModelError
from rocketnpu.ir import Quantization
from rocketnpu.runtime.session import TensorInfo

GRID = Quantization(np.array([0.5]), np.array([-128]))
SCORES = TensorInfo("scores", (1, 4), np.dtype(np.int8), GRID)
MAP = TensorInfo("map", (1, 2, 2, 2), np.dtype(np.float32), None)


def test_the_best_scores_come_first_dequantized_and_ties_in_order() -> None:
    stored = np.array([[-128, 0, 100, 0]], np.int8)
    (result,) = describe([SCORES], {"scores": stored}, ["a", "b", "c", "d"], 3)
    assert result.top == (Score(2, 114.0, "c"), Score(1, 64.0, "b"), Score(3, 64.0, "d"))


def test_an_output_that_is_no_vector_gets_a_summary_of_its_stored_values() -> None:
    stored = np.arange(8, dtype=np.float32).reshape(MAP.shape)
    (result,) = describe([MAP], {"map": stored}, [], 5)
    assert (result.low, result.high, result.mean, result.top) == (0.0, 7.0, 3.5, ())


def test_labels_must_fit_an_output() -> None:
    outputs = {"scores": np.zeros((1, 4), np.int8), "map": np.zeros(MAP.shape, np.float32)}
    with pytest.raises(ModelError, match="3 labels fit no output: scores has 4 scores"):
        describe([SCORES, MAP], outputs, ["a", "b", "c"], 5)
    with pytest.raises(ModelError, match="2 labels fit no output: no output is a vector of scores"):
        describe([MAP], outputs, ["a", "b"], 5)


def test_values_that_json_cannot_express_become_null() -> None:
    stored = np.array([[np.nan, 1, np.inf, 2]], np.float32)
    (document,) = to_json(describe([TensorInfo("s", (1, 4), np.dtype(np.float32), None)], {"s": stored}, [], 2))
    assert (document["min"], document["max"], document["mean"]) == (None, None, None)
    assert [entry["score"] for entry in document["top"]] == [None, 2.0]


def test_each_channel_has_its_own_grid() -> None:
    grid = Quantization(np.array([1.0, 0.5]), np.array([0, 2]), axis=1)
    tensor = TensorInfo("t", (2, 2), np.dtype(np.int8), grid)
    np.testing.assert_array_equal(real_values(tensor, np.array([[4, 4], [6, 6]], np.int8)), [[4, 1], [6, 2]])


def test_npz_keeps_names_that_numpy_reserves(tmp_path: Path) -> None:
    arrays = {"file": np.arange(3), "a/b:0": np.zeros((1, 2), np.int8)}
    write_npz(tmp_path / "out.npz", arrays)
    with np.load(tmp_path / "out.npz") as loaded:
        assert sorted(loaded.files) == ["a/b:0", "file"]
        np.testing.assert_array_equal(loaded["file"], arrays["file"])


def test_labels_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="not a UTF-8 text file"):
        read_labels(tmp_path / "labels")
