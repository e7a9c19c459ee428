"""An operator that only LiteRT can run goes to the CPU by itself; what is before and after it runs on the NPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import rocketnpu as rn
from rocketnpu.compiler.passes.keep_together import units, with_units
from rocketnpu.cpu.litert.interpreter import build_interpreter
from rocketnpu.errors import ModelError
from rocketnpu.frontends import load_model
from rocketnpu.frontends.tflite.opaque import CUSTOM_KERNELS
from rocketnpu.ir import Graph, Operator
from rocketnpu.program.container import decode_program, encode_program
from support.models import Grid, ModelBuilder, pack, schema
from support.partition_models import DETECTION, PartitionBuilder, dequantized, detector, quantized

GRID = Grid(0.05, 3)


def litert_runs(data: bytes, sets: Sequence[Sequence[np.ndarray]], kernels: Any = "reference") -> list[list[Any]]:
    """The outputs of LiteRT itself, run after run in one interpreter."""
    interpreter = build_interpreter(data, kernels)
    found: list[list[Any]] = []
    for inputs in sets:
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        found.append([interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()])
    return found


def places(program: rn.Program) -> list[tuple[str, list[str]]]:
    return [(step.place, [op.kind for op in step.operators]) for step in program.steps]


def noise(shape: tuple[int, ...], seed: int, dtype: str = "int8") -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(-128, 128, shape).astype(np.int8) if dtype == "int8" else rng.normal(0, 1, shape).astype(dtype)


def reasons(program: rn.Program) -> dict[str, str | None]:
    return {op.kind: op.reason for step in program.steps for op in step.operators}


# Custom operators


def test_a_detector_leaves_its_custom_operator_to_litert_and_finds_the_same_boxes() -> None:
    data = detector()
    with rn.Session(data, device="emulator") as session:
        *before, last = session.steps
        assert [step.place for step in before] == ["npu"] * len(before)
        assert last.operators[-1].kind == "CUSTOM"
        assert last.operators[-1].reason == f"the custom operator {DETECTION} has no NPU form"
        for seed in range(4):
            x = noise((1, 32, 32, 3), seed)
            got = list(session.run(x).values())
            boxes, classes, scores, count = litert_runs(data, [[x]])[0]
            np.testing.assert_array_equal(got[1], classes)
            np.testing.assert_array_equal(got[3], count)
            np.testing.assert_allclose(got[2], scores, atol=2 / 256)  # two steps of the scores' grid
            np.testing.assert_allclose(got[0], boxes, atol=0.02)  # two steps of the boxes' grid, in image sizes


def test_the_shapes_of_detections_follow_from_the_options() -> None:
    outputs = rn.Session(detector(max_detections=7, max_classes_per_detection=2), device="emulator").outputs
    assert [tensor.shape for tensor in outputs] == [(1, 14, 4), (1, 14), (1, 14), (1,)]


@pytest.mark.parametrize("value", [0, -3, 1 << 40, 2.5])
def test_a_detector_that_asks_for_impossible_numbers_of_boxes_is_refused(value: float) -> None:
    with pytest.raises(ModelError, match=r"operator 9 \(CUSTOM\) has the option max_detections="):
        load_model(detector(max_detections=value))


@pytest.mark.parametrize("options", [b"", b"\x01", b"\xff" * 9, bytes(range(1, 200))])
def test_custom_options_that_are_no_flexbuffer_are_refused(options: bytes) -> None:
    model = PartitionBuilder()
    inputs = [model.input((1, 2, 4), "float32"), model.input((1, 2, 6), "float32"), model.input((2, 4), "float32")]
    tree = model.model(*model.detections(*inputs))
    tree.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)
    with pytest.raises(ModelError, match=r"operator 0 \(CUSTOM\) has"):
        load_model(pack(tree))


@pytest.mark.parametrize("name", sorted(CUSTOM_KERNELS))
def test_litert_has_the_kernels_that_we_count_on(name: str) -> None:
    """LiteRT says so when it lacks one; of a model with wrong operands it says something else."""
    if name == DETECTION:
        build_interpreter(detector(), "reference")
        return
    with pytest.raises(ModelError, match=rf"NumInputs.*\({name}\) failed to prepare"):
        build_interpreter(detector(kernel=name), "reference")


@pytest.mark.parametrize("name", ["Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "FlexErf", "acme"])
def test_a_custom_operator_without_a_kernel_is_named_with_the_outputs_before_it(name: str) -> None:
    data = detector(kernel=name)
    with pytest.raises(ModelError, match=r"unresolved custom op|Regular TensorFlow ops are not supported"):
        build_interpreter(data, "reference")
    named = name.removeprefix("Flex")
    with pytest.raises(ModelError, match=rf"operator 9 \(CUSTOM\) of the model can't run anywhere: .*{named}") as found:
        rn.compile(data)
    assert "outputs=['dequantize', 'dequantize_2'] (--outputs dequantize,dequantize_2)" in str(found.value)


def test_outputs_that_do_not_need_the_missing_kernel_are_proposed_as_well() -> None:
    model = PartitionBuilder()
    y = model.conv2d(model.input((1, 4, 4, 8)), 8, name="y")
    other = model.conv2d(y, 8, name="other")
    (found,) = model.custom("acme", [y], [((1, 4), "float32")], {})
    with pytest.raises(ModelError, match=r"outputs=\['other', 'y'\] "):
        rn.compile(model.build(other, model.operator("ABS", [found], (1, 4))))


# Control flow


def body(kind: str) -> tuple[PartitionBuilder, str]:
    """A subgraph of one operator on one float tensor."""
    model = PartitionBuilder()
    x = model.input((1, 4, 4, 8), "float32")
    options = {"NEG": (schema.NegOptionsT(), "NegOptions"), "ABS": (schema.AbsOptionsT(), "AbsOptions")}
    return model, model.operator(kind, [x], (1, 4, 4, 8), None, *options[kind])


def branch(model: PartitionBuilder, inputs: list[str], then: int, otherwise: int) -> str:
    """IF with these subgraphs."""
    options = schema.IfOptionsT(thenSubgraphIndex=then, elseSubgraphIndex=otherwise)
    return model.results("IF", inputs, [((1, 4, 4, 8), "float32")], options)[0]


def branching(*, deep: bool = False) -> bytes:
    """A layer, IF (absolute values or negatives; if `deep`, chosen by an IF
    inside an IF), a layer."""
    model = PartitionBuilder(seed=1)
    x = model.input((1, 4, 4, 8), name="x")
    choice = model.input((1,), "bool", name="choice")
    real = dequantized(model, model.conv2d(x, 8, output=GRID))
    then, otherwise = (model.subgraph(*body(kind)) for kind in ("ABS", "NEG"))
    if not deep:
        chosen = branch(model, [choice, real], then, otherwise)
    else:
        callers = [PartitionBuilder(), PartitionBuilder()]
        inner = [
            branch(caller, [caller.input((1,), "bool"), caller.input((1, 4, 4, 8), "float32")], *numbers)
            for caller, numbers in zip(callers, ((then, otherwise), (otherwise, then)), strict=True)
        ]
        outer = [model.subgraph(caller, result) for caller, result in zip(callers, inner, strict=True)]
        chosen = branch(model, [choice, choice, real], *outer)
    return model.build(model.conv2d(quantized(model, chosen, GRID), 8, name="y"))


@pytest.mark.parametrize("deep", [False, True])
def test_layers_around_control_flow_run_on_the_npu(deep: bool) -> None:
    data = branching(deep=deep)
    program = rn.compile(data)
    assert places(program) == [
        ("npu", ["CONV_2D"]),
        ("cpu", ["DEQUANTIZE", "IF", "QUANTIZE"]),
        ("npu", ["CONV_2D"]),
    ]
    assert reasons(program)["IF"] == "IF is control flow, which has no NPU form"
    sets = [[noise((1, 4, 4, 8), seed), np.array([seed % 2 == 0])] for seed in range(4)]
    with rn.Session(program, device="emulator") as session:
        for inputs, (want,) in zip(sets, litert_runs(data, sets), strict=True):
            np.testing.assert_allclose(session.run(inputs)["y"].astype(int), want.astype(int), rtol=0, atol=1)


def counting() -> bytes:
    """WHILE i < n: i += 1, x = tanh(x)."""
    model = PartitionBuilder(seed=2)
    x = model.input((1, 4, 4, 8), name="x")
    n = model.input((), "int32", name="n")
    real = dequantized(model, model.conv2d(x, 8, output=GRID))
    state = [((), "int32"), ((), "int32"), ((1, 4, 4, 8), "float32")]
    test, body = PartitionBuilder(), PartitionBuilder()
    i, most, _ = (test.input(shape, dtype) for shape, dtype in state)
    less = test.operator("LESS", [i, most], (), None, schema.LessOptionsT(), "LessOptions", dtype="bool")
    i, most, z = (body.input(shape, dtype) for shape, dtype in state)
    following = body.operator("ADD", [i, body.constant(np.int32(1))], (), None, schema.AddOptionsT(), "AddOptions")
    results = (following, most, body.operator("TANH", [z], (1, 4, 4, 8)))
    options = schema.WhileOptionsT(
        condSubgraphIndex=model.subgraph(test, less), bodySubgraphIndex=model.subgraph(body, *results)
    )
    found = model.results("WHILE", [model.constant(np.int32(0)), n, real], state, options)
    return model.build(model.conv2d(quantized(model, found[2], GRID), 8, name="y"))


def test_a_loop_goes_along_with_its_subgraphs() -> None:
    data = counting()
    assert [place for place, _ in places(rn.compile(data))] == ["npu", "cpu", "npu"]
    sets = [[noise((1, 4, 4, 8), seed), np.array(seed, np.int32)] for seed in range(4)]
    with rn.Session(data, device="emulator") as session:
        for inputs, (want,) in zip(sets, litert_runs(data, sets), strict=True):
            np.testing.assert_allclose(session.run(inputs)["y"].astype(int), want.astype(int), rtol=0, atol=1)


@pytest.mark.parametrize("number", [3, 99, -1, 0])
def test_a_call_of_a_subgraph_that_does_not_exist_is_one_line(number: int) -> None:
    model = PartitionBuilder()
    options = schema.IfOptionsT(thenSubgraphIndex=number, elseSubgraphIndex=number)
    inputs = [model.input((1,), "bool"), model.input((1, 4), "float32")]
    data = model.build(*model.results("IF", inputs, [((1, 4), "float32")], options))
    with pytest.raises(ModelError) as found, rn.Session(data, device="emulator") as session:
        session.run([np.array([True]), np.zeros((1, 4), np.float32)])
    assert "\n" not in str(found.value)


# Shapes that depend on data


def selecting() -> bytes:
    """A layer, WHERE on its result, which rows there are, and a layer that does not need them."""
    model = PartitionBuilder(seed=4)
    x = model.input((1, 4, 4, 8), name="x")
    y = model.conv2d(x, 8, output=GRID, name="y")
    real = dequantized(model, y)
    positive = model.operator(
        "GREATER",
        [real, model.constant(np.float32(2))],
        (1, 4, 4, 8),
        None,
        schema.GreaterOptionsT(),
        "GreaterOptions",
        dtype="bool",
    )
    where = model.operator("WHERE", [positive], (1, 4), dtype="int64", name="where")
    model.sized(where, (-1, 4))
    total = model.operator("CAST", [where], (1, 4), None, schema.CastOptionsT(), "CastOptions", dtype="float32")
    model.sized(total, (-1, 4))
    return model.build(where, total, model.conv2d(y, 8, name="z"))


def test_sizes_that_depend_on_data_are_minus_one_and_the_rest_is_compiled() -> None:
    data = selecting()
    with rn.Session(data, device="emulator") as session:
        assert [tensor.shape for tensor in session.outputs] == [(-1, 4), (-1, 4), (1, 4, 4, 8)]
        assert [op.kind for step in session.steps if step.place == "npu" for op in step.operators] == ["CONV_2D"] * 2
        counts = set[int]()
        for seed in range(4):
            x = noise((1, 4, 4, 8), seed)
            found = session.run(x)
            y = (session.run(x, fetch="y")["y"].astype(int) - 3) * 0.05
            np.testing.assert_array_equal(found["where"], np.argwhere(y > 2))
            np.testing.assert_array_equal(found["cast"], np.argwhere(y > 2).astype(np.float32))
            counts.add(len(found["where"]))
        assert len(counts) > 1


def test_nothing_found_is_an_empty_array() -> None:
    with rn.Session(selecting(), device="emulator") as session:
        found = session.run(noise((1, 4, 4, 8), 0) // 64)
        assert (found["where"].shape, found["where"].dtype) == ((0, 4), np.int64)
        assert found["cast"].shape == (0, 4)


def test_a_piece_takes_tensors_of_sizes_that_another_piece_has_found() -> None:
    """CPU (how many) -> NPU (a layer that waits for it) -> CPU (both)."""
    model = PartitionBuilder(seed=6)
    x = model.input((1, 4, 4, 8), name="x")
    real = dequantized(model, model.conv2d(x, 8, output=GRID))
    shape = model.constant(np.array([128], np.int32))
    flat = model.operator("RESHAPE", [real, shape], (128,))
    mask = model.operator(
        "GREATER",
        [flat, model.constant(np.float32(1))],
        (128,),
        None,
        schema.GreaterOptionsT(),
        "GreaterOptions",
        dtype="bool",
    )
    where = model.sized(model.operator("WHERE", [mask], (1, 1), dtype="int64", name="where"), (-1, 1))
    tripled = model.operator(
        "MUL", [real, model.constant(np.float32(3))], (1, 4, 4, 8), None, schema.MulOptionsT(), "MulOptions"
    )
    late = dequantized(model, model.conv2d(quantized(model, tripled, GRID), 8, output=GRID))
    late = model.operator("RESHAPE", [late, shape], (128,))
    options = schema.GatherNdOptionsT()
    chosen = model.operator("GATHER_ND", [late, where], (1,), None, options, "GatherNdOptions", name="chosen")
    data = model.build(model.sized(chosen, (-1,)), where)
    with rn.Session(data, device="emulator") as session:
        assert [step.place for step in session.steps] == ["npu", "cpu", "npu", "cpu"]
        for seed in range(3):
            inputs = [noise((1, 4, 4, 8), seed)]
            found = session.run(inputs)
            (want, places_found), *_ = litert_runs(data, [inputs])
            np.testing.assert_array_equal(found["where"], places_found)
            np.testing.assert_allclose(found["chosen"], want, atol=0.051)  # one step of the grid


def test_a_program_with_unknown_sizes_is_saved_and_loaded() -> None:
    program = decode_program(encode_program(rn.compile(selecting())))
    with rn.Session(program, device="emulator") as session:
        assert session.outputs[0].shape == (-1, 4)
        assert session.run(noise((1, 4, 4, 8), 1))["where"].ndim == 2


def test_boxes_by_non_max_suppression_have_a_fixed_number_if_it_is_constant() -> None:
    model = PartitionBuilder()
    inputs = [model.input((6, 4), "float32"), model.input((6,), "float32")]
    inputs += [model.constant(value) for value in (np.int32(3), np.float32(0.5), np.float32(0.1))]
    table = "NonMaxSuppressionV4Options"
    options = schema.NonMaxSuppressionV4OptionsT()
    found = model.results("NON_MAX_SUPPRESSION_V4", inputs, [((1,), "int32"), ((), "int32")], options, table)
    graph = load_model(model.build(*found))
    assert [graph.tensors[name].shape for name in found] == [(3,), ()]
    boxes = np.array([[0, 0, 1, 1]] * 6, np.float32) * np.arange(1, 7)[:, None].astype(np.float32)
    with rn.Session(graph.model, device="emulator") as session:
        result = session.run([boxes, np.linspace(0.2, 0.9, 6).astype(np.float32)])
    want = litert_runs(graph.model, [[boxes, np.linspace(0.2, 0.9, 6).astype(np.float32)]])[0]
    for name, value in zip(found, want, strict=True):
        np.testing.assert_array_equal(result[name], value)


# Outputs that are constants, sparse constants


def test_an_output_that_is_a_constant_leaves_the_rest_on_the_npu() -> None:
    model = ModelBuilder(seed=7)
    y = model.conv2d(model.input((1, 4, 4, 8), name="x"), 8, name="y")
    anchors = model.constant(np.arange(6, dtype=np.float32).reshape(2, 3), name="anchors")
    data = model.build(anchors, y)
    with rn.Session(data, device="emulator") as session:
        assert {step.place: [op.kind for op in step.operators] for step in session.steps} == {
            "npu": ["CONV_2D"],
            "cpu": [],
        }
        x = noise((1, 4, 4, 8), 0)
        found = session.run(x)
        assert list(found) == ["anchors", "y"]
        np.testing.assert_array_equal(found["anchors"], np.arange(6, dtype=np.float32).reshape(2, 3))
        np.testing.assert_allclose(found["y"].astype(int), litert_runs(data, [[x]])[0][1].astype(int), atol=1)


def csr(dense: np.ndarray) -> tuple[Any, np.ndarray]:
    """Rows dense, columns compressed."""
    rows = [np.flatnonzero(row) for row in dense]
    segments = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    return _sparsity([0, 1], [], [dense.shape[0], (segments, np.concatenate(rows))]), dense[dense != 0]


def blocked(dense: np.ndarray) -> tuple[Any, np.ndarray]:
    """Blocks of four columns: rows dense, blocks compressed, four dense elements in each."""
    blocks = dense.reshape(dense.shape[0], -1, 4)
    found = [np.flatnonzero(np.any(row != 0, axis=1)) for row in blocks]
    segments = np.concatenate([[0], np.cumsum([len(row) for row in found])])
    values = np.concatenate([blocks[row][index] for row, index in enumerate(found)]).ravel()
    return _sparsity([0, 1, 2], [1], [dense.shape[0], (segments, np.concatenate(found)), 4]), values


def _sparsity(order: list[int], blocks: list[int], levels: list[Any]) -> Any:
    dimensions: list[Any] = []
    for level in levels:
        if isinstance(level, int):
            dimensions.append(schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=level))
            continue
        vectors = [schema.Int32VectorT(values=np.asarray(vector, np.int32)) for vector in level]
        kind = schema.SparseIndexVector.Int32Vector
        dimensions.append(
            schema.DimensionMetadataT(schema.DimensionType.SPARSE_CSR, 0, kind, vectors[0], kind, vectors[1])
        )
    return schema.SparsityParametersT(
        np.array(order, np.int32), np.array(blocks, np.int32) if blocks else None, dimensions
    )


@pytest.mark.parametrize("sparse", [csr, blocked])
def test_sparse_weights_are_made_dense_as_litert_does(sparse: Callable[[np.ndarray], tuple[Any, np.ndarray]]) -> None:
    rng = np.random.default_rng(8)
    dense = rng.normal(0, 1, (6, 16)).astype(np.float32) * (rng.random((6, 16)) < 0.3)
    dense[2] = 0
    model = ModelBuilder()
    x = model.input((1, 16), "float32", name="x")
    weights = model.constant(dense, name="sparse")
    whole = model.operator("DENSIFY", [weights], (6, 16), name="weights")
    y = model.fully_connected(x, 6, weights=np.zeros((6, 16), np.float32), bias=False, name="y")
    tree = model.model(y)
    graph = tree.subgraphs[0]
    names = list(model.tensors)
    graph.operators[1].inputs[1] = names.index(whole)
    graph.tensors[names.index(weights)].sparsity, values = sparse(dense)
    tree.buffers[graph.tensors[names.index(weights)].buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    data = pack(tree)
    loaded = load_model(data)
    assert [op.kind for op in loaded.operators] == ["FULLY_CONNECTED"]
    np.testing.assert_array_equal(loaded.tensors["weights"].data, dense)
    inputs = [rng.normal(0, 1, (1, 16)).astype(np.float32)]
    with rn.Session(data, device="emulator") as session:
        np.testing.assert_allclose(session.run(inputs)["y"], litert_runs(data, [inputs])[0][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda found: setattr(found, "traversalOrder", np.array([0, 0], np.int32)), "traversal order"),
        (lambda found: setattr(found.dimMetadata[0], "denseSize", 1 << 30), "does not fit its shape"),
        (lambda found: setattr(found.dimMetadata[1].arraySegments, "values", np.array([0, 9], np.int32)), "segments"),
        (lambda found: setattr(found.dimMetadata[1].arrayIndices, "values", np.full(16, 99, np.int32)), "outside its"),
        (lambda found: setattr(found, "blockMap", np.array([7], np.int32)), "traversal order"),
    ],
)
def test_damaged_sparse_constants_are_refused(spoil: Callable[[Any], None], reason: str) -> None:
    dense = np.eye(16, dtype=np.float32)
    model = ModelBuilder()
    weights = model.constant(dense, name="sparse")
    tree = model.model(model.operator("DENSIFY", [weights], (16, 16)))
    found, values = csr(dense)
    spoil(found)
    tree.subgraphs[0].tensors[0].sparsity = found
    tree.buffers[1].data = np.frombuffer(values.tobytes(), np.uint8)
    with pytest.raises(ModelError, match=f"sparse tensor sparse .*{reason}"):
        load_model(pack(tree))


# What must run in one piece


def chain(*shares: str) -> Graph:
    """Operators in a row that share these things ("" for nothing)."""
    operators = tuple(
        Operator("ABS", index, (f"t{index}",), (f"t{index + 1}",), shares=frozenset({name} if name else ()))
        for index, name in enumerate(shares)
    )
    return Graph({}, operators, ("t0",), (f"t{len(shares)}",), b"")


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        (("", "a", "", "a", ""), [[0], [1, 2, 3], [4]]),
        (("a", "b", "a", "b"), [[0, 1, 2, 3]]),
        (("a", "a", "b", "b"), [[0, 1], [2, 3]]),
        (("", "a", ""), [[0], [1], [2]]),
        (("", "", ""), [[0], [1], [2]]),
    ],
)
def test_what_lies_between_operators_that_share_something_is_bound_to_them(
    shares: tuple[str, ...], expected: list[list[int]]
) -> None:
    graph = with_units(chain(*shares))
    assert units(graph.operators) == expected


def test_the_reason_names_what_is_shared() -> None:
    (_, middle, _) = with_units(chain("v", "", "v")).operators
    assert middle.opaque == "ABS lies between operators that share v, which has no NPU form"


def test_a_long_chain_is_no_deep_recursion() -> None:
    graph = with_units(chain("a", *[""] * 5000, "a"))
    assert [len(unit) for unit in units(graph.operators)] == [5002]


def test_reading_all_tensors_gives_no_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build_interpreter(detector(quantized=False), "fast", keep_tensors=True)
