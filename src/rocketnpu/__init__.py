"""rocketnpu: an open toolchain for the NPU of the Rockchip RK3588."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rocketnpu.compat.interpreter import Interpreter
    from rocketnpu.emulator import Emulator
    from rocketnpu.errors import CompileError, DeviceError, DeviceTimeout, DeviceWarning, Error, ModelError
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
    "DeviceWarning",
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

_HOMES = {
    "CompileError": ("rocketnpu.errors", "CompileError"),
    "Device": ("rocketnpu.runtime.device", "Device"),
    "DeviceError": ("rocketnpu.errors", "DeviceError"),
    "DeviceTimeout": ("rocketnpu.errors", "DeviceTimeout"),
    "DeviceWarning": ("rocketnpu.errors", "DeviceWarning"),
    "Emulator": ("rocketnpu.emulator", "Emulator"),
    "Error": ("rocketnpu.errors", "Error"),
    "Interpreter": ("rocketnpu.compat.interpreter", "Interpreter"),
    "ModelError": ("rocketnpu.errors", "ModelError"),
    "Program": ("rocketnpu.program.model", "Program"),
    "Session": ("rocketnpu.runtime.session", "Session"),
    "assemble": ("rocketnpu.hw.assembly", "assemble"),
    "compile": ("rocketnpu.runtime.load", "compile_model"),
    "devices": ("rocketnpu.runtime.devices", "devices"),
    "disassemble": ("rocketnpu.hw.assembly", "disassemble"),
    "load": ("rocketnpu.runtime.load", "load"),
    "quantize": ("rocketnpu.quantizer", "quantize"),
}
"""Where each public name comes from: module and name there. It is imported when it is first used, so that the command
line starts at once."""


def __getattr__(name: str) -> object:
    """A public name, or `__version__`, looked up when it is asked for: a copy that is not installed has none."""
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module, origin = _HOMES[name]
    value: object = getattr(import_module(module), origin)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
