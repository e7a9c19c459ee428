"""Which images of an ONNX model have their channels last: between transpositions, which are then nothing to do.

ONNX's images are NCHW. A tensor of four dimensions is taken for NHWC instead

1. where Transpose(0, 2, 3, 1) makes it of an image, or Transpose(0, 3, 1, 2) turns an input of the model into one, or a
   reshape that keeps the last dimension makes it of a tensor of fewer dimensions;
2. where an operator makes it of such tensors that does not care for the order of dimensions, or names them by number;
3. unless any other operator reads it, or one that mixes it with an image.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rocketnpu.frontends.onnx.families import ELEMENT_BY_ELEMENT, RESHAPING
from rocketnpu.frontends.onnx.net import Net, Node

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)

MOST_PASSES = 16
"""Each pass takes all origins back that the one before it found wrong, which may make others wrong: in real models one
or two."""

SPREADING = ELEMENT_BY_ELEMENT | {
    "Concat",
    "DequantizeLinear",
    "LayerNormalization",
    "MatMul",
    "Pad",
    "QuantizeLinear",
    "Slice",
    "Softmax",
    "Split",
}
"""Operators of rule 2."""


def channels_last(net: Net) -> frozenset[str]:
    """The names of these tensors."""
    refused: set[str] = set()
    for _ in range(MOST_PASSES):
        found = _Search(net, refused)
        for node in net.nodes:
            found.visit(node)
        wrong = found.wrong()
        if not wrong:
            return frozenset(found.origins)
        refused |= wrong
    return frozenset()


def is_image(net: Net, name: str) -> bool:
    """Whether a tensor has four dimensions and a batch of 1."""
    found = net.types.get(name)
    return found is not None and found.shape is not None and len(found.shape) == 4 and found.shape[0] == 1


@dataclass
class _Search:
    """One pass over the nodes. `origins` leads from each tensor to the one that it gets its order from (rule 1).

    Origins that meet in one operator are one: `parents` leads from the one to the other. `refused` are no origins.
    """

    net: Net
    refused: set[str]
    origins: dict[str, str] = field(default_factory=dict[str, str])
    parents: dict[str, str] = field(default_factory=dict[str, str])
    conflicts: set[str] = field(default_factory=set[str])
    turned: set[str] = field(default_factory=set[str])

    def __post_init__(self) -> None:
        for name in self.net.inputs:
            if is_image(self.net, name):
                self._begin(name)

    def visit(self, node: Node) -> None:
        """The order of a node's results, and whether it can bear that of what it reads."""
        found = [name for name in node.inputs if name in self.origins]
        if node.op_type == "Transpose":
            self._transpose(node, tuple(node.attributes.get("perm", (3, 2, 1, 0))))
        elif node.op_type in RESHAPING:
            self._reshape(node)
        elif found:
            images = [name for name in node.inputs if is_image(self.net, name) and name not in self.net.constants]
            if self._spreads(node) and len(images) == len(found):
                root = self._merged(found)
                self.origins.update((name, root) for name in node.outputs if is_image(self.net, name))
            else:
                self.conflicts.update(self.origins[name] for name in found)

    def wrong(self) -> set[str]:
        """Origins that can't be: those that an operator conflicts with, and inputs that are never transposed."""
        conflicts, turned = ({self._root(name) for name in names} for names in (self.conflicts, self.turned))
        idle = {name for name in self.net.inputs if name in self.origins and self._root(name) not in turned}
        return idle | {origin for origin in self.origins.values() if self._root(origin) in conflicts}

    def _transpose(self, node: Node, order: tuple[int, ...]) -> None:
        source = node.inputs[0]
        if source in self.origins and order == TO_FIRST:
            self.turned.add(self.origins[source])
        elif source in self.origins:
            self.conflicts.add(self.origins[source])
        elif order == TO_LAST and is_image(self.net, source):
            self._begin(node.outputs[0])

    def _reshape(self, node: Node) -> None:
        source, result = node.inputs[0], node.outputs[0]
        before, after = (self.net.types[name].shape for name in (source, result))
        if not before or not after or before[-1] != after[-1] or not is_image(self.net, result):
            return
        if source in self.origins:
            self.origins[result] = self.origins[source]
        elif len(before) < 4:
            self._begin(result)

    def _spreads(self, node: Node) -> bool:
        """A mean over the last two dimensions is one over an image's height and width."""
        if node.op_type != "ReduceMean":
            return node.op_type in SPREADING
        axes = node.attributes.get("axes")
        if axes is None and len(node.inputs) > 1 and node.inputs[1] in self.net.constants:
            axes = self.net.constants[node.inputs[1]].reshape(-1).tolist()
        return axes is not None and {axis % 4 for axis in axes} in ({3}, {1, 2})

    def _begin(self, name: str) -> None:
        if name not in self.refused:
            self.origins[name] = name

    def _merged(self, names: list[str]) -> str:
        roots = [self._root(self.origins[name]) for name in names]
        self.parents.update((root, roots[0]) for root in roots[1:] if root != roots[0])
        return roots[0]

    def _root(self, name: str) -> str:
        while name in self.parents:
            further = self.parents[name]
            self.parents[name] = self.parents.get(further, further)
            name = further
        return name
