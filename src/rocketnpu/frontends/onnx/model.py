"""ONNX files to checked and cleaned models: what every later step may rely on.

1. The model is one whole: data beside the file is read (external.py), and onnx.checker finds nothing wrong with it.
2. What cannot be cut into pieces is named, and left as it is: control flow, local functions, sequences, sparse tensors,
   foreign operators.
3. It ends where the caller says (cut.py), and has the sizes that he says (sizes.py): a batch of no fixed size becomes
   1, other free sizes are refused.
4. Old files are read as newer ones: constants need not be inputs, and opset 7 is the first that ONNX Runtime runs.
   Quantized models are brought to opset 13, the first one that can say "per channel". The newest opset is the newest
   one that ONNX Runtime runs.
5. Arithmetic on constants and shapes is done once, here.
6. What only moves quantized elements is quantized itself (quantize_moves.py).
7. Constants of 4 bits are bytes (narrow.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rocketnpu.frontends.files import ModelFile
from rocketnpu.frontends.onnx.cut import end_at, type_outputs
from rocketnpu.frontends.onnx.external import read_external
from rocketnpu.frontends.onnx.library import library, refusal_is_model_error
from rocketnpu.frontends.onnx.narrow import widen_constants
from rocketnpu.frontends.onnx.old_broadcasts import FIRST_OPSET, align_operands
from rocketnpu.frontends.onnx.parse import parse
from rocketnpu.frontends.onnx.qlinear import QLINEAR, rewrite_qlinear
from rocketnpu.frontends.onnx.quantize_moves import keep_grids
from rocketnpu.frontends.onnx.sizes import fix_sizes
from rocketnpu.frontends.opening import Opening

INITIALIZER_IR_VERSION = 4
"""Constants need not be inputs from here on."""

RUNNABLE_OPSET = 7
"""ONNX Runtime has no kernels for operators of older opsets (its page "Compatibility")."""

MIN_OPSET = 13
"""DequantizeLinear has an axis, and Squeeze and its kin have operands instead of attributes, from here on."""

MAX_OPSET = 26
"""What ONNX Runtime 1.31 takes without asking for an environment variable; the onnx package is ahead of it."""

KNOWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Operators that ONNX Runtime brings along."""

QUANTIZING = frozenset({"QuantizeLinear", "DequantizeLinear", *QLINEAR})

FOLDED = frozenset(
    {
        "Add",
        "Cast",
        "Ceil",
        "Concat",
        "Div",
        "Floor",
        "Gather",
        "Identity",
        "Max",
        "Min",
        "Mul",
        "Neg",
        "Reshape",
        "Shape",
        "Slice",
        "Squeeze",
        "Sub",
        "Transpose",
        "Unsqueeze",
    }
)
"""What shapes are computed with. None makes much out of little, as Range, Tile and Expand could."""

FOLDED_ELEMENTS = 1024
"""Operands above this are no shape arithmetic; two of them broadcast to at most a million elements."""

TIDIED = frozenset({"Constant", "Dropout", "Identity", "Shape", "Size"})


@dataclass(frozen=True, eq=False)
class Source:
    """A checked model (onnx.ModelProto), the names its file had, and why it cannot be cut (None when it can).

    `notes` are sentences for the user on what was decided when it was read.
    """

    model: Any
    names: frozenset[str]
    opaque: str | None
    notes: tuple[str, ...] = ()


def read_model(file: ModelFile, opening: Opening) -> Source:
    """The model in an ONNX file.

    Raises ModelError for a file that is malformed, is not whole, or has inputs of no fixed size, and for an `opening`
    that does not fit it.
    """
    name = file.where
    model = parse(file.data, name)
    model.ir_version = max(model.ir_version, INITIALIZER_IR_VERSION)
    with refusal_is_model_error(f"{name} is malformed"):
        read_external(model, file)
        if opening.outputs:
            end_at(model, opening.outputs, name)
        _check(model)
        _drop_constant_inputs(model)
        names = frozenset(output for node in model.graph.node for output in node.output)
        opaque = _opaque(model)
        notes = fix_sizes(model.graph, name, opening)
        type_outputs(model, name)
    if 0 < opset(model) < FIRST_OPSET:
        align_operands(model, name)
    model = _converted(model, name)
    widen_constants(model)
    if opaque is None and any(node.op_type in QUANTIZING for node in model.graph.node):
        model = _converted(model, name, MIN_OPSET)
        rewrite_qlinear(model)
    if opaque is None and _needs_tidying(model):
        model = _tidied(model, name)
        widen_constants(model)
    if opaque is None:
        keep_grids(model)
    return Source(model, names, opaque, notes)


def _check(model: Any) -> None:
    """onnx.checker, but for types and shapes that the caller gives, or that follow from those of the inputs."""
    untyped = [value for value in model.graph.output if not value.HasField("type")]
    for value in untyped:
        value.type.tensor_type.elem_type = library("onnx").TensorProto.FLOAT
    values = (*model.graph.input, *model.graph.output)
    bare = [value.type.tensor_type for value in values if value.type.HasField("tensor_type")]
    bare = [declared for declared in bare if not declared.HasField("shape")]
    for declared in bare:
        declared.shape.SetInParent()
    library("onnx").checker.check_model(model)
    for declared in bare:
        declared.ClearField("shape")
    for value in untyped:
        value.ClearField("type")


def opset(model: Any) -> int:
    """The version of ONNX's own operators that the model is written in; 0 for a model that has none of them."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)


def _drop_constant_inputs(model: Any) -> None:
    """Constants that are inputs too have default values, which is how old files list all their constants."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    if len(kept) != len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(kept)


def _opaque(model: Any) -> str | None:
    if model.functions:
        return f"it has a function of its own, {model.functions[0].name}"
    if model.graph.sparse_initializer:
        return "it has sparse constants"
    for value in (*model.graph.input, *model.graph.output):
        if value.type.WhichOneof("value") not in ("tensor_type", None):
            return f"{value.name} is not a tensor"
    for node in model.graph.node:
        if node.domain not in KNOWN_DOMAINS:
            return f"its operator {node.op_type} is not ONNX's ({node.domain})"
        if any(attribute.g.node or attribute.graphs for attribute in node.attribute):
            return f"its operator {node.op_type} is control flow"
        if node.op_type.startswith(("Sequence", "Optional", "SplitToSequence", "ConcatFromSequence")):
            return f"its operator {node.op_type} works on sequences"
    return None


def _converted(model: Any, name: str, at_least: int = RUNNABLE_OPSET) -> Any:
    """The model in an opset of `at_least` to MAX_OPSET (rule 4)."""
    found = opset(model)
    wanted = min(max(found, at_least), MAX_OPSET)
    if found in (0, wanted):
        return model
    with refusal_is_model_error(f"{name} has opset {found} and can't be brought to {wanted}"):
        return library("onnx.version_converter").convert_version(model, wanted)


def _needs_tidying(model: Any) -> bool:
    constants = {tensor.name for tensor in model.graph.initializer}
    return any(
        node.op_type in TIDIED or (node.op_type in FOLDED and constants.issuperset(node.input))
        for node in model.graph.node
    )


def _tidied(model: Any, name: str) -> Any:
    """Rule 5. Quantized constants stay as they are, with the operator that unpacks them."""
    ir, passes = library("onnx_ir"), library("onnx_ir.passes.common")
    optimizer = library("onnxscript.optimizer")

    def should_fold(node: Any) -> bool | None:
        return None if node.op_type in FOLDED else False

    with refusal_is_model_error(f"the constants of {name} can't be computed"):
        graph = ir.serde.deserialize_model(model)
        optimizer.fold_constants(
            graph,
            onnx_shape_inference=True,
            input_size_limit=FOLDED_ELEMENTS,
            output_size_limit=FOLDED_ELEMENTS**2,
            should_fold=should_fold,
        )
        for tidy in (
            passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
            passes.IdentityEliminationPass(),
            passes.RemoveUnusedNodesPass(),
            passes.TopologicalSortPass(),
        ):
            tidy(graph)
        return ir.serde.serialize_model(graph)
