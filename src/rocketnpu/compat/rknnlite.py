"""Drop-in for `rknnlite.api.RKNNLite` (rknn-toolkit-lite2): models through the vendor's Python interface.

Change one line of an application, and it runs without the vendor's runtime:

    from rocketnpu.compat.rknnlite import RKNNLite

Names, arguments, return codes and the order of results are those of the RKNN SDK user guide (RKNN-Toolkit Lite2 API)
and of the vendor's public examples. As there, methods don't raise: what goes wrong is one line on stderr, and the
method returns -1 or None.
"""

from __future__ import annotations

import sys
import threading
from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.compat.rknnlite_inputs import Port, prepare_inputs
from rocketnpu.compiler import Options
from rocketnpu.errors import DeviceError, Error, counted
from rocketnpu.frontends.files import open_model, read_file
from rocketnpu.hw.limits import CORES
from rocketnpu.program.model import NpuStep, Program
from rocketnpu.rknn.container import MAGIC, PLATFORM, parse_container
from rocketnpu.rknn.normalization import Normalization, input_normalizations
from rocketnpu.runtime.load import load_program
from rocketnpu.runtime.session import Session, TensorInfo

SUCCESS, FAILURE = 0, -1
RULE = "=" * 46


class RKNNLite:
    """One model on the NPU, or on the emulator where there is none."""

    NPU_CORE_AUTO = 0
    NPU_CORE_0 = 1
    NPU_CORE_1 = 2
    NPU_CORE_2 = 4
    NPU_CORE_0_1 = 3
    NPU_CORE_0_1_2 = 7
    NPU_CORE_ALL = 0xFFFF

    _CORES = MappingProxyType(
        {
            NPU_CORE_AUTO: 1,
            NPU_CORE_0: 1,
            NPU_CORE_1: 1,
            NPU_CORE_2: 1,
            NPU_CORE_0_1: 2,
            NPU_CORE_0_1_2: 3,
            NPU_CORE_ALL: CORES,
        }
    )
    """How many cores a mask asks for. Which ones is the driver's choice: drivers schedule, applications don't."""

    def __init__(self, verbose: bool = False, verbose_file: str | None = None):
        """With `verbose`, what happens is told on stderr, and also appended to `verbose_file` if one is given."""
        self._verbose = verbose
        self._verbose_file = verbose_file if verbose else None
        self._program: Program | None = None
        self._normalizations: dict[str, Normalization] = {}
        self._session: Session | None = None
        self._ports: tuple[Port, ...] = ()
        self._lock = threading.Lock()

    def load_rknn(self, path: str | Path) -> int:
        """Read and check a model. Returns 0, or -1.

        It is a .rknn file that the vendor's compiler made for the RK3588, a compiled .rnpu program, or a .tflite or
        .onnx model, which is compiled for all three cores.
        """
        try:
            file = open_model(path)
            self._program = load_program(file, Options(cores=CORES))
            is_vendors = file.data.startswith(MAGIC)
            self._normalizations = dict(input_normalizations(parse_container(file.data))) if is_vendors else {}
        except Error as error:
            self._program = None
            return self._failed(f"the model can't be loaded: {error}")
        self._tell(f"loaded {path}: {len(self._program.tasks)} tasks in {len(self._program.steps)} steps")
        return SUCCESS

    def init_runtime(
        self,
        target: str | None = None,
        device_id: str | None = None,  # noqa: ARG002 - chooses among boards behind adb; this runs on the board
        async_mode: bool = False,
        core_mask: int = NPU_CORE_AUTO,
    ) -> int:
        """Put the loaded model on the device, to run on as many cores as `core_mask` has. Returns 0, or -1.

        A model that was converted for fewer cores runs on those that it has tasks for.

        `target` is None or "rk3588"; `device_id` has no meaning on the board itself. `async_mode`, in which the
        vendor's runtime returns the results of an earlier call, is not supported.
        """
        if self._program is None:
            return self._failed("no model is loaded; call load_rknn first")
        if target is not None and str(target).lower() != PLATFORM:
            return self._failed(f"target {target!r} is not supported; only {PLATFORM} is")
        if async_mode:
            return self._failed("async_mode is not supported; call inference from a thread of your own instead")
        if core_mask not in tuple(self._CORES):
            return self._failed(f"core_mask {core_mask!r} is not one of the NPU_CORE_* constants")
        self._close()
        cores = _most_cores(self._program, self._CORES[core_mask])
        try:
            session = Session(self._program, cores=cores)
        except Error as error:
            return self._failed(f"can't start the runtime: {error}")
        layouts = {tensor.name: tensor.layout for tensor in self._program.tensors}
        self._ports = tuple(
            Port(tensor, self._normalizations.get(tensor.name), layouts[tensor.name] == "NCHW")
            for tensor in session.inputs
        )
        self._session = session
        self._tell(f"runs on {session.device.name}, {counted(cores, 'core')}")
        return SUCCESS

    def inference(
        self,
        inputs: list[NDArray[Any]],
        data_type: str | list[str] | None = None,
        data_format: str | list[str] | None = None,
        inputs_pass_through: list[int] | None = None,
        get_frame_id: bool = False,
    ) -> list[NDArray[np.float32]] | None:
        """Run the model once; returns its outputs as float32 arrays in the model's own (NCHW) order, or None.

        `inputs` is one array for each input, in real numbers: an image as bytes, or anything else before the
        normalisation that the model was converted with. `data_format` is "nhwc" (default) or "nchw" for inputs of four
        dimensions, `data_type` a dtype to convert to first. Inputs whose `inputs_pass_through` is 1 are int8 values of
        the model already. `get_frame_id` belongs to async_mode. Calls from several threads take turns.
        """
        if self._session is None:
            self._failed("the runtime is not started; call init_runtime first")
            return None
        if get_frame_id:
            self._failed("get_frame_id is not supported: there is no async_mode")
            return None
        try:
            values = prepare_inputs(self._ports, inputs, data_type, data_format, inputs_pass_through)
            with self._lock:
                results = self._session.run(values)
        except Error as error:
            self._failed(f"inference failed: {error}")
            return None
        return [_real(results[tensor.name], tensor) for tensor in self._session.outputs]

    def get_sdk_version(self) -> str | None:
        """What runs the model, laid out as the vendor's version report; None before init_runtime."""
        if self._session is None:
            self._failed("the runtime is not started; call init_runtime first")
            return None
        lines = ("RKNN VERSION:", f"  API: rocketnpu {version('rocketnpu')}", f"  DRV: {self._session.device.name}")
        return "\n".join((RULE, *lines, RULE))

    def list_support_target_platform(self, rknn_model: str | Path | None = None) -> OrderedDict[str, list[str]] | None:
        """Print and return the chips that a model can run on; without a model, print what is supported: the RK3588."""
        if rknn_model is None:
            print(f"Supported target platforms: {PLATFORM.upper()}")
            return None
        try:
            parse_container(read_file(rknn_model))
        except Error as error:
            self._failed(f"the model can't be loaded: {error}")
            return None
        filled, supported = [PLATFORM], [PLATFORM.upper()]
        print(f"Target platforms filled in RKNN model:         {filled}")
        print(f"Target platforms supported by this RKNN model: {supported}")
        return OrderedDict([("filled_target_platform", filled), ("support_target_platform", supported)])

    def release(self) -> None:
        """Give the device back and forget the model; releasing twice is harmless."""
        self._close()
        self._program = None

    def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            with self._lock:
                session.close()

    def _failed(self, text: str) -> int:
        self._log("E", text)
        return FAILURE

    def _tell(self, text: str) -> None:
        if self._verbose:
            self._log("I", text)

    def _log(self, level: str, text: str) -> None:
        line = f"{level} RKNNLite: {text}"
        print(line, file=sys.stderr)
        if self._verbose_file is not None:
            try:
                with Path(self._verbose_file).open("a", encoding="utf-8") as file:
                    print(line, file=file)
            except OSError as error:
                print(f"E RKNNLite: can't write {self._verbose_file}: {error.strerror}", file=sys.stderr)
                self._verbose_file = None


def _most_cores(program: Program, wanted: int) -> int:
    """The largest number of cores, `wanted` at most, that every step has tasks for."""
    steps = [step for step in program.steps if isinstance(step, NpuStep)]
    return max((cores for cores in range(1, wanted + 1) if all(cores in step.tasks for step in steps)), default=1)


def _real(values: NDArray[Any], tensor: TensorInfo) -> NDArray[np.float32]:
    """Real numbers of an output, in float32."""
    grid = tensor.quantization
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if grid is None:
        raise DeviceError(f"output {tensor.name} has no scale: its real numbers are not known")
    return (values.astype(np.float32) - np.float32(grid.zero_points[0])) * np.float32(grid.scales[0])
