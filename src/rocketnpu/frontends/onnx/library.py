"""The libraries that ONNX models need, imported when the first one does: they are an extra of the package.

They are untyped, or typed too loosely to help, hence Any here and in the modules that use them.
"""

from __future__ import annotations

import importlib
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from rocketnpu.errors import Error, ModelError


def library(module: str) -> Any:
    """A module of onnx, onnxscript or onnxruntime; raises Error with what to install when it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        hint = "install it with: pip install 'rocketnpu[onnx]'"
        raise Error(f"ONNX models need the package {package}; {hint}") from error


@contextmanager
def refusal_is_model_error(what: str) -> Generator[None]:
    """Whatever a library raises on a bad model as a ModelError of one line that starts with `what`.

    Their C++ and Python parts raise many kinds of exceptions on hostile files, some derived from Exception directly.
    What onnx.checker prints of the surroundings is left out.
    """
    try:
        yield
    except Error:
        raise
    except Exception as error:
        words = f"it looks for {error} in vain" if isinstance(error, KeyError) else str(error)
        reason = " ".join(words.split()).partition(" ==> Context")[0]
        raise ModelError(f"{what}: {reason or type(error).__name__}") from error
