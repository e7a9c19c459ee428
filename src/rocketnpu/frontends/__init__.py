"""Model files to graphs: one function for every supported format."""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike

from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import ModelFile, open_model
from rocketnpu.frontends.kernels import require_kernels
from rocketnpu.frontends.onnx.reader import PROTOBUF_START, load_onnx
from rocketnpu.frontends.opening import AS_IT_IS, Opening
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER
from rocketnpu.frontends.tflite.opening import open_tflite
from rocketnpu.frontends.tflite.reader import load_tflite
from rocketnpu.ir import Graph

__all__ = ["is_model", "load_model", "load_onnx", "load_tflite"]

SUPPORTED = "TFLite (.tflite), ONNX (.onnx)"


def is_model(file: ModelFile) -> bool:
    """Whether `load_model` would try to read a file of this content and name."""
    return bool(file.data) and (_is_tflite(file) or _is_onnx(file))


def load_model(
    source: str | PathLike[str] | bytes | ModelFile, keep: Collection[str] = (), opening: Opening = AS_IT_IS
) -> Graph:
    """The graph of a model file, or of a model file's bytes. The content decides the format, not the extension.

    An ONNX model that is given by its path may keep constants in a file beside it (onnx/external.py).
    `keep` names tensors that must exist when the model runs (see `load_onnx`; those of a TFLite file all do).
    `opening` says what the file leaves free, and where the model ends.
    Raises ModelError for a path that can't be read, and for content that is not a supported model.
    """
    file = open_model(source)
    if not file.data:
        raise ModelError(f"{file.where} is empty; supported models: {SUPPORTED}")
    if _is_tflite(file):
        return require_kernels(open_tflite(file.data, file.where, opening), file.where)
    if _is_onnx(file):
        return load_onnx(file, keep, opening)
    raise ModelError(f"{file.where} is not a supported model; supported: {SUPPORTED}")


def _is_tflite(file: ModelFile) -> bool:
    return file.data[4:8] == IDENTIFIER or file.name.endswith(".tflite")


def _is_onnx(file: ModelFile) -> bool:
    return file.data.startswith(PROTOBUF_START) or file.name.endswith(".onnx")
