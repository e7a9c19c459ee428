"""What operators of a TFLite file share and no array can hold: variables, resources, the state of subgraphs.

1. Operators share variable tensors, and tensors between them whose type numpy lacks (handles, strings): `reader.py`
   finds these.
2. A resource has a name (VAR_HANDLE) or a number (HASHTABLE). Operators share it also through the subgraphs they call.
3. A subgraph with variable tensors is shared by those that call it.

CALL_ONCE is no part of this: each piece that shares something gets its own (extract.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.tflite.flatbuffer import Reader, schema

CALLING = frozenset(
    {
        "CALL",
        "CALL_ONCE",
        "IF",
        "STABLEHLO_CASE",
        "STABLEHLO_COMPOSITE",
        "STABLEHLO_REDUCE",
        "STABLEHLO_REDUCE_WINDOW",
        "STABLEHLO_SCATTER",
        "STABLEHLO_SORT",
        "STABLEHLO_WHILE",
        "WHILE",
    }
)
"""Operators whose options name subgraphs."""


def subgraph_fields(options: Any) -> Iterator[tuple[str, Any]]:
    """The fields of an options object (schema.fbs, `...OptionsT`) that hold numbers of subgraphs."""
    fields: dict[str, Any] = getattr(options, "__dict__", {})
    for field, value in fields.items():
        if field == "subgraph" or field.endswith(("SubgraphIndex", "SubgraphIndices")):
            yield field, value


def called_subgraphs(operator: Any) -> list[int]:
    """The numbers of the subgraphs that an operator (`OperatorT`) calls; some may be negative, for none."""
    found: list[int] = []
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for _, value in subgraph_fields(options):
            found += [int(number) for number in (value if hasattr(value, "__len__") else [value])]
    return found


class SharedState:
    """The resources that operators use, each found once."""

    def __init__(self, reader: Reader, root: Any, kinds: Sequence[str]) -> None:
        """`kinds` are the names of the file's operator codes."""
        self._reader, self._root, self._kinds = reader, root, kinds
        self._by_subgraph: dict[int, frozenset[str]] = {}

    def of_operator(self, table: Any, kind: str, where: str) -> frozenset[str]:
        """Rules 2 and 3 for one operator; raises ModelError for a subgraph that the file does not have."""
        if kind == "VAR_HANDLE":
            return frozenset({_variable(table)})
        if kind == "HASHTABLE":
            return frozenset({_hashtable(table)})
        if kind not in CALLING or kind == "CALL_ONCE":
            self._check_called(table, kind, where)
            return frozenset()
        return frozenset[str]().union(*(self._of_subgraph(index) for index in self._check_called(table, kind, where)))

    @cached_property
    def _count(self) -> int:
        return self._root.SubgraphsLength()

    def _check_called(self, table: Any, kind: str, where: str) -> list[int]:
        if kind not in CALLING:
            return []
        called = [index for index in called_subgraphs(schema.OperatorT.InitFromObj(table)) if index >= 0]
        for index in called:
            if not 0 < index < self._count:
                raise ModelError(f"{where} calls subgraph {index}; the file's others are 1 to {self._count - 1}")
        return called

    def _of_subgraph(self, index: int) -> frozenset[str]:
        if index in self._by_subgraph:
            return self._by_subgraph[index]
        self._by_subgraph[index] = frozenset()  # for a subgraph that calls itself
        subgraph = self._root.Subgraphs(index)
        found: set[str] = set()
        if any(tensor.IsVariable() for tensor in self._reader.tables(subgraph, "Tensors")):
            found.add(f"subgraph {index}")
        for table in self._reader.tables(subgraph, "Operators"):
            code: int = table.OpcodeIndex()
            if code >= len(self._kinds):
                raise ModelError(f"an operator of subgraph {index} has operator code {code}, which the file lacks")
            found |= self.of_operator(table, self._kinds[code], f"{self._kinds[code]} in subgraph {index}")
        self._by_subgraph[index] = frozenset(found)
        return self._by_subgraph[index]


def _options(table: Any, name: str) -> Any:
    options, raw = getattr(schema, name)(), table.BuiltinOptions()
    if raw is None:
        return None
    options.Init(raw.Bytes, raw.Pos)
    return options


def _variable(table: Any) -> str:
    options = _options(table, "VarHandleOptions")
    names = (None, None) if options is None else (options.Container(), options.SharedName())
    return "variable " + "/".join((name or b"").decode(errors="replace") for name in names)


def _hashtable(table: Any) -> str:
    options = _options(table, "HashtableOptions")
    return f"table {0 if options is None else options.TableId()}"
