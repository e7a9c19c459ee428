"""Where the tensors of a vendor container live: segments of device memory, and the feature cubes in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rocketnpu.errors import ModelError
from rocketnpu.hw.layouts import ATOM_BYTES
from rocketnpu.program.model import Cube, Segment, TensorEntry
from rocketnpu.rknn.container import COMMANDS, CUBE, INT8, TASKS, Container, ContainerTensor

CONSTANTS = "constants"
"""Weights and operands: tasks only read them."""

SCRATCH = "scratch"
"""Buffers of the file that tasks write: the cube of a LUT load, the 1x1 pools that end multi-core segments."""

ARENA = "arena"
"""Activations, at the offsets the vendor's compiler chose; their places are reused once a tensor is dead."""

ALIGNMENT_BYTES = 64
"""The vendor aligns lists and tensors to 64 bytes (hardware/README.md, Constants)."""

MAXIMUM_ARENA_BYTES = 1 << 31
"""Half of the 32-bit addresses that registers hold."""

CUBE_PITCH_ATOMS = 4
"""Cube planes are a multiple of 4 atoms apart, except 1x1 ones (hardware/layouts.md, Feature cube)."""

IMAGE_PITCH_PIXELS = 16
"""Rows of a dense input image are a multiple of 16 pixels apart (hardware/layouts.md, First layer)."""

IMAGE_CHANNELS = 4
"""A dense image has up to 4 channels."""


@dataclass(frozen=True)
class Place:
    """The device memory of one tensor of the file."""

    segment: str
    offset_bytes: int
    size_bytes: int


def align(value: int, unit: int) -> int:
    """`value` rounded up to a multiple of `unit`."""
    return -(-value // unit) * unit


def place_tensors(container: Container, written: set[str]) -> tuple[Mapping[str, Place], tuple[Segment, ...]]:
    """The places of all named tensors with memory, and the segments behind them.

    `written` names the tensors that tasks write. Raises ModelError for names that repeat, as relocations are by name.
    """
    places: dict[str, Place] = {}
    images = {CONSTANTS: bytearray(), SCRATCH: bytearray()}
    arena_bytes = 0
    for tensor in container.tensors:
        if tensor.name in ("", COMMANDS, TASKS):
            continue
        if tensor.name in places:
            raise ModelError(f"tensor name {tensor.name!r} repeats")
        if tensor.buffer:
            segment = SCRATCH if tensor.name in written else CONSTANTS
            image, data = images[segment], container.buffers[tensor.buffer]
            places[tensor.name] = Place(segment, len(image), len(data))
            image += data.ljust(align(len(data), ALIGNMENT_BYTES), b"\0")
        else:
            if tensor.arena_offset % ATOM_BYTES:
                raise ModelError(f"tensor {tensor.name!r} starts at byte {tensor.arena_offset}, not a multiple of 16")
            places[tensor.name] = Place(ARENA, tensor.arena_offset, tensor.size_bytes)
            arena_bytes = max(arena_bytes, tensor.arena_offset + align(tensor.size_bytes, ALIGNMENT_BYTES))
    if arena_bytes > MAXIMUM_ARENA_BYTES:
        raise ModelError(f"activations need {arena_bytes} bytes, more than the {MAXIMUM_ARENA_BYTES} addressable")
    segments = [Segment(name, len(image), bytes(image)) for name, image in images.items() if image]
    return places, (*segments, Segment(ARENA, arena_bytes))


def tensor_entry(tensor: ContainerTensor, place: Place) -> TensorEntry:
    """The user's view of an activation: int8, NCHW as in the file, quantized per tensor."""
    if tensor.dtype != INT8:
        raise ModelError(f"tensor {tensor.name!r}: element type {tensor.dtype} is not supported, only int8")
    return TensorEntry(
        tensor.name,
        tensor.dims,
        "int8",
        tensor.scales,
        tensor.zero_points,
        layout="NCHW",
        cube=_cube(tensor, place),
    )


def reshaped_entry(tensor: ContainerTensor, source: TensorEntry) -> TensorEntry:
    """The result of a reshape of one pixel's channels: another name for the same bytes.

    Raises ModelError for any other reshape: no task does it.
    """
    cube = source.cube
    one_pixel = cube is not None and cube.height == cube.width == 1
    if not one_pixel or [dim for dim in tensor.dims if dim != 1] != [dim for dim in source.shape if dim != 1]:
        raise ModelError(
            f"reshape of {source.name!r} {source.shape} to {tensor.name!r} {tensor.dims} is not supported: "
            "only the channels of a single pixel keep their place"
        )
    quantization = tensor.scales, tensor.zero_points
    if tensor.dtype != INT8 or quantization != (source.scales, source.zero_points):
        raise ModelError(f"reshape of {source.name!r} to {tensor.name!r} changes the type or the quantization")
    return TensorEntry(tensor.name, tensor.dims, "int8", *quantization, cube=cube)


def _cube(tensor: ContainerTensor, place: Place) -> Cube:
    """The cube or dense image of a tensor of shape N, C, H, W; its size must fit its place."""
    if tensor.layout != CUBE or len(tensor.dims) != 4 or len(tensor.native_dims) != 5:
        raise ModelError(
            f"tensor {tensor.name!r}: layout {tensor.layout} with dimensions {tensor.dims} on the device "
            f"{tensor.native_dims} is not supported, only NCHW as a feature cube"
        )
    batch, channels, height, width = tensor.dims
    lanes = tensor.native_dims[4]
    if batch != 1 or 0 in tensor.dims or lanes not in (*range(1, IMAGE_CHANNELS + 1), ATOM_BYTES):
        raise ModelError(f"tensor {tensor.name!r}: shape {tensor.dims} in atoms of {lanes} channels is not supported")
    dense = lanes <= IMAGE_CHANNELS
    planes = -(-channels // lanes)
    held = tensor.native_dims[1]  # some compilers give a cube more planes than its channels need
    if tensor.native_dims != (1, held, height, width, lanes) or held < planes or (dense and held != 1):
        raise ModelError(f"tensor {tensor.name!r}: cube {tensor.native_dims} does not hold shape {tensor.dims}")
    pixels = height * width
    pitch = 1 if pixels == 1 else align(pixels, CUBE_PITCH_ATOMS)
    row_pitch = align(width, IMAGE_PITCH_PIXELS) if dense else 0
    size = height * row_pitch * channels if dense else planes * pitch * ATOM_BYTES
    if size > place.size_bytes:
        raise ModelError(f"tensor {tensor.name!r}: needs {size} bytes but the file gives it {place.size_bytes}")
    offset = place.offset_bytes
    if dense:
        return Cube(place.segment, offset, height, width, channels, 0, dense=True, row_pitch_pixels=row_pitch)
    return Cube(place.segment, offset, height, width, channels, pitch)


def relocated(place: Place, name: str, addend_bytes: int) -> int:
    """Offset of an address inside a tensor from its segment's start; ModelError if it points outside the tensor."""
    if addend_bytes >= max(place.size_bytes, 1):
        raise ModelError(f"a task addresses byte {addend_bytes} of tensor {name!r}, which has {place.size_bytes}")
    return place.offset_bytes + addend_bytes
