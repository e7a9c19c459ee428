"""rocketnpu: an open toolchain for the NPU of the Rockchip RK3588."""

from rocketnpu.compat.interpreter import Interpreter
from rocketnpu.emulator import Emulator
from rocketnpu.errors import CompileError, DeviceError, DeviceTimeout, Error, ModelError
from rocketnpu.hw.assembly import assemble, disassemble
from rocketnpu.program.model import Program
from rocketnpu.quantizer import quantize
from rocketnpu.runtime.device import Device
from rocketnpu.runtime.devices import devices
from rocketnpu.runtime.load import compile_model as compile
from rocketnpu.runtime.load import load
from rocketnpu.runtime.session import Session

__all__ = [
    "CompileError",
    "Device",
    "DeviceError",
    "DeviceTimeout",
    "Emulator",
    "Error",
    "Interpreter",
    "ModelError",
    "Program",
    "Session",
    "assemble",
    "compile",
    "devices",
    "disassemble",
    "load",
    "quantize",
]


def __getattr__(name: str) -> str:
    """`__version__`, looked up when it is asked for: a copy that is not installed has none."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import version

    return version(__name__)
