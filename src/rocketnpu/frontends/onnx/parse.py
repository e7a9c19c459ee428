"""From a file's bytes to an onnx.ModelProto: the way of every ONNX file, also of pieces in compiled programs.

1. All names are text.
2. Fields that the installed onnx package does not know are dropped, so that no runtime reads what nobody checked.
3. A piece keeps no data in another file (external.py has the rules for models).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.onnx.external import refuse_external
from rocketnpu.frontends.onnx.library import library, refusal_is_model_error


def parse(data: bytes, where: str) -> Any:
    """The onnx.ModelProto in a file's bytes; `where` is what errors call the file.

    Raises ModelError for bytes of another format and for names that are no text (rules 1 and 2).
    """
    model = library("onnx").ModelProto()
    with refusal_is_model_error(f"{where} is not an ONNX model"):
        model.ParseFromString(data)
    model.DiscardUnknownFields()
    for field, text in _texts(model):
        if not isinstance(text, str):
            raise ModelError(f"{where} has a {field} that is not UTF-8 text: {text!r}")
    return model


def parse_piece(data: bytes, where: str) -> Any:
    """The same for a model that is one whole. Raises ModelError also for data in another file (rule 3)."""
    model = parse(data, where)
    refuse_external(model, where)
    return model


def _texts(message: Any) -> Iterator[tuple[str, Any]]:
    """The name and value of every string field in a message and in the messages inside it."""
    for field, value in message.ListFields():
        values = value if field.is_repeated else (value,)
        if field.type == field.TYPE_MESSAGE:
            for inner in values:
                yield from _texts(inner)
        elif field.type == field.TYPE_STRING:
            for text in values:
                yield field.name, text
