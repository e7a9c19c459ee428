"""Constants in another file: read from beside the model, and from nowhere else."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import rocketnpu as rn
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.files import MOST_BYTES
from rocketnpu.verify import verify
from support.onnx_models import OnnxBuilder, quantize, small_network

WEIGHTS = np.arange(12, dtype=np.float32).reshape(3, 4)
BESIDE = "m.onnx.data"


def elsewhere(name: str, values: Any = WEIGHTS, **place: object) -> TensorProto:
    """A constant whose data is in another file."""
    tensor = numpy_helper.from_array(values, name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": BESIDE, **place}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def product(**place: object) -> onnx.ModelProto:
    """y = x w, with w elsewhere."""
    model = OnnxBuilder()
    model.constants.append(elsewhere("w", **place))
    model.output(model.node("MatMul", model.input((1, 3), name="x"), "w", name="y"), np.float32)
    return model.proto()


def saved(folder: Path, model: onnx.ModelProto, data: bytes | None = None) -> Path:
    path = folder / "m.onnx"
    path.write_bytes(model.SerializeToString())
    (folder / BESIDE).write_bytes(WEIGHTS.tobytes() if data is None else data)
    return path


def refusal(source: Path | bytes) -> str:
    with pytest.raises(ModelError) as caught:
        load_model(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("place", [{}, {"offset": 0}, {"offset": 8, "length": 48}, {"offset": 8, "checksum": "abc"}])
def test_constants_beside_the_model_are_read(tmp_path: Path, place: dict[str, object]) -> None:
    before = bytes(int(str(place.get("offset", 0))))
    path = saved(tmp_path, product(**place), before + WEIGHTS.tobytes())
    graph = load_model(path)
    assert np.array_equal(graph.tensors["w"].data, WEIGHTS)  # type: ignore[arg-type]
    path.unlink()
    (tmp_path / BESIDE).unlink()
    x = np.ones((1, 3), np.float32)
    with rn.Session(graph.model, "emulator") as session:  # the graph's own file is whole
        assert np.array_equal(session.run(x)["y"], x @ WEIGHTS)


def test_types_of_four_bits_are_packed(tmp_path: Path) -> None:
    values = np.arange(-8, 7, dtype=np.int8)
    packed = bytes(low & 15 | (high & 15) << 4 for low, high in np.append(values, 0).reshape(-1, 2).tolist())
    tensor = elsewhere("w", np.zeros(15, np.int8))
    tensor.data_type = TensorProto.INT4
    model = OnnxBuilder(opset=21)
    model.constants.append(tensor)
    scale = model.constant(np.float32(0.5))
    model.output(model.node("Add", model.input((15,)), model.node("DequantizeLinear", "w", scale)), np.float32)
    proto = model.proto()
    proto.ir_version = 10
    path = saved(tmp_path, proto, packed)
    with rn.Session(path, "emulator") as session:
        (found,) = session.run(np.zeros(15, np.float32)).values()
    assert found.tolist() == (values * 0.5).tolist()


def test_every_way_to_open_a_model_reads_them(tmp_path: Path) -> None:
    whole, float_model = quantize(small_network()), small_network()
    _save_in_two(onnx.load_model_from_string(whole), tmp_path / "m.onnx")
    program = rn.compile(tmp_path / "m.onnx")
    assert program.segments == rn.compile(whole).segments
    assert verify(tmp_path / "m.onnx").worst_npu_layer <= 1
    sizes = [size.dim_value for size in float_model.graph.input[0].type.tensor_type.shape.dim][1:]
    inputs = np.random.default_rng(0).random((2, *sizes), np.float32)
    expected = rn.quantize(float_model.SerializeToString(), inputs).model
    _save_in_two(float_model, tmp_path / "f.onnx")
    assert rn.quantize(tmp_path / "f.onnx", inputs).model == expected


def _save_in_two(model: onnx.ModelProto, path: Path) -> None:
    onnx.save_model(model, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)
    stored = onnx.load_model(path, load_external_data=False)
    assert any(tensor.data_location == TensorProto.EXTERNAL for tensor in stored.graph.initializer)


def test_the_default_export_of_pytorch_runs(shared: Path) -> None:
    path = shared / "cases" / "torch_default.onnx"
    whole = onnx.load_model(path)
    x = np.random.default_rng(1).random((1, 1, 28, 28), np.float32)
    with rn.Session(path, "emulator") as session, rn.Session(whole.SerializeToString(), "emulator") as other:
        assert session.run(x)["linear_1"].tolist() == other.run(x)["linear_1"].tolist()
    quantized = rn.quantize(path, x)
    assert verify(quantized.model).worst_npu_layer <= 1


def test_a_model_of_bytes_has_no_files_beside_it() -> None:
    line = refusal(product().SerializeToString())
    assert line == (
        "the model keeps w in another file, and was given as bytes: give its path, or save it with its data inside"
    )


@pytest.mark.parametrize("location", ["", ".", "..", "../m.onnx.data", "/etc/passwd", "sub/w", "a\\b", "a\0b"])
def test_only_plain_names_are_opened(tmp_path: Path, location: str) -> None:
    line = refusal(saved(tmp_path, product(location=location)))
    assert f"m.onnx keeps w in {location!r}, which is not the plain name of a file beside it" in line


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _circle(path: Path) -> None:
    path.symlink_to(path.name)


def _outside(path: Path) -> None:
    secret = path.parent.parent / f"{path.parent.name} secret"
    secret.write_bytes(WEIGHTS.tobytes())
    path.symlink_to(secret)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda _: None, "can't be read (No such file or directory); it belongs beside the model"),
        (_folder, "can't be read (Is a directory)"),
        (_pipe, "is not a regular file"),
        (_circle, "can't be read"),
        (_outside, "is a link to another folder; put the file itself beside the model"),
    ],
    ids=["nothing", "folder", "pipe", "circle", "outside"],
)
def test_only_regular_files_of_the_folder_are_read(tmp_path: Path, make: Callable[[Path], None], why: str) -> None:
    path = saved(tmp_path, product())
    (tmp_path / BESIDE).unlink()
    make(tmp_path / BESIDE)
    assert f"m.onnx keeps w in {BESIDE!r}, which {why}" in refusal(path)


def test_a_link_inside_the_folder_is_followed(tmp_path: Path) -> None:
    path = saved(tmp_path, product())
    (tmp_path / BESIDE).rename(tmp_path / "blob")
    (tmp_path / BESIDE).symlink_to("blob")
    assert load_model(path).tensors["w"].data is not None


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ({"offset": -1}, "at the offset '-1', which is not a number"),
        ({"offset": "1" * 30}, "which is not a number"),
        ({"length": "many"}, "with the length 'many', which is not a number"),
        ({"length": 44}, "with 44 bytes; its type and shape need 48"),
        ({"offset": 4}, "at bytes 4 to 52; that file has 48: it is cut short or belongs to another model"),
    ],
)
def test_offset_and_length_lie_inside_the_file(tmp_path: Path, place: dict[str, object], why: str) -> None:
    assert why in refusal(saved(tmp_path, product(**place)))


def test_many_constants_cannot_share_their_way_to_unbounded_memory(tmp_path: Path) -> None:
    model = product()
    large = elsewhere("large")
    large.dims[:] = [MOST_BYTES // 4]
    model.graph.initializer.extend([large, elsewhere("more")])
    saved(tmp_path, model)
    with (tmp_path / BESIDE).open("wb") as file:
        file.truncate(MOST_BYTES)
    assert f"keeps more than {MOST_BYTES} bytes in other files" in refusal(tmp_path / "m.onnx")


def _attribute() -> onnx.ModelProto:
    model = OnnxBuilder()
    model.output(model.node("Constant", name="y", value=elsewhere("w")), np.float32)
    return model.proto()


def _nested() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["w"], ["z"])],
        "body",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 4])],
        [elsewhere("w")],
    )
    model = OnnxBuilder()
    condition = model.input((), np.bool_, name="c")
    model.output(model.node("If", condition, then_branch=body, else_branch=body, name="y"), np.float32)
    return model.proto()


def _function(nested: bool) -> onnx.ModelProto:
    nodes = [helper.make_node("Constant", [], ["z"], value=elsewhere("w"))]
    if nested:
        body = helper.make_graph(nodes, "body", [], [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 4])])
        truth = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
        nodes = [truth, helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=body)]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "F", [], ["z"], nodes, opsets[:1])
    graph = helper.make_graph(
        [helper.make_node("F", [], ["y"], domain="own")],
        "net",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [3, 4])],
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)


def _default() -> onnx.ModelProto:
    model = _function(nested=False)
    function = model.functions[0]
    function.attribute_proto.append(helper.make_attribute("a", elsewhere("w")))
    attribute = function.node[0].attribute[0]
    attribute.ClearField("t")
    attribute.ref_attr_name = "a"
    return model


def _sparse() -> onnx.ModelProto:
    model = product()
    values, indices = elsewhere("w"), numpy_helper.from_array(np.arange(3), "i")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [3, 4]))
    del model.graph.initializer[:]
    return model


def _training() -> onnx.ModelProto:
    model = product()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(WEIGHTS, "w"))
    model.training_info.add().algorithm.initializer.append(elsewhere("w"))
    return model


@pytest.mark.parametrize(
    "model",
    [_attribute(), _nested(), _function(nested=False), _function(nested=True), _default(), _sparse(), _training()],
    ids=["attribute", "graph", "function", "graph in function", "default", "sparse", "training"],
)
def test_no_other_place_may_name_a_file(tmp_path: Path, model: onnx.ModelProto) -> None:
    """The file is there: what is refused is the place that names it."""
    assert "keeps w in another file, but only constants of its own graph may be there" in refusal(
        saved(tmp_path, model)
    )
