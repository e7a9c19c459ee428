"""Sparse constants made dense (schema.fbs, SparsityParameters; the format of the TACO compiler).

The values are the leaves of a tree with a level for each dimension in `traversal_order`. On a level that is dense,
each node has a child for every index; on one that is compressed (CSR), for those that its segment lists. Dimensions
beyond the tensor's rank count inside blocks; `block_map` names the dimension that each of them divides.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import Reader, schema

MOST_ZEROS = 256
"""Dense elements for each byte of the file's sparse data that are worth their memory."""


def dense_constant(
    reader: Reader, sparsity: Any, values: NDArray[Any], shape: tuple[int, ...], name: str
) -> NDArray[Any]:
    """The tensor of `shape` whose elements other than zero are `values`, (n,), in the tree's order.

    Raises ModelError for parameters that contradict each other, and for a tensor that is almost empty.
    """
    if math.prod(shape) > MOST_ZEROS * max(values.nbytes, 1):
        raise ModelError(f"sparse tensor {name} of shape {shape} has only {values.size} values; store it dense")
    order = reader.numbers(sparsity, "TraversalOrder").tolist()
    blocks = reader.numbers(sparsity, "BlockMap").tolist()
    levels = reader.tables(sparsity, "DimMetadata")
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocks))) or len(levels) != len(order):
        raise ModelError(f"sparse tensor {name} has a traversal order that does not fit its {rank} dimensions")
    if any(not 0 <= axis < rank for axis in blocks) or len(set(blocks)) != len(blocks):
        raise ModelError(f"sparse tensor {name} has blocks along a dimension that it lacks, or twice along one")
    sizes = [1] * rank
    for axis, level in zip(order, levels, strict=True):
        if axis >= rank:
            sizes[blocks[axis - rank]] *= level.DenseSize()
    places = np.zeros((1, 0), np.int64)
    for level in levels:
        places = _descend(reader, level, places, math.prod(shape), name)
    if len(places) != values.size:
        raise ModelError(f"sparse tensor {name} names {len(places)} elements, but stores {values.size}")
    dense = np.zeros(shape, values.dtype)
    dense[tuple(_indices(places, order, blocks, sizes, shape, name))] = values
    dense.flags.writeable = False
    return dense


def _descend(reader: Reader, level: Any, places: NDArray[np.int64], most: int, name: str) -> NDArray[np.int64]:
    """The nodes one level further down: (n, levels + 1)."""
    if level.Format() == schema.DimensionType.DENSE:
        size: int = level.DenseSize()
        if size < 1 or len(places) * size > most:
            raise ModelError(f"sparse tensor {name} has a dimension of {size} elements that does not fit its shape")
        return np.column_stack([np.repeat(places, size, axis=0), np.tile(np.arange(size), len(places))])
    segments = _vector(reader, level.ArraySegmentsType(), level.ArraySegments())
    indices = _vector(reader, level.ArrayIndicesType(), level.ArrayIndices())
    counts = np.diff(segments)
    if segments.size != len(places) + 1 or segments[0] != 0 or (counts < 0).any() or segments[-1] != indices.size:
        raise ModelError(f"sparse tensor {name} has segments that do not divide its indices")
    return np.column_stack([np.repeat(places, counts, axis=0), indices])


def _indices(
    places: NDArray[np.int64],
    order: list[int],
    blocks: list[int],
    sizes: list[int],
    shape: tuple[int, ...],
    name: str,
) -> list[NDArray[np.int64]]:
    """The index of each value along each dimension: that of its block, times the block's size, and that inside."""
    rank = len(shape)
    found = [np.zeros(len(places), np.int64) for _ in shape]
    for column, axis in enumerate(order):
        if axis < rank:
            found[axis] += places[:, column] * sizes[axis]
        else:
            found[blocks[axis - rank]] += places[:, column]
    for index, size in zip(found, shape, strict=True):
        if ((index < 0) | (index >= size)).any():
            raise ModelError(f"sparse tensor {name} names an element outside its shape {shape}")
    return found


def _vector(reader: Reader, kind: int, table: Any) -> NDArray[np.int64]:
    """One of the union's vectors of whole numbers."""
    names = {
        schema.SparseIndexVector.Int32Vector: "Int32Vector",
        schema.SparseIndexVector.Uint16Vector: "Uint16Vector",
        schema.SparseIndexVector.Uint8Vector: "Uint8Vector",
    }
    if kind not in names or table is None:
        return np.zeros(0, np.int64)
    vector = getattr(schema, names[kind])()
    vector.Init(table.Bytes, table.Pos)
    return reader.numbers(vector, "Values").astype(np.int64)
