"""LiteRT's interpreter behind one small function: built, allocated, and its complaints turned into one line."""

from __future__ import annotations

import importlib
import os
import tempfile
import threading
import warnings
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import DeviceError, Error, ModelError

_STDERR = 2
_STANDARD_ERROR = threading.Lock()
_interpreter: Any = importlib.import_module("ai_edge_litert.interpreter")

Kernels: TypeAlias = Literal["reference", "plain", "fast"]
"""LiteRT's plain C++ loops; its optimised kernels; or its default, which gives what it can to XNNPACK."""

NO_KERNEL = "Didn't find op for builtin opcode"
"""How LiteRT's complaint about an operator begins for which a set of kernels has none; its name follows in quotes."""

CRASH = "LiteRT crashes on the model's operators"
"""How the error begins that says that LiteRT's process died; the operators' names follow."""

_RESOLVERS: dict[Kernels, Any] = {
    "reference": _interpreter.OpResolverType.BUILTIN_REF,
    "plain": _interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "fast": _interpreter.OpResolverType.AUTO,
}


def build_interpreter(
    model: bytes, kernels: Kernels, keep_tensors: bool = False, threads: int = 1, allocate: bool = True
) -> Any:
    """An interpreter; with `keep_tensors` every intermediate tensor can be read after a run.

    It is allocated unless `allocate` is False, for inputs of sizes that are not known before the run. Raises ModelError
    with LiteRT's reason when it refuses the model.
    """
    with litert_errors(ModelError, "LiteRT refuses the model"), without_chatter(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LiteRT warns of the memory that `keep_tensors` takes
        interpreter = _interpreter.Interpreter(
            model_content=model,
            experimental_op_resolver_type=_RESOLVERS[kernels],
            experimental_preserve_all_tensors=keep_tensors,
            num_threads=threads,
        )
        if allocate:
            interpreter.allocate_tensors()
    return interpreter


@contextmanager
def without_chatter() -> Generator[None]:
    """Keep LiteRT's INFO lines off standard error, where it writes them past Python and knows no switch against it.

    What else is written there meanwhile, by whichever thread, follows afterwards.
    """
    with _STANDARD_ERROR, tempfile.TemporaryFile() as written:
        try:
            kept = os.dup(_STDERR)
        except OSError:  # closed: nothing can be written there
            yield
            return
        os.dup2(written.fileno(), _STDERR)
        try:
            yield
        finally:
            os.dup2(kept, _STDERR)
            os.close(kept)
            written.seek(0)
            for line in written:
                if not line.startswith(b"INFO:"):
                    os.write(_STDERR, line)


def run_interpreter(interpreter: Any, inputs: Sequence[Any]) -> None:
    """One run on checked inputs in the model's order; raises DeviceError with LiteRT's reason when it fails."""
    with litert_errors(DeviceError, "LiteRT fails to run the model"):
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()


def resize_inputs(interpreter: Any, inputs: Sequence[Any]) -> None:
    """Give the model's inputs the shapes of these arrays, and allocate; raises DeviceError when LiteRT refuses them."""
    with litert_errors(DeviceError, "LiteRT fails to run the model"), without_chatter():
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.resize_tensor_input(detail["index"], value.shape)
        interpreter.allocate_tensors()


def read_tensor(interpreter: Any, index: int) -> NDArray[Any]:
    """A copy of a tensor after a run. LiteRT refuses to read some that turned out empty."""
    try:
        return interpreter.get_tensor(index)
    except ValueError:
        found = next(detail for detail in interpreter.get_tensor_details() if detail["index"] == index)
        if 0 not in found["shape"]:
            raise
        return np.zeros(tuple(int(size) for size in found["shape"]), found["dtype"])


@contextmanager
def litert_errors(kind: type[Error], what: str) -> Generator[None]:
    """LiteRT's ValueError and RuntimeError as `kind`, its lines joined into one."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        raise kind(f"{what}: {' '.join(str(error).split())}") from error
