"""ONNX models: what is repaired before ONNX Runtime's quantizer, what is mended after it, and what comes out."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from benchmarks.detector import network
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

import rocketnpu as rn
from rocketnpu.cpu import onnxruntime as ort
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.quantizer.onnx import equalize as onnx_equalize
from rocketnpu.quantizer.onnx.repair import repair
from rocketnpu.quantizer.ranges import measure
from rocketnpu.verify import verify
from support.dying import Dying
from support.onnx_models import OnnxBuilder, normal, small_network

SHAPE = (1, 3, 32, 32)
BORDER = {"QuantizeLinear", "DequantizeLinear"}


def inputs(count: int = 4, shape: tuple[int, ...] = SHAPE) -> list[NDArray[np.float32]]:
    return [normal(shape, 1.0, seed) for seed in range(count)]


def on_the_cpu(model: bytes) -> set[str]:
    steps = rn.compile(model).steps
    return {operator.kind for step in steps if step.place == "cpu" for operator in step.operators}


def between_convolutions(*kinds: str) -> bytes:
    """Conv, the operators of these kinds, Conv; input x of 1x3x32x32, output y."""
    model = OnnxBuilder(opset=20)
    y = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((8, 3, 3, 3), 0.3, 0)), pads=[1] * 4)
    for kind in kinds:
        y = model.node(kind, y)
    return model.build(model.node("Conv", y, model.constant(normal((4, 8, 1, 1), 0.3, 1)), name="y"), dtype=np.float32)


def test_repair_folds_normalization_and_fixes_the_batch():
    repaired = repair(network(), "it")
    proto = onnx.load_from_string(repaired)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    assert [size.dim_value for size in proto.graph.input[0].type.tensor_type.shape.dim] == [1, 3, 64, 64]
    assert len({node.name for node in proto.graph.node}) == len(proto.graph.node)
    original = ort.Piece(load_model(network()).model)
    for values in inputs(2, (1, 3, 64, 64)):
        for found, expected in zip(ort.Piece(repaired).run([values]), original.run([values]), strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-4)  # the folded constants are float32 again


def test_a_model_of_halves_becomes_one_of_singles():
    proto = small_network()
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    quantized = rn.quantize(proto.SerializeToString(), inputs())
    graph = load_model(quantized.model)
    assert [graph.tensors[name].dtype for name in ("x", "y")] == [np.float32] * 2
    assert on_the_cpu(quantized.model) == BORDER
    assert quantized.report.outputs["y"] > 35


def test_a_network_is_int8_from_border_to_border_and_within_1_on_the_npu():
    quantized = rn.quantize(small_network().SerializeToString(), inputs())
    assert on_the_cpu(quantized.model) == BORDER
    assert quantized.report.outputs["y"] > 35
    assert verify(quantized.model, [{"x": inputs(1)[0]}]).worst_npu_layer <= 1


@pytest.mark.parametrize(
    "kind",
    [
        "Abs",
        "Elu",
        "Erf",
        "Exp",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "Neg",
        "Selu",
        "Softplus",
        "Tanh",
    ],
)
def test_functions_of_one_tensor_are_quantized_because_the_npu_looks_them_up(kind: str):
    quantized = rn.quantize(between_convolutions(kind), inputs())
    assert on_the_cpu(quantized.model) == BORDER


def test_what_has_no_form_on_the_npu_computes_in_float():
    quantized = rn.quantize(between_convolutions("Relu", "Softmax"), inputs())
    assert on_the_cpu(quantized.model) == BORDER | {"Softmax"}


def test_equalization_changes_weights_and_not_what_they_compute():
    data = repair(between_convolutions("LeakyRelu"), "it")
    ranges = measure((ort.Reference(data).tensors([values]) for values in inputs()), 1, lambda: None)
    equal, changed = onnx_equalize.equalize(data, ranges)
    assert equal != data
    measured = measure((ort.Reference(equal).tensors([values]) for values in inputs()), 1, lambda: None)
    for name, found in measured.items():
        np.testing.assert_allclose(found.high, changed[name].high, rtol=1e-3, atol=1e-5, err_msg=name)
    for values in inputs(2):
        (found,), (expected,) = (ort.Piece(file).run([values]) for file in (equal, data))
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_moves_before_an_output_stay_float():
    model = OnnxBuilder()
    y = model.node("Conv", model.input(SHAPE, name="x"), model.constant(normal((4, 3, 1, 1), 1.0, 0)))
    flat = model.node("Reshape", y, model.constant(np.array([1, 4, 1024])))
    data = model.build(model.node("Transpose", flat, perm=[0, 2, 1], name="y"), dtype=np.float32)
    quantized = rn.quantize(data, inputs())
    nodes = [node.op_type for node in onnx.load_from_string(quantized.model).graph.node]
    assert nodes[-4:] == ["QuantizeLinear", "DequantizeLinear", "Reshape", "Transpose"]


def test_several_inputs_are_calibrated_by_name():
    model = OnnxBuilder()
    left, right = (model.input((1, 4, 8, 8), name=name) for name in ("left", "right"))
    data = model.build(model.node("Add", left, right, name="y"), dtype=np.float32)
    arrays = {name: normal((5, 1, 4, 8, 8), scale, 0) for name, scale in (("left", 1.0), ("right", 10.0))}
    quantized = rn.quantize(data, arrays)
    grids = load_model(quantized.model).tensors
    scales = [float(grids[f"{name}_QuantizeLinear_Output"].quantization.scales[0]) for name in ("left", "right")]
    assert scales[1] == pytest.approx(10 * scales[0], rel=0.02)
    assert quantized.report.inputs == 5


def moves_of_float_tensors() -> dict[str, bytes]:
    """Operators that move a tensor which stays float, and a layer that reads the moved one; input x, output y."""
    flat = OnnxBuilder()
    y = flat.node("Flatten", flat.input((1, 4, 4, 4), name="x"))
    flattened = flat.build(flat.node("Gemm", y, flat.constant(normal((64, 10), 0.1, 0)), name="y"), dtype=np.float32)
    turned = OnnxBuilder()
    y = turned.node("Transpose", turned.input((1, 8, 4, 16), name="x"), perm=[0, 2, 1, 3])
    kernel = turned.constant(normal((16, 8), 0.1, 0))
    transposed = turned.build(turned.node("MatMul", y, kernel, name="y"), dtype=np.float32)
    chosen = OnnxBuilder()
    y = chosen.node("LayerNormalization", chosen.input((1, 5, 16), name="x"), chosen.constant(np.ones(16, np.float32)))
    y = chosen.node("Gather", y, chosen.constant(np.array(0)), axis=1)
    kernel = chosen.constant(normal((16, 8), 0.1, 0))
    gathered = chosen.build(chosen.node("MatMul", y, kernel, name="y"), dtype=np.float32)
    soft = OnnxBuilder()
    y = soft.node("Conv", soft.input((1, 4, 4, 4), name="x"), soft.constant(normal((8, 4, 1, 1), 0.3, 0)))
    y = soft.node("Reshape", soft.node("Softmax", y), soft.constant(np.array([1, 128])))
    reshaped = soft.build(soft.node("Gemm", y, soft.constant(normal((128, 10), 0.1, 1)), name="y"), dtype=np.float32)
    return {"Flatten": flattened, "Transpose": transposed, "Gather": gathered, "Reshape": reshaped}


@pytest.mark.parametrize("kind", ["Flatten", "Transpose", "Gather", "Reshape"])
def test_moves_may_read_tensors_that_stay_float(kind: str):
    data = moves_of_float_tensors()[kind]
    samples = inputs(4, load_model(data).tensors["x"].shape)
    quantized = rn.quantize(data, samples)
    assert quantized.report.outputs["y"] > 35
    assert verify(quantized.model, [{"x": samples[0]}]).worst_npu_layer <= 1


def test_what_cannot_be_quantized_is_refused_with_one_line():
    control = OnnxBuilder()
    body = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["inner"])],
        "body",
        [],
        [onnx.helper.make_tensor_value_info("inner", TensorProto.FLOAT, SHAPE)],
    )
    control.input(SHAPE, name="x")
    condition = control.constant(np.array(True))
    control.node("If", condition, then_branch=body, else_branch=body, name="y")
    quantized = OnnxBuilder()
    grid = (0.1, 0)
    y = quantized.real(quantized.quantized(quantized.input(SHAPE, name="x"), grid), grid)
    for data, line in (
        (control.build("y", dtype=np.float32), "can't be quantized: its operator If is control flow"),
        (quantized.build(y, dtype=np.float32), "is quantized already: it has QuantizeLinear; give the float model"),
    ):
        with pytest.raises(ModelError, match=line) as refusal:
            rn.quantize(data, inputs())
        assert "\n" not in str(refusal.value)


def test_numbers_that_are_none_are_found_in_calibration():
    with pytest.raises(ModelError, match="tensor x has NaN or infinity for calibration input 1"):
        rn.quantize(between_convolutions("Relu"), [inputs(1)[0], np.full(SHAPE, np.nan)])


def test_constants_that_onnx_runtime_dies_of_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rocketnpu.quantizer.onnx.repair.Optimizer", Dying)
    model = OnnxBuilder(opset=17)
    smallest, divisor = (model.constant(np.array([value], np.int32)) for value in (-(1 << 31), -1))
    real = model.node("Cast", model.node("Mod", smallest, divisor), to=TensorProto.FLOAT)
    data = model.build(model.node("Add", model.input(SHAPE, name="x"), real), dtype=np.float32)
    with pytest.raises(ModelError, match=r"ONNX Runtime crashes on the model's operators Mod, Cast, Add .*SIGFPE"):
        repair(data, "the model")
