"""Reading `registers.csv`: the one table of all registers and fields.

One row is one field. Columns: block, register, offset in the core's window, field, highest and lowest bit, access,
reset value (empty where no source states it), kind (`reserved`, `unknown`, `signed` or empty), note.
"""

from __future__ import annotations

import csv
from importlib.resources import files
from itertools import groupby
from typing import cast

from rocketnpu.hw.registers._model import Access, Block, Field, Register

_TARGETS = {
    "PC": 0x0101,
    "CNA": 0x0201,
    "CORE": 0x0801,
    "DPU": 0x1001,
    "DPU_RDMA": 0x2001,
    "PPU": 0x4001,
    "PPU_RDMA": 0x8001,
}
"""The target by which a command stream reaches each block (hardware/regcmd.md, Entry encoding)."""
_BROADCAST = ("PC.TARGET_BROADCAST", 0x0081)
"""The one register with a target of its own (hardware/regcmd.md, Entry encoding)."""
_ENABLE_BITS = {"CNA": 0, "CORE": 2, "DPU": 3, "DPU_RDMA": 4, "PPU": 5, "PPU_RDMA": 6}
"""Each block's bit in the enable entry and in GLOBAL.OPERATION_ENABLE (hardware/registers.md, Windows)."""
_BASE_MASK = 0xF000


def read_blocks() -> dict[str, Block]:
    """All blocks of the table by name, in the order of the file; read from the package's own data."""
    text = files("rocketnpu.hw.registers").joinpath("registers.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return {
        name: _block(name, list(block_rows)) for name, block_rows in groupby(rows, key=lambda row: str(row["block"]))
    }


def _block(name: str, rows: list[dict[str, str]]) -> Block:
    registers = tuple(
        _register(name, register, int(offset, 16), list(fields))
        for (register, offset), fields in groupby(rows, key=lambda row: (row["register"], row["offset"]))
    )
    base = registers[0].offset & _BASE_MASK
    return Block(name, base, _TARGETS.get(name), _ENABLE_BITS.get(name), registers)


def _register(block: str, name: str, offset: int, rows: list[dict[str, str]]) -> Register:
    full_name, broadcast = _BROADCAST
    target = broadcast if f"{block}.{name}" == full_name else _TARGETS.get(block)
    return Register(name, offset, tuple(_field(row) for row in rows), block, target)


def _field(row: dict[str, str]) -> Field:
    return Field(
        name=row["field"],
        msb=int(row["msb"]),
        lsb=int(row["lsb"]),
        access=cast(Access, row["access"]),
        reset=int(row["reset"], 16) if row["reset"] else None,
        note=row["note"],
        signed=row["kind"] == "signed",
        unknown=row["kind"] == "unknown",
    )
