"""Models that keep state: LSTM cells, variables, resources. A session goes on from frame to frame, as LiteRT does."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.cpu.litert.interpreter import build_interpreter
from rocketnpu.verify import verify
from support.models import Grid, schema
from support.partition_models import PartitionBuilder, dequantized, lstm, quantized, quantized_lstm, svdf

GRID = Grid(0.05, 3)
FRAMES = 5


def litert_frames(data: bytes, frames: list[np.ndarray]) -> list[list[np.ndarray]]:
    """LiteRT's outputs of frame after frame."""
    interpreter = build_interpreter(data, "reference")
    (detail,) = interpreter.get_input_details()
    found: list[list[np.ndarray]] = []
    for frame in frames:
        interpreter.set_tensor(detail["index"], frame)
        interpreter.invoke()
        found.append([interpreter.get_tensor(output["index"]) for output in interpreter.get_output_details()])
    return found


def spotter(cell: Callable[[PartitionBuilder, str, int], str], *, steps: int | None = 6) -> bytes:
    """A layer, a recurrent one, a layer: how keyword spotters are built."""
    model = PartitionBuilder(seed=2)
    x = model.input((1, 8, 8, 4), name="x")
    y = model.conv2d(x, 8, stride=(8, 8) if steps is None else (1, 8), output=GRID, name="y")
    rows = model.reshape(y, (1, 8) if steps is None else (1, 8, 8))
    if cell is quantized_lstm:
        found = quantized_lstm(model, rows, 6)
    else:
        found = quantized(model, cell(model, dequantized(model, rows), 6), GRID)
    return model.build(model.fully_connected(found, 4, keep_num_dims=True, name="z"))


def counter() -> bytes:
    """A variable that starts at 5 and counts the frames, by CALL_ONCE, READ and ASSIGN; and a layer."""
    model = PartitionBuilder(seed=3)
    x = model.input((1, 4, 4, 8), name="x")
    model.initialise({"count": np.float32(5)})
    handle = model.handle("count")
    before = model.read(handle, ())
    one = model.constant(np.float32(1))
    after = model.operator("ADD", [before, one], (), None, schema.AddOptionsT(), "AddOptions", name="after")
    model.assign(handle, after)
    y = dequantized(model, model.conv2d(x, 8, output=GRID, name="y"))
    scaled = model.operator("MUL", [y, after], (1, 4, 4, 8), None, schema.MulOptionsT(), "MulOptions", name="scaled")
    return model.build(scaled, after)


def streaming() -> bytes:
    """Two buffers of earlier rows, each before a layer: how streaming convolutions are built."""
    model = PartitionBuilder(seed=4)
    y = model.input((1, 2, 8, 8), name="x")
    model.initialise({"first": np.zeros((1, 4, 8, 8), np.float32), "second": np.ones((1, 4, 8, 8), np.float32)})
    handles = [model.handle(name) for name in ("second", "first")]
    for handle in reversed(handles):
        y = model.conv2d(y, 8, output=GRID)
        rows = model.strided_slice(model.read(handle, (1, 4, 8, 8)), (slice(None), slice(2, None), slice(None)))
        rows = model.concat([rows, dequantized(model, y)], axis=1)
        model.assign(handle, rows)
        y = model.strided_slice(quantized(model, rows, GRID), (slice(None), slice(2, None), slice(None)))
    return model.build(model.conv2d(y, 8, output=GRID, name="z"))


MODELS = {
    "LSTM": spotter(lstm),
    "LSTM 8x8_16": spotter(quantized_lstm),
    "SVDF": spotter(svdf, steps=None),
    "variable": counter(),
    "streaming": streaming(),
}


def frames_for(data: bytes) -> list[np.ndarray]:
    (tensor,) = rn.Session(data, device="emulator").inputs
    rng = np.random.default_rng(5)
    return [rng.integers(-128, 128, tensor.shape).astype(np.int8) for _ in range(FRAMES)]


def assert_alike(found: list[dict[str, np.ndarray]], wanted: list[list[np.ndarray]]) -> None:
    """Within a step of the grids that layers on the NPU have, whose errors the state may carry on."""
    for arrays, values in zip(found, wanted, strict=True):
        for array, want in zip(arrays.values(), values, strict=True):
            assert array.shape == want.shape
            tolerance = 2 if array.dtype == np.int8 else 0.05 * 12  # a step of y, times a count of up to 10
            np.testing.assert_allclose(array.astype(float), want.astype(float), rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", MODELS)
def test_frames_go_on_from_one_another_as_in_litert(name: str) -> None:
    data = MODELS[name]
    frames = frames_for(data)
    wanted = litert_frames(data, frames)
    assert any(not np.array_equal(a, b) for a, b in zip(wanted[0], litert_frames(data, frames[1:])[0], strict=True))
    with rn.Session(data, device="emulator") as session:
        assert session.steps[0].place == "npu"
        assert_alike([session.run(frame) for frame in frames], wanted)


@pytest.mark.parametrize("name", MODELS)
def test_reset_state_begins_anew(name: str) -> None:
    data = MODELS[name]
    frames = frames_for(data)
    with rn.Session(data, device="emulator") as session:
        first = [session.run(frame) for frame in frames]
        session.reset_state()
        for before, frame in zip(first, frames, strict=True):
            for key, value in session.run(frame).items():
                np.testing.assert_array_equal(value, before[key])


@pytest.mark.parametrize("name", ["LSTM", "streaming"])
def test_frames_that_overlap_use_the_state_in_the_order_they_were_started(name: str) -> None:
    data = MODELS[name]
    frames = frames_for(data) * 4
    with rn.Session(data, device="emulator") as session:
        one_by_one = [session.run(frame) for frame in frames]
        session.reset_state()
        started = [session.submit(frame) for frame in frames]
        for frame, want in zip(started, one_by_one, strict=True):
            for key, value in frame.wait().items():
                np.testing.assert_array_equal(value, want[key])


def test_a_reset_comes_between_the_frames_before_and_after_it() -> None:
    with rn.Session(counter(), device="emulator") as session:
        x = np.zeros((1, 4, 4, 8), np.int8)
        before = [session.submit(x) for _ in range(4)]
        session.reset_state()
        after = [session.submit(x) for _ in range(3)]
        assert [float(frame.wait()["after"]) for frame in (*before, *after)] == [6, 7, 8, 9, 6, 7, 8]


def test_two_sessions_do_not_share_state() -> None:
    program = rn.compile(counter())
    x = np.zeros((1, 4, 4, 8), np.int8)
    with rn.Session(program, device="emulator") as first, rn.Session(program, device="emulator") as second:
        assert [float(session.run(x)["after"]) for session in (first, second, first, second)] == [6, 6, 7, 7]


def test_isolated_runs_have_a_state_of_their_own() -> None:
    with rn.Session(counter(), device="emulator") as session:
        x = np.zeros((1, 4, 4, 8), np.int8)
        reference = session.run(x, fetch="all") | {"x": x}
        assert [float(session.run_isolated(reference)["after"]) for _ in range(2)] == [6, 7]
        assert float(session.run(x)["after"]) == 7
        session.reset_state()
        assert float(session.run_isolated(reference)["after"]) == float(session.run(x)["after"]) == 6


def test_looking_inside_a_piece_does_not_disturb_its_state() -> None:
    with rn.Session(counter(), device="emulator") as session:
        x = np.zeros((1, 4, 4, 8), np.int8)
        (kind,) = [op.name for step in session.steps for op in step.operators if op.kind == "READ_VARIABLE"]
        found = [session.run(x, fetch=kind) if index % 2 else session.run(x) for index in range(4)]
        assert [float(arrays["after"]) for arrays in found] == [6, 7, 8, 9]
        assert [float(arrays[kind]) for arrays in found[1::2]] == [6, 8]


def test_a_layer_between_reading_and_writing_a_variable_is_part_of_the_piece() -> None:
    model = PartitionBuilder(seed=5)
    x = model.input((1, 4, 4, 8), name="x")
    model.initialise({"v": np.zeros((1, 4, 4, 8), np.float32)})
    handle = model.handle("v")
    kept = quantized(model, model.read(handle, (1, 4, 4, 8)), GRID)
    y = model.conv2d(model.add(kept, model.conv2d(x, 8, output=GRID), output=GRID), 8, output=GRID, name="y")
    model.assign(handle, dequantized(model, y))
    data = model.build(model.conv2d(y, 8, name="z"))
    frames = frames_for(data)
    with rn.Session(data, device="emulator") as session:
        assert [step.place for step in session.steps] == ["npu", "cpu", "npu"]
        reasons = {op.kind: op.reason for step in session.steps for op in step.operators if op.reason}
        assert "CONV_2D lies between operators that share" in str(reasons["CONV_2D"])
        assert_alike([session.run(frame) for frame in frames], litert_frames(data, frames))


def test_the_drop_in_interpreter_resets_its_variables() -> None:
    interpreter = rn.Interpreter(model_content=counter(), device="emulator")
    interpreter.allocate_tensors()
    index = next(detail["index"] for detail in interpreter.get_output_details() if detail["name"] == "after")
    counts = list[float]()
    for run in range(4):
        if run == 2:
            interpreter.reset_all_variables()
        interpreter.invoke()
        counts.append(float(interpreter.get_tensor(index)))
    assert counts == [6, 7, 6, 7]


@pytest.mark.parametrize("name", MODELS)
def test_verify_compares_state_from_the_same_start(name: str) -> None:
    report = verify(MODELS[name])
    assert report.worst_npu_layer <= 1
    for layer in report.layers:
        if layer.place == "cpu":  # LiteRT on both sides, with other kernels for floats
            assert layer.isolated.maximum <= 1e-5, layer
