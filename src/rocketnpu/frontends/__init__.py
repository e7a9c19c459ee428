"""Model files to graphs: one function for every supported format."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rocketnpu.errors import ModelError
from rocketnpu.frontends.files import read_file
from rocketnpu.frontends.onnx.reader import PROTOBUF_START, load_onnx
from rocketnpu.frontends.tflite.flatbuffer import IDENTIFIER
from rocketnpu.frontends.tflite.reader import load_tflite
from rocketnpu.ir import Graph

__all__ = ["is_model", "load_model", "load_onnx", "load_tflite"]

SUPPORTED = "TFLite (.tflite), ONNX (.onnx)"


def is_model(data: bytes, name: str) -> bool:
    """Whether `load_model` would try to read a file of this content and name."""
    return bool(data) and (_is_tflite(data, name) or _is_onnx(data, name))


def load_model(source: str | Path | bytes, keep: Collection[str] = ()) -> Graph:
    """The graph of a model file, or of a model file's bytes. The content decides the format, not the extension.

    `keep` names tensors that must exist when the model runs (see `load_onnx`; those of a TFLite file all do).
    Raises ModelError for a path that can't be read, and for content that is not a supported model.
    """
    if isinstance(source, bytes):
        data, name = source, "the model"
    else:
        data, name = read_file(source), str(source)
    if not data:
        raise ModelError(f"{name} is empty; supported models: {SUPPORTED}")
    if _is_tflite(data, name):
        return load_tflite(data, name)
    if _is_onnx(data, name):
        return load_onnx(data, name, keep)
    raise ModelError(f"{name} is not a supported model; supported: {SUPPORTED}")


def _is_tflite(data: bytes, name: str) -> bool:
    return data[4:8] == IDENTIFIER or name.endswith(".tflite")


def _is_onnx(data: bytes, name: str) -> bool:
    return data.startswith(PROTOBUF_START) or name.endswith(".onnx")
