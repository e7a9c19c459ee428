"""Command words as text with register and field names, and back.

One command a line; `#` begins a comment:

    CNA.CONV_CON1 = 0x6000a000  { ARGB_IN=10, GROUP_LINE_OFF=1, NONALIGN_DMA=1 }
    CNA.CONV_CON1 = { ARGB_IN=10, GROUP_LINE_OFF=1, NONALIGN_DMA=1 }
    MARKER                            # the entry that precedes the enable entry
    EMPTY                             # an entry of 64 zero bits
    0x0201:0x1018 = 0x00000001        # target and offset of an entry that names no known register

The number or the braces suffice; where both are given they must agree. Fields that the braces don't name are 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from rocketnpu.errors import CompileError
from rocketnpu.hw import regcmd
from rocketnpu.hw.regcmd import Command, Words
from rocketnpu.hw.registers import BLOCKS, PC, Register, register_of

_SPECIAL = {"MARKER": regcmd.encode(Command(regcmd.MARKER_TARGET, 0, 0)), "EMPTY": regcmd.EMPTY}
_SPECIAL_NAMES = {word: name for name, word in _SPECIAL.items()}
_BLOCKS = {block.name: block for block in BLOCKS}

_NUMBER = r"0[xX][0-9a-fA-F]{1,16}|-?(?:0|[1-9][0-9]{0,19})"
_STATEMENT = re.compile(rf"(?P<left>\S+)\s*=\s*(?P<number>{_NUMBER})?\s*(?:\{{(?P<fields>[^{{}}]*)\}})?")
_NAMED = re.compile(r"([A-Z0-9_]+)\.([A-Z0-9_]+)")
_RAW = re.compile(rf"({_NUMBER}):({_NUMBER})")
_FIELD = re.compile(rf"\s*([A-Z0-9_]+)\s*=\s*({_NUMBER})\s*")


def disassemble(words: Words | Iterable[int]) -> str:
    """The text of command words, one line each with a final newline; `assemble` gives the same words back."""
    return "".join(_line(int(word)) + "\n" for word in words)


def assemble(text: str) -> Words:
    """The command words of a text, uint64 of shape (n,); raises CompileError naming the line and what is wrong."""
    words: list[int] = []
    for number, line in enumerate(text.splitlines(), 1):
        statement = line.partition("#")[0].strip()
        if not statement:
            continue
        try:
            words.append(_word(statement))
        except CompileError as error:
            raise CompileError(f"line {number}: {error}") from None
    return np.array(words, np.uint64)


def _line(word: int) -> str:
    if word in _SPECIAL_NAMES:
        return _SPECIAL_NAMES[word]
    command = regcmd.decode(word)
    register = register_of(command.target, command.offset)
    if register is None:
        return f"{command.target:#06x}:{command.offset:#06x} = {command.value:#010x}"
    line = f"{register} = {command.value:#010x}"
    if register is PC.TARGET_BROADCAST:
        names = " ".join(block.name for block in regcmd.enabled_blocks(command.value))
        return f"{line}  # starts {names or 'nothing'}"
    fields = describe(register, command.value)
    return f"{line}  {{ {fields} }}" if fields else line


def describe(register: Register, value: int) -> str:
    """The fields of a register value that are not 0, from bit 0 up: "A=1, B=-2".

    Empty where the fields say no more than the number does, or, for the lack of named bits, less.
    """
    if len(register.fields) == 1 and not register.fields[0].signed:
        return ""
    fields = {name: part for name, part in reversed(register.decode(value).items()) if part}
    if register.encode(**fields) != value:
        return ""
    return ", ".join(f"{name}={part}" for name, part in fields.items())


def _word(statement: str) -> int:
    if statement in _SPECIAL:
        return _SPECIAL[statement]
    match = _STATEMENT.fullmatch(statement)
    if match is None or (match["number"] is None and match["fields"] is None):
        raise CompileError(f"expected `BLOCK.REGISTER = NUMBER {{ FIELD=VALUE, ... }}`, not `{statement[:80]}`")
    number = None if match["number"] is None else int(match["number"], 0)
    raw = _RAW.fullmatch(match["left"])
    if raw is not None:
        if number is None or match["fields"] is not None:
            raise CompileError(f"{match['left']} names no register: give its value as a number, without braces")
        return regcmd.encode(Command(int(raw[1], 0), int(raw[2], 0), number))
    register = _register(match["left"])
    if match["fields"] is None:
        return regcmd.write(register, number or 0)
    value = register.encode(**_fields(register, match["fields"]))
    if number is not None and number != value:
        raise CompileError(f"{register} is {number:#010x} but its fields make {value:#010x}")
    return regcmd.write(register, value)


def _register(name: str) -> Register:
    match = _NAMED.fullmatch(name)
    if match is None:
        raise CompileError(f"expected BLOCK.REGISTER or TARGET:OFFSET, not `{name[:80]}`")
    block = _BLOCKS.get(match[1])
    if block is None:
        raise CompileError(f"no block {match[1]}; blocks are {', '.join(_BLOCKS)}")
    return block[match[2]]


def _fields(register: Register, text: str) -> dict[str, int]:
    fields: dict[str, int] = {}
    for item in text.split(",") if text.strip() else ():
        match = _FIELD.fullmatch(item)
        if match is None:
            raise CompileError(f"{register}: expected FIELD=VALUE, not `{item.strip()[:80]}`")
        if match[1] in fields:
            raise CompileError(f"{register}.{match[1]} is given twice")
        fields[match[1]] = int(match[2], 0)
    return fields
