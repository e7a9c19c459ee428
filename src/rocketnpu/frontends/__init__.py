"""Model files to graphs: one function for every supported format."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from rocketnpu.errors import ModelError
from rocketnpu.frontends.flatbuffer import IDENTIFIER
from rocketnpu.frontends.onnx import PROTOBUF_START, load_onnx
from rocketnpu.frontends.tflite import load_tflite
from rocketnpu.ir import Graph

__all__ = ["load_model", "load_onnx", "load_tflite"]

SUPPORTED = "TFLite (.tflite), ONNX (.onnx)"


def load_model(source: str | Path | bytes, keep: Collection[str] = ()) -> Graph:
    """The graph of a model file, or of a model file's bytes. The content decides the format, not the extension.

    `keep` names tensors that must exist when the model runs (see `load_onnx`; those of a TFLite file all do).
    Raises ModelError for a path that can't be read, and for content that is not a supported model.
    """
    if isinstance(source, bytes):
        data, name = source, "the model"
    else:
        data, name = _read(Path(source)), str(source)
    if not data:
        raise ModelError(f"{name} is empty; supported models: {SUPPORTED}")
    if data[4:8] == IDENTIFIER or name.endswith(".tflite"):
        return load_tflite(data, name)
    if data.startswith(PROTOBUF_START) or name.endswith(".onnx"):
        return load_onnx(data, name, keep)
    raise ModelError(f"{name} is not a supported model; supported: {SUPPORTED}")


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ModelError(f"{path} is a directory, not a model file")
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ModelError(f"can't read {path}: {reason}") from error
