"""ONNX Runtime behind two small functions: a session built, and its complaints turned into one line."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from numpy.typing import NDArray

from rocketnpu.errors import DeviceError, Error, ModelError
from rocketnpu.frontends.onnx.library import library

FATAL_ONLY = 4
"""Severity from which ONNX Runtime writes to stderr; errors arrive as exceptions."""


def build_session(model: bytes, *, optimize: bool, threads: int = 1, keeps_memory: bool = True) -> Any:
    """An onnxruntime.InferenceSession on the CPU; ModelError with ONNX Runtime's reason when it refuses the model.

    Without `optimize` every node runs by itself. Quantized models need that: optimized, they run on integer kernels
    that saturate sums of products at 16 bits on processors without VNNI. With `keeps_memory` the session
    holds what a run has needed for the next one.
    """
    runtime = library("onnxruntime")
    options = runtime.SessionOptions()
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    options.log_severity_level = FATAL_ONLY
    options.enable_cpu_mem_arena = keeps_memory
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    with _errors(ModelError, "ONNX Runtime refuses the model"):
        return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, names: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The named outputs of one run; DeviceError with ONNX Runtime's reason when it fails."""
    with _errors(DeviceError, "ONNX Runtime fails to run the model"):
        return session.run(list(names), dict(inputs))


@contextmanager
def _errors(kind: type[Error], what: str) -> Generator[None]:
    """ONNX Runtime's exceptions, which derive from Exception directly, as `kind`, its lines joined into one."""
    try:
        yield
    except Exception as error:
        raise kind(f"{what}: {' '.join(str(error).split())}") from error
