"""One line for each task: what it computes, from its registers, and between which tensors."""

from __future__ import annotations

from rocketnpu.errors import ModelError
from rocketnpu.hw.codes import ARGB_BASE, DEPTHWISE
from rocketnpu.hw.registers import CNA, CORE, DESTINATIONS, DPU, DPU_RDMA, PPU, Register
from rocketnpu.hw.rules import RegisterTask
from rocketnpu.inspect.extents import Access, accesses, element_is_read
from rocketnpu.inspect.names import Names
from rocketnpu.inspect.view import Place, TaskView

POOL_METHODS = {0: "average", 1: "max", 2: "min"}
"""POOLING_METHOD (hardware/ppu.md)."""
ALGORITHMS = {
    0: "maximum",
    1: "minimum",
    2: "add",
    3: "divide",
    4: "subtract",
    5: "abs",
    6: "negate",
    7: "floor",
    8: "ceil",
}
"""EW_ALU_ALGO (hardware/register-list.md)."""
PRECISIONS = {0: "int8", 1: "int16", 2: "fp16", 3: "bf16", 6: "int4", 7: "tf32"}
"""By the codes of CNA and CORE."""


def operation(task: RegisterTask) -> str:
    """What the task computes and on what shapes (height x width x channels), without places.

    Registers that are not known are left out.
    """
    if task.enables(CNA) and task.enables(CORE):
        return _convolution(task)
    if task.enables(PPU):
        return _pool(task)
    if task.enables(DPU):
        return _post_processing(task)
    return f"nothing known (enable mask {task.enable_mask:#x})"


def tensors(view: TaskView, names: Names) -> str:
    """Where the task reads features and where it writes: `a, b -> c`; `?` where the registers don't tell."""
    try:
        found = accesses(view.registers)
    except ModelError:
        return "? -> ?"
    return f"{_places(view, names, found, writes=False)} -> {_places(view, names, found, writes=True)}"


def summary(view: TaskView, names: Names) -> str:
    """The task in one line."""
    return f"{operation(view.registers)}: {tensors(view, names)}"


def name_of(view: TaskView, names: Names, register: Register | None, place: Place) -> str:
    """A place that `register` of the task holds, in words: the tensors of the task's step are preferred."""
    made, read = (view.step.outputs, view.step.inputs) if view.step is not None else ((), ())
    return names.describe(place, (*made, *read) if register in DESTINATIONS else (*read, *made))


def _places(view: TaskView, names: Names, found: tuple[Access, ...], *, writes: bool) -> str:
    # A residual operand has two readers, for its even and its odd planes; the first says where it is.
    registers = {access.role: access.register for access in reversed(found)}
    registers = [registers[role] for role in (("output",) if writes else ("features", "element")) if role in registers]
    return ", ".join(_where(view, names, register) for register in registers) or "nothing"


def _where(view: TaskView, names: Names, register: Register) -> str:
    place = view.addresses.get(register)
    return f"{view.registers.word(register):#x}" if place is None else name_of(view, names, register, place)


def _field(task: RegisterTask, register: Register, name: str) -> int | None:
    return task.get(register, name) if task.knows(register) else None


def _shape(*sizes: int | None) -> str:
    return "x".join("?" if size is None else str(size) for size in sizes)


def _plus_one(value: int | None) -> int | None:
    return None if value is None else value + 1


def _flag(task: RegisterTask, register: Register, name: str) -> bool:
    return bool(_field(task, register, name))


def _convolution(task: RegisterTask) -> str:
    depthwise = _field(task, CNA.CONV_CON1, "CONV_MODE") == DEPTHWISE
    kind = "depthwise" if depthwise else "transposed conv" if _flag(task, CNA.CONV_CON1, "DECONV") else "conv"
    kernel = _shape(_field(task, CNA.WEIGHT_SIZE2, "WEIGHT_HEIGHT"), _field(task, CNA.WEIGHT_SIZE2, "WEIGHT_WIDTH"))
    argb = _field(task, CNA.CONV_CON1, "ARGB_IN")
    channels = argb - ARGB_BASE if argb else _field(task, CNA.DATA_SIZE1, "DATAIN_CHANNEL")
    source = _shape(
        _field(task, CNA.DATA_SIZE0, "DATAIN_HEIGHT"), _field(task, CNA.DATA_SIZE0, "DATAIN_WIDTH"), channels
    )
    precision = _field(task, CNA.CONV_CON1, "PROC_PRECISION") or 0
    banks = _shape(_field(task, CNA.CBUF_CON0, "DATA_BANK"), _field(task, CNA.CBUF_CON0, "WEIGHT_BANK"))
    parts = [
        f"{kind} {kernel} {PRECISIONS.get(precision, f'precision {precision}')}",
        f"{'dense ' if argb else ''}{source} -> {_output_shape(task)}",
        *_window(task),
        *_after(task),
        f"banks {banks.replace('x', '+')}",
    ]
    parts += [
        text
        for name, text in (("WEIGHT_REUSE", "keeps weights"), ("DATA_REUSE", "keeps data"))
        if _flag(task, CNA.CBUF_CON0, name)
    ]
    return ", ".join(parts)


def _window(task: RegisterTask) -> list[str]:
    """Strides, dilations and pads that differ from the usual."""
    found: list[str] = []
    for label, register, names, offset, usual in (
        ("stride", CNA.CONV_CON3, ("CONV_Y_STRIDE", "CONV_X_STRIDE"), 0, 1),
        ("dilation", CNA.CONV_CON3, ("ATROUS_Y_DILATION", "ATROUS_X_DILATION"), 1, 1),
        ("zero insertion", CNA.CONV_CON3, ("DECONV_Y_STRIDE", "DECONV_X_STRIDE"), 1, 1),
        ("pad", CNA.PAD_CON0, ("PAD_TOP", "PAD_LEFT"), 0, 0),
    ):
        values = [_field(task, register, name) for name in names]
        steps = [value + offset for value in values if value is not None]
        if any(step != usual for step in steps):
            found.append(f"{label} {_shape(*steps)}")
    return found


def _after(task: RegisterTask) -> list[str]:
    """What the DPU does besides requantization."""
    found: list[str] = []
    for prefix, cfg in (("BS", DPU.BS_CFG), ("BN", DPU.BN_CFG)):
        if (
            task.knows(cfg)
            and not _flag(task, cfg, f"{prefix}_BYPASS")
            and not _flag(task, cfg, f"{prefix}_RELU_BYPASS")
        ):
            found.append("clamp" if _flag(task, cfg, f"{prefix}_RELUX_EN") else "relu")
        if task.knows(cfg) and not _flag(task, cfg, f"{prefix}_BYPASS") and _flag(task, cfg, f"{prefix}_MUL_PRELU"):
            found.append("prelu")
    element = _element_wise(task)
    return [*found, element] if element else found


def _element_wise(task: RegisterTask) -> str | None:
    cfg = DPU.EW_CFG
    if not task.knows(cfg) or _flag(task, cfg, "EW_BYPASS"):
        return None
    if not _flag(task, cfg, "EW_LUT_BYPASS"):
        return "lookup table"
    if _flag(task, cfg, "EW_OP_BYPASS"):
        return None
    code = _field(task, cfg, "EW_ALU_ALGO") or 0
    name = "multiply" if _flag(task, cfg, "EW_OP_TYPE") else ALGORITHMS.get(code, f"algorithm {code}")
    return name if task.knows(DPU_RDMA.RDMA_ERDMA_CFG) and element_is_read(task) else f"{name} scalar"


def _output_shape(task: RegisterTask) -> str:
    return _shape(
        _plus_one(_field(task, DPU.DATA_CUBE_HEIGHT, "HEIGHT")),
        _plus_one(_field(task, DPU.DATA_CUBE_WIDTH, "WIDTH")),
        _plus_one(_field(task, DPU.DATA_CUBE_CHANNEL, "ORIG_CHANNEL")),
    )


def _post_processing(task: RegisterTask) -> str:
    shape = _output_shape(task)
    if _flag(task, DPU.LUT_ACCESS_CFG, "LUT_ACCESS_TYPE"):
        return f"load lookup table, {shape}"
    if _flag(task, DPU_RDMA.RDMA_SRC_DMA_CFG, "UNPOOLING_EN"):
        return f"nearest upsampling, {shape}"
    return ", ".join([*(_after(task) or ["copy"]), shape])


def _pool(task: RegisterTask) -> str:
    method = _field(task, PPU.OPERATION_MODE_CFG, "POOLING_METHOD")
    cfg = PPU.POOLING_KERNEL_CFG
    kernel = _shape(*(_plus_one(_field(task, cfg, name)) for name in ("KERNEL_HEIGHT", "KERNEL_WIDTH")))
    stride = _shape(*(_plus_one(_field(task, cfg, f"KERNEL_STRIDE_{name}")) for name in ("HEIGHT", "WIDTH")))
    shapes = [
        _shape(
            *(
                _plus_one(_field(task, PPU[f"DATA_CUBE_{side}_{name}"], f"CUBE_{side}_{name}"))
                for name in ("HEIGHT", "WIDTH", "CHANNEL")
            )
        )
        for side in ("IN", "OUT")
    ]
    label = "?" if method is None else POOL_METHODS.get(method, f"method {method}")
    return f"{label} pool {kernel}, {shapes[0]} -> {shapes[1]}, stride {stride}"
