"""The .rnpu file: a Program as one checksummed document.

Layout: 4 bytes `RNPU`, u32 version, u64 body length, a SHA-256 checksum, then the body in MessagePack. The checksum is
of all that comes before it and of the body; up to version 2 it was of the body only. It finds damage, not malice: what
it lets through is still checked field by field and reference by reference.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping

import msgspec

from rocketnpu.errors import ModelError
from rocketnpu.program.check import check_program
from rocketnpu.program.model import ANY, CpuStep, NpuStep, Program, Relocation, Segment, Target, Task, TensorEntry

MAGIC = b"RNPU"
VERSION = 3
"""Version 1 has no target: its programs run through either driver. Version 2 has no notes, and no MACs of operators."""
_HEADER = struct.Struct("<4sIQ32s")
_CHECKED = struct.Struct("<4sIQ")
_BODY_CHECKED_ALONE = 2
"""The last version whose checksum is of the body only."""


class _Npu(msgspec.Struct, tag="npu"):
    step: NpuStep


class _Cpu(msgspec.Struct, tag="cpu"):
    step: CpuStep


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    segments: tuple[Segment, ...]
    relocations: tuple[Relocation, ...]
    tasks: tuple[Task, ...]
    steps: tuple[_Npu | _Cpu, ...]
    tensors: tuple[TensorEntry, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dissolved: Mapping[str, str]
    target: Target = ANY
    notes: tuple[str, ...] = ()


def is_container(data: bytes) -> bool:
    """Whether these bytes begin like a .rnpu file."""
    return data[:4] == MAGIC


def encode_program(program: Program) -> bytes:
    """The file's bytes; the same program always gives the same ones."""
    fields = {name: getattr(program, name) for name in _Body.__struct_fields__}
    fields["steps"] = tuple(_Npu(step) if isinstance(step, NpuStep) else _Cpu(step) for step in program.steps)
    body = msgspec.msgpack.encode(_Body(**fields))
    return _HEADER.pack(MAGIC, VERSION, len(body), _checksum(VERSION, body)) + body


def decode_program(data: bytes, name: str = "the file") -> Program:
    """The program in a file's bytes. Raises ModelError for a damaged, foreign or inconsistent file."""
    if len(data) < _HEADER.size or not is_container(data):
        raise ModelError(f"{name} is not a rocketnpu program: it does not start with an RNPU header")
    _, version, length, digest = _HEADER.unpack_from(data)
    if not 1 <= version <= VERSION:
        raise ModelError(f"{name} is an RNPU file of version {version}; this release reads versions 1 to {VERSION}")
    body = data[_HEADER.size :]
    if len(body) != length or _checksum(version, body) != digest:
        raise ModelError(f"{name} is damaged: its content does not match its checksum; compile the model again")
    try:
        found = msgspec.msgpack.decode(body, type=_Body)
    except (msgspec.DecodeError, RecursionError, OverflowError) as error:
        raise ModelError(f"{name} is not a valid program: {error}") from error
    fields = {field: getattr(found, field) for field in _Body.__struct_fields__}
    fields["steps"] = tuple(item.step for item in found.steps)
    program = Program(**fields)
    check_program(program, name)
    return program


def _checksum(version: int, body: bytes) -> bytes:
    found = hashlib.sha256()
    if version > _BODY_CHECKED_ALONE:
        found.update(_CHECKED.pack(MAGIC, version, len(body)))
    found.update(body)
    return found.digest()
