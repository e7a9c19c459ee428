"""Quantized ONNX operators on the NPU against ONNX Runtime, node by node: every byte within 1, nearly all equal.

Between DequantizeLinear and QuantizeLinear ONNX Runtime computes in float.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.verify import verify
from support.onnx_models import OPSET, Grid, OnnxBuilder, normal, quantize, small_network
from support.onnx_runs import IN, OUT, UNEQUAL, every_byte, noise, on_npu, onnx_agreement


def conv_weights(
    model: OnnxBuilder, *shape: int, dtype: Any = np.int8, per_channel: bool = False, zeros: Any = 0
) -> str:
    scales = np.geomspace(0.002, 0.02, shape[0]) if per_channel else 0.01
    return model.weights(noise(shape, dtype, seed=1), scales, zeros)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pads": [1, 1, 1, 1]},
        {"pads": [0, 2, 1, 1], "strides": [2, 1]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"pads": [2, 2, 2, 2], "dilations": [2, 2]},
    ],
    ids=lambda attributes: "-".join(attributes) or "plain",
)
def test_convolutions_with_every_kind_of_padding(attributes: dict[str, Any], per_channel: bool, dtype: Any) -> None:
    model = OnnxBuilder()
    zero = 5 if dtype == np.int8 else 140
    x = model.real_input((1, 20, 9, 8), (0.03, zero), dtype, name="x")
    bias = model.constant(normal((24,), 3.0, seed=2))
    conv = model.node("Conv", x, conv_weights(model, 24, 20, 3, 3, per_channel=per_channel), bias, **attributes)
    result = model.quantized(conv, (0.4, zero), dtype, name="y")
    on_npu(model.build(result, dtype=dtype), noise((1, 20, 9, 8), dtype))


@pytest.mark.parametrize(("groups", "channels", "outputs"), [(24, 24, 24), (4, 4, 8), (4, 16, 32), (1, 1, 3)])
def test_depthwise_and_grouped_convolutions(groups: int, channels: int, outputs: int) -> None:
    model = OnnxBuilder()
    x = model.real_input((1, channels, 7, 10), IN)
    weights = conv_weights(model, outputs, channels // groups, 3, 3, per_channel=True)
    conv = model.node("Conv", x, weights, group=groups, pads=[1] * 4)
    on_npu(model.build(model.quantized(conv, OUT)), noise((1, channels, 7, 10)))


@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 17), (np.uint8, 110)])
def test_asymmetric_weights(dtype: Any, zero: int) -> None:
    model = OnnxBuilder()
    weights = conv_weights(model, 33, 16, 1, 1, dtype=dtype, zeros=zero)
    conv = model.node("Conv", model.real_input((1, 16, 5, 5), IN), weights)
    on_npu(model.build(model.quantized(conv, (0.2, 3))), noise((1, 16, 5, 5)))


@pytest.mark.parametrize("activation", ["Relu", "Clip"])
@pytest.mark.parametrize("zero", [-128, -100])
def test_activations_clamp_where_the_reference_does(activation: str, zero: int) -> None:
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 8, 6, 6), IN), conv_weights(model, 8, 8, 3, 3))
    bounds = [model.constant(np.float32(value)) for value in (0, 6)] if activation == "Clip" else []
    data = model.build(model.quantized(model.node(activation, conv, *bounds), (0.06, zero), name="y"))
    result = on_npu(data, noise((1, 8, 6, 6)))
    found = result.found["y"]
    assert (int(found.min()), int(found.max())) == (zero, min(127, zero + 100) if activation == "Clip" else 127)


@pytest.mark.parametrize("op_type", ["MatMul", "Gemm"])
def test_fully_connected_layers_over_rows(op_type: str) -> None:
    model = OnnxBuilder()
    weights = model.weights(noise((40, 12), seed=1), np.geomspace(0.002, 0.02, 12), axis=1)
    product = model.node(op_type, model.real_input((6, 40), IN), weights)
    on_npu(model.build(model.quantized(product, OUT)), noise((6, 40)))


def test_a_flattened_image_is_read_in_the_order_of_its_planes() -> None:
    """Flatten puts channels first in NCHW, last in the device's layout: the weights' columns are reordered instead."""
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 8, 4, 5), IN), conv_weights(model, 20, 8, 1, 1))
    image = model.real(model.quantized(conv, OUT), OUT)
    flat = model.real(model.quantized(model.node("Flatten", image), OUT, name="flat"), OUT)
    product = model.node("Gemm", flat, model.weights(noise((7, 400), seed=1), 0.01), transB=1)
    result = on_npu(model.build(model.quantized(product, (1.5, 0), name="y")), noise((1, 8, 4, 5)))
    assert "flat" in result.program.dissolved


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_additions(dtype: Any) -> None:
    model = OnnxBuilder()
    zero = 7 if dtype == np.int8 else 120
    first = model.real_input((1, 20, 6, 5), (0.03, zero), dtype)
    second = model.real_input((1, 20, 6, 5), (0.011, zero + 3), dtype)
    result = model.quantized(model.node("Add", first, second), (0.035, zero), dtype)
    shapes = [noise((1, 20, 6, 5), dtype, seed) for seed in range(2)]
    on_npu(model.build(result, dtype=dtype), *shapes)


@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 2], "pads": [1, 0, 1, 2]}], ids=["plain", "padded"])
def test_average_pools_may_change_the_grid(attributes: dict[str, Any]) -> None:
    model = OnnxBuilder()
    pool = model.node("AveragePool", model.real_input((1, 20, 9, 8), IN), kernel_shape=[3, 3], **attributes)
    on_npu(model.build(model.quantized(pool, (0.017, 12))), noise((1, 20, 9, 8)))


def test_average_pools_on_one_grid_differ_from_the_reference_at_exact_halves_only() -> None:
    """There the reference's float rounding errors decide."""
    model = OnnxBuilder()
    pool = model.node(
        "AveragePool", model.real_input((1, 16, 16, 16), IN, name="x"), kernel_shape=[2, 2], strides=[2, 2]
    )
    x = noise((1, 16, 16, 16))
    result = onnx_agreement(model.build(model.quantized(pool, IN, name="y")), [x])
    assert not result.reasons()
    sums = x.astype(int).reshape(1, 16, 8, 2, 8, 2).sum(axis=(3, 5)) - 4 * IN[1]
    differs = result.found["y"] != result.expected["y"]
    assert set(np.unique(sums[differs] % 4)) <= {2}
    assert np.array_equal(result.found["y"][~differs], result.expected["y"][~differs])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("attributes", [{}, {"strides": [2, 2], "pads": [1, 0, 1, 2]}], ids=["plain", "padded"])
@pytest.mark.parametrize("on_integers", [False, True])
def test_max_pools_on_real_numbers_and_on_integers(on_integers: bool, attributes: dict[str, Any], dtype: Any) -> None:
    model = OnnxBuilder()
    grid = (0.03, 100)
    x = model.input((1, 20, 9, 8), dtype)
    real = model.real(x, grid, dtype)
    pool = model.node("MaxPool", x if on_integers else real, kernel_shape=[3, 3], **attributes)
    result = pool if on_integers else model.quantized(pool, grid, dtype)
    if on_integers:
        model.output(real, np.float32)  # what tells the integers' grid
    data = model.build(result, dtype=dtype)
    agreement = onnx_agreement(data, [noise((1, 20, 9, 8), dtype)])
    assert "MAX_POOL_2D" not in agreement.reasons()
    assert np.array_equal(agreement.found[result], agreement.expected[result])


@pytest.mark.parametrize(("size", "scale"), [((7, 7), 0.007), ((5, 62), 0.025)])
def test_global_averages(size: tuple[int, int], scale: float) -> None:
    """Above 31 columns in two steps, whose roundings add up; with 40 bytes, a share of equal ones says nothing."""
    model = OnnxBuilder()
    mean = model.node("GlobalAveragePool", model.real_input((1, 40, *size), IN))
    result = onnx_agreement(model.build(model.quantized(mean, (scale, 3))), [noise((1, 40, *size))])
    assert not result.reasons(), f"on the CPU: {result.reasons()}"


@pytest.mark.parametrize(("before", "after"), [((1, 24, 1, 1), (1, 24)), ((1, 6, 4, 5), (1, 6, 2, 10))])
def test_reshapes_that_move_nothing_have_no_task(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input(before, IN), conv_weights(model, before[1], before[1], 1, 1))
    image = model.real(model.quantized(conv, OUT), OUT)
    shape = model.constant(np.array(after))
    flat = model.quantized(model.node("Reshape", image, shape), OUT, name="flat")
    program = on_npu(model.build(flat), noise(before)).program
    assert [len(step.tasks[1][0][0]) for step in program.steps if step.place == "npu"] == [1, 0]


@pytest.mark.parametrize(
    ("op_type", "constants", "attributes"),
    [
        ("Slice", ([16], [32], [1]), {}),
        ("Slice", ([3], [20], [1]), {}),
        ("Slice", ([1, 1], [6, 8], [2, 3], [2, 3]), {}),
        ("Pad", ([0, 0, 1, 2, 0, 0, 3, 0],), {}),
        ("Pad", ([0, 0, 1, 2, 0, 0, 3, 0],), {"mode": "reflect"}),
        ("Resize", (None, np.array([1, 1, 2, 2], np.float32)), {}),
        ("Resize", (None, np.array([1, 1, 3, 2], np.float32)), {"mode": "linear"}),
        ("Transpose", (), {"perm": [0, 2, 3, 1]}),
        ("Transpose", (), {"perm": [0, 1, 3, 2]}),
        ("DepthToSpace", (), {"blocksize": 2}),
        ("SpaceToDepth", (), {"blocksize": 2}),
    ],
)
def test_data_moves_the_same_way_wherever_it_is_moved(
    op_type: str, constants: tuple[Any, ...], attributes: dict[str, Any]
) -> None:
    """Behind a convolution, so that the image is on the NPU."""
    model = OnnxBuilder()
    operands = ["" if value is None else model.constant(np.asarray(value)) for value in constants]
    conv = model.node("Conv", model.real_input((1, 8, 6, 8), IN), conv_weights(model, 64, 8, 1, 1))
    image = model.real(model.quantized(conv, OUT), OUT)
    onnx_agreement(
        model.build(model.quantized(model.node(op_type, image, *operands, **attributes), OUT)), [noise((1, 8, 6, 8))]
    )


@pytest.mark.parametrize(("sizes", "axis"), [((16, 48), 1), ((20, 44), 1), ((2, 4), 2)])
def test_splits(sizes: tuple[int, ...], axis: int) -> None:
    model = OnnxBuilder()
    conv = model.node("Conv", model.real_input((1, 8, 6, 8), IN), conv_weights(model, 64, 8, 1, 1))
    parts = model.split(model.real(model.quantized(conv, OUT), OUT), sizes, axis)
    onnx_agreement(model.build(*(model.quantized(part, OUT) for part in parts)), [noise((1, 8, 6, 8))])


@pytest.mark.parametrize("axis", [1, 2, 3])
@pytest.mark.parametrize("grid", [OUT, (0.09, 4)])
def test_concatenations(axis: int, grid: Grid) -> None:
    model = OnnxBuilder()
    x = model.real_input((1, 8, 6, 8), IN)
    parts = [model.quantized(model.node("Conv", x, conv_weights(model, 32, 8, 1, 1)), OUT) for _ in range(2)]
    both = model.node("Concat", *(model.real(part, OUT) for part in parts), axis=axis)
    onnx_agreement(model.build(model.quantized(both, grid)), [noise((1, 8, 6, 8))])


@pytest.mark.parametrize("op_type", ["Sub", "Mul", "Max", "Min", "Add"])
@pytest.mark.parametrize("constant", [None, (1, 20, 1, 1), (20, 1, 1), (6, 5), ()])
def test_element_wise_operators_with_tensors_and_constants(op_type: str, constant: tuple[int, ...] | None) -> None:
    model = OnnxBuilder()
    first = model.real_input((1, 20, 6, 5), (0.03, 7))
    if constant is None:
        second = model.real_input((1, 20, 6, 5), (0.011, -3))
    else:
        second = model.weights(noise(constant, seed=3), 0.02, 4)
    result = model.quantized(model.node(op_type, first, second), (0.05, 3))
    onnx_agreement(model.build(result), [noise((1, 20, 6, 5), seed=seed) for seed in range(len(model.inputs))])


@pytest.mark.parametrize(
    ("op_type", "out", "attributes"),
    [
        ("Sigmoid", (1 / 256, -128), {}),
        ("Tanh", (1 / 128, 0), {}),
        ("HardSwish", OUT, {}),
        ("LeakyRelu", OUT, {}),
        ("LeakyRelu", (0.06, 9), {"alpha": 0.2}),
        ("Gelu", OUT, {}),
        ("Gelu", OUT, {"approximate": "tanh"}),
        ("Abs", OUT, {}),
        ("Relu", (0.03, -128), {}),
    ],
)
def test_functions_of_one_tensor_on_all_its_values(op_type: str, out: Grid, attributes: dict[str, Any]) -> None:
    model = OnnxBuilder(20 if op_type == "Gelu" else OPSET)
    result = model.quantized(model.node(op_type, model.real_input((1, 16, 4, 4), (0.06, 9)), **attributes), out)
    found = onnx_agreement(model.build(result), [every_byte()])
    assert not found.reasons(), f"on the CPU: {found.reasons()}"


@pytest.mark.parametrize("bounds", [(0, None), (0, 6), (0, 1), (-1, 1), (-2, 3)])
def test_clamps_of_their_own(bounds: tuple[float, float | None]) -> None:
    model = OnnxBuilder()
    limits = [model.constant(np.float32(bound)) for bound in bounds if bound is not None]
    result = model.quantized(model.node("Clip", model.real_input((1, 16, 4, 4), (0.06, 9)), *limits), (0.05, -7))
    assert not onnx_agreement(model.build(result), [every_byte()]).reasons()


def test_a_change_of_grid() -> None:
    model = OnnxBuilder()
    result = model.quantized(model.real_input((1, 20, 4, 4), IN), OUT)
    onnx_agreement(model.build(result), [noise((1, 20, 4, 4))])


@pytest.mark.parametrize("quantization", ["QDQ", "QOperator"])
@pytest.mark.parametrize("activations", ["QInt8", "QUInt8"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_networks_quantized_by_onnx_runtimes_tool(per_channel: bool, activations: str, quantization: str) -> None:
    data = quantize(small_network(), per_channel=per_channel, activations=activations, quantization=quantization)
    result = onnx_agreement(data, [normal((1, 3, 32, 32), 1.0, seed=9)])
    assert set(result.reasons()) == {"QuantizeLinear", "DequantizeLinear"}
    for name in result.npu_tensors:
        if not name.startswith("pooled"):  # it keeps its grid: see the exact halves above
            unequal = (result.found[name] != result.expected[name]).mean()
            assert unequal <= UNEQUAL, f"{name}: {unequal:.4%} of bytes differ"


def test_arrays_are_nchw_on_both_sides() -> None:
    model = OnnxBuilder()
    weights = model.weights(np.eye(3, dtype=np.int8).reshape(3, 3, 1, 1), 1.0)
    conv = model.node("Conv", model.real_input((1, 3, 4, 6), (1.0, 0), name="x"), weights)
    data = model.build(model.quantized(conv, (1.0, 0), name="y"))
    x = noise((1, 3, 4, 6))
    with rn.Session(data, device="emulator") as session:
        assert session.inputs[0].shape == (1, 3, 4, 6)
        assert np.array_equal(session.run(x)["y"], x)


@pytest.mark.parametrize("name", ["a", "a2", "b"])
def test_the_vendors_float_models_run_on_the_cpu(shared: Path, name: str) -> None:
    report = verify(shared / "vectors" / "vendor" / f"{name}.onnx")
    assert {layer.place for layer in report.layers} == {"cpu"}
    # Float32 sums in another order: ONNX Runtime's optimized kernels against its plain ones.
    assert max(output.maximum for output in report.outputs.values()) < 1e-4


def test_a_published_mobilenet_runs_on_the_npu_but_for_its_ends(shared: Path) -> None:
    file = shared / "models" / "mobilenet_v2_qlinear.onnx"
    picture = np.fromfile(shared / "vectors" / "golden" / "grace_hopper_224.bin", np.uint8).reshape(224, 224, 3)
    scaled = (picture / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]  # what torchvision trains with
    report = verify(file, [{"input": scaled.transpose(2, 0, 1)[None].astype(np.float32)}])
    on_cpu = {kind for layer in report.layers if layer.place == "cpu" for kind in layer.operators}
    assert on_cpu <= {"QuantizeLinear", "ADD", "DequantizeLinear"}
    assert report.worst_npu_layer <= 1
    for layer in report.layers:
        assert layer.isolated.equal_fraction >= 1 - UNEQUAL, f"{layer.tensor}: {layer.isolated}"
    assert report.same_top["output"] == 1
