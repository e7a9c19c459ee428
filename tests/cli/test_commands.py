"""Whole command lines, in process: exit codes, what is printed, and one line for each error."""

from __future__ import annotations

import errno
import json
import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu import cli
from rocketnpu.cli import main

DEMO = files("rocketnpu.demo")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo's model as a file."""
    path = tmp_path / "digits.tflite"
    path.write_bytes(DEMO.joinpath("digits.tflite").read_bytes())
    return path


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """The demo's picture of a seven."""
    path = tmp_path / "seven.png"
    path.write_bytes(DEMO.joinpath("digit_7.png").read_bytes())
    return path


def fails_with(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line on stderr of a command line that exits with 2 and prints nothing else."""
    try:
        code: object = main([str(argument) for argument in argv])
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), (code, out, err)
    assert err.endswith("\n")
    assert err.count("\n") == 1, err
    return err


def test_run_names_the_best_labels_of_a_picture(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels").write_text("".join(f"digit {digit}\n" for digit in range(10)))
    assert main(["run", str(model), "--image", str(picture), "--labels", str(tmp_path / "labels"), "--top", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "scores: 3 best of 10" in lines[0]
    assert "digit 7" in lines[4], lines


def test_run_prints_one_json_document(model: Path, picture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(model), "--image", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["device"] in [device.name for device in rn.devices()]
    assert {step["place"] for step in document["steps"]} == {"npu", "cpu"}
    (output,) = document["outputs"]
    assert (output["name"], output["shape"], output["dtype"]) == ("scores", [1, 10], "int8")
    assert output["top"][0]["index"] == 7


def test_run_takes_an_array_and_writes_every_output(model: Path, tmp_path: Path) -> None:
    x = np.random.default_rng(3).integers(-128, 128, (1, 32, 32, 1)).astype(np.int8)
    np.save(tmp_path / "x.npy", x)
    assert main(["run", str(model), "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npz")]) == 0
    with rn.Session(model) as session, np.load(tmp_path / "y.npz") as written:
        np.testing.assert_array_equal(written["scores"], session.run(x)["scores"])


def test_random_input_repeats_with_its_seed(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[object] = []
    for seed in ("1", "1", "2"):
        assert main(["run", str(model), "--random", seed, "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["outputs"])
    assert answers[0] == answers[1]
    assert answers[0] != answers[2]


def test_compile_writes_a_program_that_run_answers_the_same_with(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "digits.rnpu"
    assert main(["compile", str(model), "-o", str(program)]) == 0
    table = capsys.readouterr().out
    assert "NPU" in table
    assert "CONV_2D" in table
    answers: list[object] = []
    for source in (model, program):
        assert main(["run", str(source), "--image", str(picture), "--json"]) == 0
        answers.append(json.loads(capsys.readouterr().out)["outputs"])
    assert answers[0] == answers[1]


def test_verify_finds_every_npu_layer_of_the_demo_within_one_step(
    model: Path, picture: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(model), "--image", str(picture), "--inputs", "2", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["passed"], report["inputs"]) == (True, 3)
    assert {layer["tensor"] for layer in report["layers"]} >= {"stem", "depthwise_1", "residual_1", "logits", "scores"}
    assert main(["verify", str(model), "--inputs", "1"]) == 0
    assert "within the tolerance of 1" in capsys.readouterr().out


def test_verify_exits_with_1_when_a_layer_is_outside_the_tolerance(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(model), "--inputs", "1", "--tolerance", "0"]) == 1
    assert "OUTSIDE the tolerance of 0" in capsys.readouterr().out


def test_the_demo_classifies_its_pictures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"]) == 0
    out = capsys.readouterr().out
    assert "10 of 10 right" in out
    assert "NPU" in out


def test_devices_lists_the_emulator(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    assert "emulator" in capsys.readouterr().out
    assert main(["devices", "--json"]) == 0
    assert "emulator" in json.dumps(json.loads(capsys.readouterr().out)["devices"])


@pytest.mark.parametrize("command", ["run", "compile", "verify", "devices", "demo"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "--help"])
    assert stop.value.code == 0
    assert f"usage: rocketnpu {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["--fly"], "unrecognized arguments: --fly"),
        (["run", "m", "--std", "-1"], "'-1' is not positive"),
        (["run", "m", "--fit", "letterbox"], "--fit says how --image becomes a tensor: give --image, too"),
        (["verify", "m", "--mean", "1"], "--mean says how --image becomes a tensor"),
        (["verify", "m", "--tolerance=-1"], "'-1' is not a number of at least 0"),
        (["verify", "m", "--tolerance", "nan"], "'nan' is not a number of at least 0"),
        (["verify", "m", "--cores", "2"], "--cores is for a compiled program: give --reference, too"),
        (["doctor", "--root", "/dev/null"], "--root /dev/null: not a directory"),
        (["fly"], "invalid choice: 'fly'"),
        (["run"], "required: MODEL"),
        (["run", "m", "--top", "0"], "'0' is less than 1"),
        (["run", "m", "--random", "-1"], "'-1' is less than 0"),
        (["run", "m", "--top", "²"], "is not a whole number"),
        (["run", "m", "--mean", "1,x"], "'1,x' is not a number"),
        (["run", "m", "--mean", "nan"], "'nan' is not a number"),
        (["run", "m", "--std", "1,0"], "'1,0' is not positive"),
        (["run", "m", "--fit", "cut"], "invalid choice: 'cut'"),
        (["compile", "m"], "required: -o/--output"),
        (["compile", "m", "-o", "p", "--cores", "4"], "invalid choice: 4"),
    ],
)
def test_bad_usage_is_one_line_and_code_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert message in fails_with(capsys, *argv)


def test_a_full_disk_is_one_line_with_the_file(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    message = "rocketnpu: /dev/full: No space left on device\n"
    assert fails_with(capsys, "compile", model, "-o", "/dev/full") == message
    assert fails_with(capsys, "run", model, "--random", 1, "--output", "/dev/full") == message


def test_verify_points_to_the_reference_of_a_compiled_program(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "digits.rnpu"
    rn.compile(model).save(program)
    assert "digits.rnpu is compiled already" in fails_with(capsys, "compile", program, "-o", tmp_path / "p.rnpu")
    assert "with recorded tensors, --reference" in fails_with(capsys, "verify", program)


def test_inspect_says_that_a_file_is_empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none.rnpu").touch()
    assert "none.rnpu is empty; inspect takes" in fails_with(capsys, "inspect", tmp_path / "none.rnpu")


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "none.tflite: No such file" in fails_with(capsys, "run", tmp_path / "none.tflite", "--random", 1)


def test_a_model_that_is_none_is_one_line(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fails_with(capsys, "run", picture, "--random", 1)
    fails_with(capsys, "compile", picture, "-o", tmp_path / "p.rnpu")
    fails_with(capsys, "run", tmp_path, "--random", 1)


def test_run_without_input_says_what_the_model_wants(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "'image' (int8 (1, 32, 32, 1)): give --input, --image or --random" in fails_with(capsys, "run", model)


def test_files_that_cannot_be_used_are_one_line(
    model: Path, picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "three").write_text("a\nb\nc\n")
    run = ("run", model)
    assert "none.png: No such file" in fails_with(capsys, *run, "--image", tmp_path / "none.png")
    assert "cannot decode" in fails_with(capsys, *run, "--image", model)
    assert "Is a directory" in fails_with(capsys, *run, "--image", tmp_path)
    assert "raw bytes" in fails_with(capsys, *run, "--input", picture)
    assert "3 labels fit no output" in fails_with(capsys, *run, "--image", picture, "--labels", tmp_path / "three")
    (tmp_path / "none").touch()
    assert "none: the file is empty" in fails_with(capsys, *run, "--image", picture, "--labels", tmp_path / "none")
    (tmp_path / "none").unlink()
    (tmp_path / "eleven").write_text("class\n" * 11)
    message = fails_with(capsys, *run, "--image", picture, "--labels", tmp_path / "eleven")
    assert "eleven: 11 labels fit no output: scores has 10 scores; drop the first line if" in message
    assert "has no input 'foo'; it has 'image'" in fails_with(capsys, *run, "--input", "foo=none.npz")
    assert "No such file" in fails_with(capsys, *run, "--image", picture, "--output", tmp_path / "none" / "y.npz")
    assert "no input left" in fails_with(capsys, *run, "--image", picture, "--input", model_input(tmp_path))


def model_input(folder: Path) -> Path:
    """A file that fits the demo model's only input."""
    path = folder / "zeros.bin"
    path.write_bytes(bytes(32 * 32))
    return path


def test_a_file_without_permission_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> int:  # root may read everything, so that no file on disk would do
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "m.tflite")

    monkeypatch.setattr(cli.devices, "execute", refuse)
    assert fails_with(capsys, "devices") == "rocketnpu: m.tflite: Permission denied\n"


def test_an_unknown_device_is_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "toaster" in fails_with(capsys, "run", model, "--random", 1, "--device", "toaster")


def test_a_name_from_a_file_cannot_steer_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_: object) -> int:
        raise rn.ModelError("operator \x1b[2Jevil\nsecond line")

    monkeypatch.setattr(cli.devices, "execute", refuse)
    assert fails_with(capsys, "devices") == "rocketnpu: operator \\x1b[2Jevil\\nsecond line\n"


def test_ctrl_c_ends_quietly_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.devices, "execute", interrupt)
    assert main(["devices"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_program_is_compiled_for_a_target(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "model.rnpu"
    for target in ("any", "rocket", "rknpu"):
        assert main(["compile", str(model), "-o", str(output), "--target", target, "--optimize", "0"]) == 0
        assert rn.load(output).target == target
        capsys.readouterr()
        assert main(["inspect", str(output)]) == 0
        assert f"for {'either driver' if target == 'any' else target}" in capsys.readouterr().out.splitlines()[0]
    assert "cores=2" in fails_with(capsys, "compile", model, "-o", output, "--target", "rocket", "--cores", 2)
    assert "invalid choice: 'tpu'" in fails_with(capsys, "compile", model, "-o", output, "--target", "tpu")


def test_options_of_the_compiler_are_for_models(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model.rnpu"
    rn.compile(model).save(output)
    for option in (["--target", "any"], ["--optimize", "1"], ["--experimental"]):
        for command in ("run", "bench"):
            error = fails_with(capsys, command, output, *option)
            assert f"{option[0]} is for a model" in error
            assert "compiled already" in error
    assert "--optimize is for a model" in fails_with(
        capsys, "verify", output, "--reference", "x.npz", "--optimize", "1"
    )


@pytest.mark.parametrize("command", ["run", "bench"])
def test_one_inference_on_several_cores(
    command: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = ["--random", "1"] if command == "run" else ["--frames", "1"]
    assert main([command, str(model), "--cores", "3", *rest]) == 0
    capsys.readouterr()
    output = tmp_path / "model.rnpu"
    rn.compile(model).save(output)
    assert "compile it with cores=2" in fails_with(capsys, command, output, "--cores", 2, *rest)


@pytest.mark.parametrize("command", ["run", "verify"])
def test_a_model_is_compiled_with_the_options(command: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--target", "rknpu", "--optimize", "0", "--experimental"]
    options += ["--inputs", "1"] if command == "verify" else ["--random", "1"]
    assert main([command, str(model), *options]) == 0
    capsys.readouterr()
