"""Sessions: inputs in every form, fetched tensors, isolated runs, lives and errors."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import rocketnpu as rn
from rocketnpu.cpu.litert import Reference
from rocketnpu.hw.limits import CORES
from rocketnpu.runtime.device import Part, Timing
from rocketnpu.runtime.emulated import EmulatedDevice
from support.models import ModelBuilder


class Case:
    """A model with its inputs and LiteRT's tensors."""

    def __init__(self, model: ModelBuilder, *outputs: str) -> None:
        self.data = model.build(*outputs)
        self.inputs = model.random_inputs()
        self.names = [name for name in model.tensors if name.startswith("input")]
        self.expected = Reference(self.data).tensors(self.inputs)

    def check(self, found: dict[str, NDArray[Any]], tolerance: int = 1) -> None:
        for name, values in found.items():
            worst = np.abs(values.astype(float) - self.expected[name].astype(float)).max()
            assert worst <= tolerance, f"{name} is {worst} steps from the reference"


@pytest.fixture(scope="module")
def two_inputs() -> Case:
    model = ModelBuilder(seed=1)
    a, b = model.input((1, 6, 7, 5)), model.input((1, 6, 7, 20))
    return Case(model, model.add(model.conv2d(a, 20), b))


@pytest.fixture(scope="module")
def mixed() -> Case:
    """NPU, CPU (two operators in one piece), NPU, with a residual from before to after."""
    model = ModelBuilder(seed=2)
    first = model.conv2d(model.input((1, 6, 6, 8)), 8, name="first")
    again = model.softmax(model.softmax(first, name="inner"), name="outer")
    return Case(model, model.add(first, model.conv2d(again, 8, name="second"), name="sum"))


def test_inputs_may_be_a_sequence_or_a_mapping(two_inputs: Case) -> None:
    with rn.Session(two_inputs.data) as session:
        by_list = session.run(two_inputs.inputs)
        by_tuple = session.run(tuple(two_inputs.inputs))
        by_name = session.run(dict(zip(two_inputs.names, two_inputs.inputs, strict=True)))
    two_inputs.check(by_list, tolerance=2)
    for other in (by_tuple, by_name):
        assert other.keys() == by_list.keys()
        np.testing.assert_array_equal(other["add"], by_list["add"])


def test_a_single_input_may_be_an_array_or_nested_lists(mixed: Case) -> None:
    (values,) = mixed.inputs
    with rn.Session(mixed.data) as session:
        results = [session.run(form)["sum"] for form in (values, [values], values.tolist(), values.astype(np.int64))]
    mixed.check({"sum": results[0]}, tolerance=3)
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a, _: [a], r"the model has 2 inputs \('input0', 'input1'\); 1 were given"),
        (lambda a, b: [a, b, b], "3 were given"),
        (lambda a, _: {"input0": a}, "'input1' is missing"),
        (lambda a, b: {"input0": a, "input1": b, "input2": b}, "'input2' is not one"),
        (lambda a, b: [a[0], b], r"input 'input0' needs int8 of shape \(1, 6, 7, 5\); the shape given is \(6, 7, 5\)"),
        (lambda a, b: [a.astype(np.float32), b], "float32 was given: quantize it"),
        (lambda a, b: [a, np.full(b.shape, np.nan)], "NaN or infinity was given"),
        (lambda a, b: [a.astype(np.int16) + 300, b], r"values .* do not fit"),
        (lambda a, b: [a.astype("U3"), b], "was given"),
        (lambda a, _: [a, None], "the shape given is"),
    ],
)
def test_inputs_that_do_not_fit_are_one_clear_line(two_inputs: Case, change: Any, message: str) -> None:
    with rn.Session(two_inputs.data) as session, pytest.raises(rn.ModelError, match=message) as caught:
        session.run(change(*two_inputs.inputs))
    assert "\n" not in str(caught.value)


def test_a_session_describes_its_inputs_and_outputs(two_inputs: Case) -> None:
    with rn.Session(two_inputs.data) as session:
        first, second = session.inputs
        (output,) = session.outputs
    assert (first.name, first.shape, first.dtype) == ("input0", (1, 6, 7, 5), np.int8)
    assert first.quantization is not None
    assert first.quantization.scales.tolist() == pytest.approx([0.02])
    assert first.quantization.zero_points.tolist() == [3]
    assert second.shape == output.shape == (1, 6, 7, 20)


def test_steps_say_what_runs_where_and_why(mixed: Case) -> None:
    with rn.Session(mixed.data) as session:
        steps = session.steps
    assert [(step.place, [op.kind for op in step.operators]) for step in steps] == [
        ("npu", ["CONV_2D"]),
        ("cpu", ["SOFTMAX", "SOFTMAX"]),
        ("npu", ["CONV_2D"]),
        ("npu", ["ADD"]),
    ]
    assert [op.reason for op in steps[1].operators] == ["SOFTMAX has no NPU form"] * 2
    assert [op.reason for step in steps if step.place == "npu" for op in step.operators] == [None] * 3
    assert (steps[1].inputs, steps[1].outputs) == (("first",), ("outer",))


@pytest.mark.parametrize("fetch", [["first"], ["second", "outer"], ["inner"], ["first", "inner", "sum"], "all"])
def test_fetched_intermediates_are_litert_s(mixed: Case, fetch: str | list[str]) -> None:
    with rn.Session(mixed.data) as session:
        plain = session.run(mixed.inputs)
        found = session.run(mixed.inputs, fetch=fetch)
    expected = {"first", "outer", "second", "sum"} if fetch == "all" else {*fetch, "sum"}
    assert found.keys() == expected
    np.testing.assert_array_equal(found["sum"], plain["sum"])
    mixed.check(found, tolerance=3)  # rounding differences of up to three layers add up


def test_an_input_can_be_fetched_too(mixed: Case) -> None:
    with rn.Session(mixed.data) as session:
        found = session.run(mixed.inputs, fetch="input0")
    np.testing.assert_array_equal(found["input0"], mixed.inputs[0])


def test_an_unknown_tensor_cannot_be_fetched(mixed: Case) -> None:
    with rn.Session(mixed.data) as session, pytest.raises(rn.ModelError, match="no tensor 'nothing'"):
        session.run(mixed.inputs, fetch=["nothing"])


def dissolving() -> tuple[Case, str, str]:
    model = ModelBuilder(seed=3)
    flat = model.reshape(model.conv2d(model.input((1, 4, 4, 8)), 20), (1, 320), name="flat")
    output = model.fully_connected(flat, 10, name="scores")
    return Case(model, output), flat, output


def test_a_dissolved_tensor_names_the_step_that_absorbed_it() -> None:
    case, flat, output = dissolving()
    with rn.Session(case.data) as session:
        with pytest.raises(rn.CompileError, match=f"'{flat}'.*'{output}' absorbed it.*keep=\\['{flat}'\\]"):
            session.run(case.inputs, fetch=[flat])
        assert flat not in session.run_isolated(case.expected)


def test_keeping_a_tensor_prevents_the_fusion() -> None:
    case, flat, _ = dissolving()
    for session in (rn.Session(rn.compile(case.data, keep=[flat])), rn.Session(case.data, fetch="all")):
        with session:
            case.check(session.run(case.inputs, fetch=[flat]))
            assert flat in session.run_isolated(case.expected)


def test_keeping_an_unknown_tensor_is_an_error() -> None:
    case, _, _ = dissolving()
    with pytest.raises(rn.CompileError, match="keep names 'nothing'"):
        rn.compile(case.data, keep=["nothing"])


def test_isolated_steps_do_not_pass_errors_on(mixed: Case) -> None:
    """With a wrong tensor in the reference, exactly the steps that read it are off."""
    spoilt = dict(mixed.expected)
    spoilt["outer"] = (spoilt["outer"].astype(int) ^ 64).astype(np.int8)
    with rn.Session(mixed.data) as session:
        right, wrong = session.run_isolated(mixed.expected), session.run_isolated(spoilt)
    mixed.check(right)
    differing = {name for name in right if not np.array_equal(right[name], wrong[name])}
    assert differing == {"second"}


def test_a_missing_reference_tensor_names_its_reader(mixed: Case) -> None:
    partial = {name: values for name, values in mixed.expected.items() if name != "outer"}
    with rn.Session(mixed.data) as session, pytest.raises(rn.ModelError, match="'outer', which step 'second' reads"):
        session.run_isolated(partial)


def test_results_stay_when_the_session_runs_again(mixed: Case) -> None:
    with rn.Session(mixed.data) as session:
        first = session.run(mixed.inputs, fetch="all")
        copy = {name: values.copy() for name, values in first.items()}
        session.run([np.zeros_like(mixed.inputs[0])], fetch="all")
    for name, values in first.items():
        np.testing.assert_array_equal(values, copy[name])


def test_a_closed_session_says_so(mixed: Case) -> None:
    session = rn.Session(mixed.data)
    session.run(mixed.inputs)
    session.close()
    session.close()
    for use in (session.run, session.run_isolated):
        with pytest.raises(rn.DeviceError, match="the session is closed"):
            use(mixed.inputs[0] if use == session.run else mixed.expected)


def test_closing_beside_submits_ends_them_with_one_clear_line(mixed: Case) -> None:
    for pause in (0.0, 0.001, 0.005):
        session, ended = rn.Session(mixed.data, device="emulator"), list[str]()

        def submit(session: rn.Session = session, ended: list[str] = ended) -> None:
            try:
                while True:
                    session.submit(mixed.inputs)
            except rn.DeviceError as error:
                ended.append(str(error))

        threads = [threading.Thread(target=submit, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(pause)
        session.close()
        for thread in threads:
            thread.join(20)
        assert ended == ["the session is closed; make a new one"] * 3


def test_two_sessions_do_not_disturb_each_other(mixed: Case) -> None:
    other = [np.flip(mixed.inputs[0], axis=1)]
    with rn.Session(mixed.data) as first, rn.Session(mixed.data) as second:
        expected = first.run(mixed.inputs)["sum"], first.run(other)["sum"]
        assert not np.array_equal(*expected)
        found = [(first.run(mixed.inputs)["sum"], second.run(other)["sum"]) for _ in range(2)]
    for pair in found:
        np.testing.assert_array_equal(pair[0], expected[0])
        np.testing.assert_array_equal(pair[1], expected[1])


def test_two_sessions_may_share_a_device_which_they_leave_open(mixed: Case) -> None:
    program = rn.compile(mixed.data)
    device = EmulatedDevice(4 * sum(segment.size_bytes + 4096 for segment in program.segments))
    with rn.Session(program, device) as first:
        alone = first.run(mixed.inputs)["sum"]
        with rn.Session(program, device) as second:
            np.testing.assert_array_equal(second.run(mixed.inputs)["sum"], alone)
        np.testing.assert_array_equal(first.run(mixed.inputs)["sum"], alone)
    assert device.allocate(16).data.size == 16
    device.close()


def test_a_device_without_room_is_a_device_error(mixed: Case) -> None:
    device = EmulatedDevice(4096)
    with pytest.raises(rn.DeviceError, match="4096 bytes of memory"):
        rn.Session(mixed.data, device)
    device.close()


@pytest.mark.parametrize("device", ["rocket", "rknpu", "nonsense"])
def test_a_device_that_this_machine_lacks_is_named(mixed: Case, device: str) -> None:
    if device in [info.name for info in rn.devices()]:
        pytest.skip(f"this machine has {device}")
    with pytest.raises(rn.DeviceError, match=f"'?{device}'?"):
        rn.Session(mixed.data, device=device)


@pytest.mark.parametrize("cores", [0, CORES + 1])
def test_a_number_of_cores_that_the_chip_lacks_is_refused(mixed: Case, cores: int) -> None:
    with pytest.raises(rn.CompileError, match=f"cores={cores}"):
        rn.compile(mixed.data, cores=cores)
    with pytest.raises(rn.CompileError, match=f"cores={cores}"):
        rn.Session(mixed.data, cores=cores)
    with pytest.raises(rn.DeviceError, match=f"up to {CORES} cores.* {cores}"):
        rn.Session(rn.compile(mixed.data), cores=cores)


def test_a_model_is_compiled_for_the_cores_of_the_session(mixed: Case) -> None:
    with rn.Session(mixed.data, cores=2) as session, rn.Session(mixed.data) as alone:
        found, expected = session.run(mixed.inputs), alone.run(mixed.inputs)
        assert {2} <= {count for step in session.steps if step.place == "npu" for count in step.tasks}
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_a_float_model_runs_on_the_cpu() -> None:
    model = ModelBuilder(seed=4)
    x = model.input((1, 8, 8, 3), "float32")
    case = Case(model, model.fully_connected(model.conv2d(x, 6, activation="RELU"), 5))
    with rn.Session(case.data) as session:
        assert {step.place for step in session.steps} == {"cpu"}
        (found,) = session.run(case.inputs).values()
    (expected,) = (case.expected[info.name] for info in session.outputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)


def test_an_operator_whose_shape_depends_on_data_runs_on_the_cpu() -> None:
    model = ModelBuilder(seed=5)
    x = model.conv2d(model.input((1, 8, 8, 8)), 8)
    shape = model.input((3,), "int32", name="shape")
    y = model.operator("RESHAPE", [x, shape], (1, 64, 8), model.tensors[x].grid)
    data = model.build(y)
    inputs = [model.random_inputs()[0], np.array([1, 16, 32], np.int32)]
    with rn.Session(data) as session:
        layer, last = session.steps
        assert (layer.place, last.place) == ("npu", "cpu")
        assert ["whose shape is not known before the run" in str(op.reason) for op in last.operators] == [True]
        found = session.run(inputs)[y]
    expected = Reference(data).tensors(inputs)[y]
    assert found.shape == expected.shape == (1, 16, 32)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_an_output_that_no_operator_makes_is_given_all_the_same(tmp_path: Path) -> None:
    model = ModelBuilder(seed=6)
    constant = model.constant(np.arange(6, dtype=np.float32), name="offsets")
    y = model.conv2d(model.input((1, 4, 4, 4)), 4)
    data, inputs = model.build(y, constant), model.random_inputs()
    path = tmp_path / "model.rnpu"
    rn.compile(data).save(path)
    for source in (data, path):
        with rn.Session(source) as session:
            found = session.run(inputs)
        assert found[constant].tolist() == [0, 1, 2, 3, 4, 5]
        assert np.abs(found[y].astype(int) - Reference(data).tensors(inputs)[y]).max() <= 1


def test_an_input_that_is_an_output_is_returned() -> None:
    model = ModelBuilder(seed=7)
    x = model.input((1, 4, 4, 4))
    case = Case(model, model.conv2d(x, 4), x)
    with rn.Session(case.data) as session:
        found = session.run(case.inputs)
    np.testing.assert_array_equal(found[x], case.inputs[0])


@pytest.mark.parametrize("source", ["absent.tflite", "absent.rnpu"])
def test_a_file_that_does_not_exist_is_one_line(tmp_path: Path, source: str) -> None:
    with pytest.raises(rn.ModelError, match=source):
        rn.Session(tmp_path / source)


class RecordingDevice(EmulatedDevice):
    """A device that only notes how many tasks each core is given, part by part."""

    def submit(self, parts: Sequence[Part]) -> Timing:
        self.tasks = [[len(chain) for chain in part] for part in parts]
        return Timing(0.0, 0.0)


def test_a_chain_longer_than_the_program_controller_counts_is_several() -> None:
    """TASK_NUMBER has 12 bits: 4095 tasks at most in one run (hardware/README.md, Constants)."""
    model = ModelBuilder(seed=8)
    program = rn.compile(model.build(model.conv2d(model.input((1, 8, 8, 4)), 4)))
    (step,), (task,) = program.steps, program.tasks
    assert step.place == "npu"
    long = replace(program, tasks=(task,) * 5000, steps=(replace(step, tasks={1: ((tuple(range(5000)),),)}),))
    device = RecordingDevice(4 * sum(segment.size_bytes + 4096 for segment in program.segments))
    with rn.Session(long, device) as session:
        session.run(model.random_inputs())
    assert device.tasks == [[4095], [905]]
    device.close()


def test_results_come_in_the_model_s_order() -> None:
    model = ModelBuilder(seed=9)
    early = model.conv2d(model.input((1, 4, 4, 4)), 4, name="early")
    late = model.conv2d(early, 4, name="late")
    with rn.Session(model.build(late, early)) as session:
        assert list(session.run(model.random_inputs())) == [info.name for info in session.outputs] == ["late", "early"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": None}, "device is 'auto', .* or a Device, not None"),
        ({"cores": "2"}, "cores is a whole number, not '2'"),
        ({"fetch": 5}, "fetch is the name of a tensor, .* not 5"),
        ({"fetch": [5]}, r"fetch is the name of a tensor, .* not \[5\]"),
        ({"fetch": ["zz"]}, "has no tensor 'zz'"),
    ],
)
def test_arguments_of_a_session_are_one_clear_line(mixed: Case, options: dict[str, Any], message: str) -> None:
    with pytest.raises(rn.Error, match=message) as caught:
        rn.Session(rn.compile(mixed.data), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("source", [None, 5, ["m.tflite"]])
def test_what_is_no_source_of_a_model_is_one_clear_line(source: Any) -> None:
    for use in (rn.Session, rn.compile, rn.load):
        with pytest.raises(rn.ModelError, match="a model is a path or a file's bytes, not "):
            use(source)


def test_compile_refuses_arguments_of_foreign_types(mixed: Case) -> None:
    bad: Any
    for bad in ({"cores": "2"}, {"keep": 5}):
        with pytest.raises(rn.CompileError, match=f"{next(iter(bad))} is .* not "):
            rn.compile(mixed.data, **bad)


def test_running_nothing_names_the_inputs(mixed: Case) -> None:
    nothing: Any = None
    with rn.Session(mixed.data) as session, pytest.raises(rn.ModelError, match="inputs are 'input0'"):
        session.run(nothing)


def test_programs_and_sessions_are_short_on_a_screen(mixed: Case) -> None:
    program = rn.compile(mixed.data)
    assert repr(program).startswith("<Program the model: 4 steps, ")
    with rn.Session(program, "emulator") as session:
        assert repr(session) == "<Session of the model on emulator: 4 steps>"
    assert repr(session).endswith(", closed>")
