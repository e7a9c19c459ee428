"""From a file, or a file's bytes, to a Program: compiled here, saved earlier, or made by the vendor's compiler."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rocketnpu.compiler import Options, compile_graph
from rocketnpu.errors import ModelError
from rocketnpu.frontends import SUPPORTED, is_model, load_model
from rocketnpu.frontends.files import ModelFile, open_model
from rocketnpu.frontends.opening import AS_IT_IS, Opening, make_opening
from rocketnpu.program.check import check_program
from rocketnpu.program.container import decode_program, is_container
from rocketnpu.program.model import ANY, Program, Target
from rocketnpu.rknn import load_rknn
from rocketnpu.rknn.container import MAGIC as RKNN_MAGIC

_COMPILED = "a compiled program is a .rnpu or .rknn file; compile a model with rocketnpu.compile"


def compile_model(
    model: str | Path | bytes,
    *,
    cores: int = 1,
    keep: str | Collection[str] = (),
    target: Target = ANY,
    optimize: int = 1,
    experimental: bool = False,
    outputs: str | Collection[str] = (),
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    dims: Mapping[str, int] | None = None,
) -> Program:
    """Compile a .tflite or .onnx file (a path, or the file's bytes).

    An ONNX model that is given by its path may keep constants in a file beside it, as PyTorch's exporter does.

    cores: the program has task lists for 1 .. cores cores. With target "rocket" an inference runs on one.
    keep: names of tensors that fusion must leave in place; "all" is every one.
    target: the driver that will run the program, "rocket" or "rknpu"; "any" runs through either. Only programs for
    "rknpu" use the pooling unit, whose end rocket does not see.
    optimize: how far the search for cheap tilings goes: 0 takes the first legal one, 2 looks farther than 1.
    experimental: take operators whose only evidence is documentation (docs/evidence.md).
    outputs: names of the tensors that the model ends at. What only its own outputs need is left out.
    input_shapes: {input: shape} for inputs of free sizes. A batch that nobody gives is 1.
    dims: {symbol: size} for the free sizes that an ONNX model names, in all inputs at once.

    Raises ModelError for a bad file or arguments that don't fit it, CompileError for what the compiler cannot do.
    """
    options = Options(cores, keep, target, optimize, experimental)
    return compile_file(open_model(model), options, make_opening(input_shapes, dims, outputs))


def compile_file(file: ModelFile, options: Options, opening: Opening = AS_IT_IS) -> Program:
    """What `compile_model` does, for a file that is read and arguments that are checked."""
    if is_compiled(file.data):
        raise ModelError(
            f"{file.name} is compiled already: rocketnpu.load or a Session take it; "
            "`rocketnpu verify` compares it with recorded tensors, --reference FILE.npz"
        )
    return compile_graph(load_model(file, options.names, opening), file.name, options)


def load(source: str | Path | bytes | ModelFile, *, outputs: str | Collection[str] = ()) -> Program:
    """A compiled program: a .rnpu file, or a vendor .rknn file.

    outputs: names of the tensors that a .rknn file's program ends at. What only its own outputs need is left out.

    Raises ModelError for anything else.
    """
    file = open_model(source)
    data, name = file.data, file.name
    ends = make_opening(outputs=outputs).outputs
    if is_container(data):
        check_not_opened(Opening(outputs=ends), name)
        return decode_program(data, name)
    if data.startswith(RKNN_MAGIC):
        try:
            program = load_rknn(data, name, ends)
        except ModelError as error:
            raise ModelError(f"{name}: {error}") from None
        check_program(program, name)
        return program
    if not data:
        raise ModelError(f"{name} is empty; {_COMPILED}")
    raise ModelError(f"{name} is not a compiled program; {_COMPILED}")


def load_program(
    source: str | Path | bytes | ModelFile, options: Options | None = None, opening: Opening = AS_IT_IS
) -> Program:
    """A program from any supported file. A model is compiled with `options`.

    Raises what `compile_model` raises, and ModelError for an `opening` of a program that is compiled already.
    """
    file = open_model(source)
    if is_compiled(file.data):
        check_not_opened(replace(opening, outputs=()), file.name)
        return load(file, outputs=opening.outputs)
    if not is_model(file):
        problem = "is not a supported file" if file.data else "is empty"
        raise ModelError(f"{file.name} {problem}; supported: {SUPPORTED}, compiled programs (.rnpu, .rknn)")
    return compile_file(file, options or Options(), opening)


def check_not_opened(opening: Opening, name: str) -> None:
    """Raise ModelError if there is an `opening` for a program that is compiled already."""
    given = opening.given
    if given:
        raise ModelError(f"{given[0]} is for a model; {name} is compiled already")


def is_compiled(data: bytes) -> bool:
    """Whether a file's bytes are those of a compiled program, .rnpu or .rknn."""
    return is_container(data) or data.startswith(RKNN_MAGIC)
