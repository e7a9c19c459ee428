"""Sizes that an ONNX file leaves free: what the caller says, 1 for a batch, and a refusal for all others.

1. A shape of `Opening.input_shapes` is that input's. It agrees with every size that the file fixes.
2. A symbol has one size, in all inputs that have it: that of `Opening.dims`, or of a shape that was given. A symbol
   without a letter or digit is none: Paddle's exporter writes "?" for each size that it does not know.
3. The first size of an input is its batch, which is 1 where nobody says more.
4. Any other free size is refused.

The sizes of all other tensors follow from those of the inputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rocketnpu.errors import ModelError
from rocketnpu.frontends.opening import Opening, Shape

_UNNAMED = "?"
"""How a free size without a symbol is written."""


def fix_sizes(graph: Any, where: str, opening: Opening) -> tuple[str, ...]:
    """Give every input of a graph (onnx.GraphProto) fixed sizes, and return notes on what nobody asked for.

    Raises ModelError for sizes that stay free, and for a name or size that does not fit the model.
    """
    _drop_placeholders((*graph.input, *graph.value_info, *graph.output))
    inputs = {value.name: value for value in graph.input}
    for name in opening.input_shapes:
        if name not in inputs:
            raise ModelError(f"{where} has no input {name!r}; its inputs are {_quoted(list(inputs))}")
    symbols = _Symbols(where, inputs.values(), opening)
    for name, value in inputs.items():
        if name in opening.input_shapes:
            symbols.bind(value, opening.input_shapes[name])
        elif not _has_shape(value):
            raise ModelError(f"input {name} of {where} has no shape: give it with {_option(name, ['...'])}")
    notes = symbols.default_batches()
    symbols.apply((*graph.input, *graph.value_info, *graph.output))
    _refuse_free([value for value in inputs.values() if _free(value)], where)
    return notes


def _drop_placeholders(values: Sequence[Any]) -> None:
    """Rule 2 for symbols that are none: their sizes are free, each by itself."""
    for value in values:
        for size in _sizes(value):
            if size.HasField("dim_param") and not any(map(str.isalnum, size.dim_param)):
                size.ClearField("value")


class _Symbols:
    """The sizes that symbols stand for."""

    def __init__(self, where: str, inputs: Any, opening: Opening) -> None:
        self._where, self._inputs = where, list(inputs)
        self._sizes: dict[str, int] = {}
        known = dict.fromkeys(size.dim_param for value in self._inputs for size in _sizes(value) if size.dim_param)
        for symbol, size in opening.dims.items():
            if symbol not in known:
                has = f"its symbols are {_quoted(list(known))}" if known else "its inputs have no symbols"
                raise ModelError(f"{where} has no size {symbol!r}; {has}")
            self._sizes[symbol] = size

    def bind(self, value: Any, shape: Shape) -> None:
        """Rules 1 and 2 for one input."""
        if not _has_shape(value):
            value.type.tensor_type.shape.SetInParent()
            for _ in shape:
                value.type.tensor_type.shape.dim.add()
        sizes = _sizes(value)
        what = f"input {value.name} of {self._where} is {_text(value)}"
        if len(sizes) != len(shape):
            raise ModelError(f"{what}; a shape of {len(shape)} sizes was given, {_joined(shape)}")
        for size, wanted in zip(sizes, shape, strict=True):
            if _is_fixed(size) and size.dim_value != wanted:
                raise ModelError(f"{what}; {_joined(shape)} was given, but only sizes that the file leaves free change")
            symbol = size.dim_param
            if symbol and self._sizes.setdefault(symbol, wanted) != wanted:
                raise ModelError(f"{what}; {symbol} can't be both {self._sizes[symbol]} and {wanted}")
            size.dim_value = wanted

    def default_batches(self) -> tuple[str, ...]:
        """Rule 3."""
        notes: list[str] = []
        for value in self._inputs:
            first = next(iter(_sizes(value)), None)
            if first is None or _is_fixed(first) or first.dim_param in self._sizes:
                continue
            symbol = first.dim_param
            option = f"dims={{{symbol!r}: ...}} (--dim {symbol}=...)" if symbol else _option(value.name, ["..."])
            notes.append(f"the batch of input {value.name} is free, so that 1 was taken: {option} gives another")
            if symbol:
                self._sizes[symbol] = 1
            first.dim_value = 1
        return tuple(notes)

    def apply(self, values: Sequence[Any]) -> None:
        """Put sizes where their symbols are."""
        for value in values:
            for size in _sizes(value):
                if size.dim_param in self._sizes:
                    size.dim_value = self._sizes[size.dim_param]


def _refuse_free(values: Sequence[Any], where: str) -> None:
    """Rule 4: name all free sizes, and the options that fix them."""
    if not values:
        return
    free = [size for value in values for size in _free(value)]
    symbols = list(dict.fromkeys(size.dim_param for size in free if size.dim_param))
    unnamed = any(not size.dim_param for size in free)
    shapes = ", ".join(f"{value.name!r}: {_text(value)}" for value in values)
    api = [f"input_shapes={{{shapes}}}"]
    line = [" ".join(f"--input-shape {value.name}={','.join(_labels(value))}" for value in values)]
    if not unnamed:
        api.append(f"dims={{{', '.join(f'{symbol!r}: ...' for symbol in symbols)}}}")
        line.append(" ".join(f"--dim {symbol}=..." for symbol in symbols))
    inputs = ", ".join(f"{value.name} {_text(value)}" for value in values)
    raise ModelError(
        f"{where} leaves sizes of its inputs free, {inputs}: give"
        f" numbers for {_listed([*symbols, *[_UNNAMED] * unnamed])} with {' or '.join(api)};"
        f" on the command line {' or '.join(line)}"
    )


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _has_shape(value: Any) -> bool:
    return value.type.HasField("tensor_type") and value.type.tensor_type.HasField("shape")


def _sizes(value: Any) -> Any:
    return value.type.tensor_type.shape.dim if _has_shape(value) else ()


def _is_fixed(size: Any) -> bool:
    return size.HasField("dim_value") and size.dim_value >= 0  # some exporters write -1 for a free size


def _free(value: Any) -> list[Any]:
    return [size for size in _sizes(value) if not _is_fixed(size)]


def _labels(value: Any) -> list[str]:
    return [str(size.dim_value) if _is_fixed(size) else size.dim_param or _UNNAMED for size in _sizes(value)]


def _text(value: Any) -> str:
    return _joined(_labels(value))


def _joined(sizes: Sequence[object]) -> str:
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _option(name: str, sizes: Sequence[object]) -> str:
    return f"input_shapes={{{name!r}: {_joined(sizes)}}} (--input-shape {name}={','.join(map(str, sizes))})"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names)) or "none"
