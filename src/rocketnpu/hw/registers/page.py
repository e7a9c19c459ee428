"""The register table as a page of docs/hardware."""

from __future__ import annotations

from rocketnpu.hw.registers import BLOCKS, IOMMU, Field, Register

_HEADING = ("| register | field | bits | access | reset | note |", "|---|---|---|---|---|---|")


def register_page() -> str:
    """docs/hardware/register-list.md: every register and field, Markdown."""
    lines = [
        "# All registers and fields",
        "",
        "Made by `python -m rocketnpu.hw.registers` from `src/rocketnpu/hw/registers/registers.csv`: change a register",
        "fact there. [registers.md](registers.md) explains the registers that matter.",
        "",
        "Offsets are in the core's 64 KiB window; those of the IOMMU are in its bank. An empty reset value is",
        "not known.",
        "Fields marked *unknown* have a name, but no published working use: software writes 0.",
        "",
    ]
    for block in (*BLOCKS, IOMMU):
        lines += [f"## {block.name}", "", *_HEADING]
        lines += [_row(register, field) for register in block for field in register.fields]
        lines.append("")
    return "\n".join(lines)


def _row(register: Register, field: Field) -> str:
    bits = f"{field.msb}:{field.lsb}" if field.width > 1 else f"{field.lsb}"
    reset = "" if field.reset is None else f"{field.reset:#x}"
    marks = [mark for mark, applies in (("signed", field.signed), ("*unknown*", field.unknown)) if applies]
    note = "; ".join([*marks, *([field.note] if field.note else [])]).replace("|", "\\|")
    return f"| {register.offset:#06x} {register.name} | {field.name} | {bits} | {field.access} | {reset} | {note} |"
