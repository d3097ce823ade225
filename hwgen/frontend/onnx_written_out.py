"""Normalizations that a file writes out in operators of one step: found, each as one node.

What is looked for, over constant axes: a divisor max(sqrt(factor * sum of z**2 + epsilon), least), in any of the forms that exporters write
(means or sums, Pow or Mul, Sqrt, Pow or ReduceL2, Max or Clip before or behind the root), and what is divided by it: z itself, which may
be x less its mean. Division by a product with the reciprocal too, and Keras' x * r * scale + (offset - mean * r * scale). Scales and
offsets behind it are taken in as behind any normalization. No value on the way may be read elsewhere, be an output, or be rounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import onnx

from hwgen.errors import ModelError
from hwgen.frontend.onnx_constants import constant_node
from hwgen.frontend.onnx_node import OnnxNode, Refusal, needed
from hwgen.frontend.onnx_view import Array

REALS = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
AXES_AS_INPUT = {"ReduceSum": 13, "ReduceMean": 18, "ReduceL2": 18, "ReduceSumSquare": 18}  # the opset from which on


@dataclass(frozen=True, kw_only=True)
class Divisor:
    """max(sqrt(factor * m + epsilon), least), m the mean or, if not `averaged`, the sum of `squared`**2 over `axes` (kept, as 1).
    `shape`: a constant one to which it is expanded."""

    squared: str
    axes: tuple[int, ...]
    averaged: bool
    factor: float = 1.0
    epsilon: float = 0.0
    least: float = 0.0
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Normalization(OnnxNode):
    """Input 0 divided by the divisor of itself; if `centered`, of itself less its mean. Inputs 1 and 2, where given: scale and offset."""

    divisor: Divisor
    centered: bool


@dataclass(kw_only=True)
class Finder:
    """Walks from a division up to what it normalizes. `inner`: the nodes on the way, which the found one replaces; of a walk that finds
    nothing they mean nothing."""

    producers: Mapping[str, OnnxNode]
    constants: Mapping[str, Array]
    inner: list[OnnxNode] = field(default_factory=list)

    def source(self, name: str) -> str:
        """The tensor that `name` is a copy of."""
        node = self.producers.get(name)
        while node is not None and _copies(node):
            name = node.inputs[0]
            node = self.producers.get(name)
        return name

    def made(self, name: str, *operators: str) -> OnnxNode | None:
        """The node that computes the tensor, if by one of these operators; it is then inner."""
        node = self.producers.get(self.source(name))
        if node is None or node.operator not in operators or not node.inputs or not all(node.inputs[:2]):
            return None
        self.inner.append(node)
        return node

    def array(self, name: str) -> Array | None:
        found = self.constants.get(name)
        node = self.producers.get(name)
        if found is None and node is not None and node.operator == "Constant":
            try:
                return constant_node(node).probes[0]
            except (Refusal, ModelError):  # told of where it is read
                return None
        return found

    def number(self, name: str) -> float | None:
        """A finite constant that cannot enlarge what it meets."""
        array = self.array(self.source(name))
        if array is None or array.size != 1 or array.ndim > 1 or array.dtype.kind not in "fiu":
            return None
        value = float(array.reshape(()))
        return value if math.isfinite(value) else None

    def with_number(self, node: OnnxNode) -> tuple[str, float] | None:
        """Of two operands the one that is no number, and the number."""
        for first, second in ((0, 1), (1, 0)):
            if len(node.inputs) == 2 and (number := self.number(node.inputs[second])) is not None:
                return node.inputs[first], number
        return None

    def powered(self, name: str, exponent: float, operator: str) -> str | None:
        """z, if the tensor is z to this power, or `operator` of z."""
        node = self.made(name, operator, "Pow")
        if node is None:
            return None
        if node.operator == operator or (len(node.inputs) == 2 and self.number(node.inputs[1]) == exponent):
            return node.inputs[0]
        return None

    def floored(self, name: str) -> tuple[str, float]:
        """What is limited from below by a number of at least 0, and the number."""
        node = self._peek(name, "Max", "Clip")
        if node is None:
            return name, 0.0
        if node.operator == "Max":
            found = self.with_number(node)
        elif node.has_input(1) and not node.has_input(2) and (least := self.number(node.inputs[1])) is not None:
            found = node.inputs[0], least
        else:
            only = set(node.attributes) == {"min"} and len(node.inputs) == 1
            found = (node.inputs[0], node.real("min", 0.0)) if only else None
        if found is None or not 0 <= found[1] < math.inf:
            return name, 0.0
        self.inner.append(node)
        return found

    def _peek(self, name: str, *operators: str) -> OnnxNode | None:
        node = self.producers.get(self.source(name))
        return node if node is not None and node.operator in operators and node.inputs else None

    def divisor(self, name: str) -> Divisor | None:
        expand = self._peek(name, "Expand")
        if expand is not None and len(expand.inputs) == 2:
            self.inner.append(expand)
            name = expand.inputs[0]
        name, least = self.floored(name)
        power = self.powered(name, 0.5, "Sqrt")
        found = self.power(power) if power is not None else self._reduced(name, "ReduceL2")
        if found is None:
            return None
        found = replace(found, least=max(found.least, least))
        return found if expand is None else self._expanded(found, expand.inputs[-1])

    def _expanded(self, found: Divisor, name: str) -> Divisor | None:
        """To a constant shape, which is checked where shapes are known, or to that of what is squared."""
        array, shape = self.array(name), self._peek(name, "Shape")
        if array is not None and array.ndim == 1 and array.dtype.kind in "iu":
            return replace(found, shape=tuple(int(size) for size in array))
        if shape is None or shape.attributes or self.source(shape.inputs[0]) != self.source(found.squared):
            return None
        self.inner.append(shape)
        return found

    def reciprocal(self, name: str) -> Divisor | None:
        """What the tensor is one divided by."""
        node = self.made(name, "Reciprocal", "Div", "Pow")
        if node is None:
            return None
        if node.operator == "Reciprocal":
            return self.divisor(node.inputs[0])
        if node.operator == "Div":
            return self.divisor(node.inputs[1]) if self.number(node.inputs[0]) == 1 else None
        return self.power(node.inputs[0]) if self.number(node.inputs[1]) == -0.5 else None

    def power(self, name: str) -> Divisor | None:
        """The divisor whose square the tensor is."""
        name, least = self.floored(name)
        epsilon, factor = 0.0, 1.0
        if (node := self._peek(name, "Add")) is not None and (found := self.with_number(node)) is not None:
            self.inner.append(node)
            name, epsilon = found
        if (node := self._peek(name, "Mul", "Div")) is not None and (found := self.with_number(node)) is not None:
            by = found[1] if node.operator == "Mul" else 1 / found[1] if found[1] and self.number(node.inputs[1]) is not None else 0.0
            self.inner.append(node)
            name, factor = found[0], by
        found_sum = self._squares(name)
        if found_sum is None or epsilon < 0 or factor <= 0:
            return None
        return replace(found_sum, factor=factor, epsilon=epsilon, least=math.sqrt(least))

    def _squares(self, name: str) -> Divisor | None:
        """A sum or mean of squares."""
        found = self._reduced(name, "ReduceMean", "ReduceSum", "ReduceSumSquare")
        if found is None or self.inner[-1].operator == "ReduceSumSquare":
            return found
        node = self.made(found.squared, "Pow", "Mul")
        if node is None or len(node.inputs) != 2:
            return None
        squares = self.number(node.inputs[1]) == 2 if node.operator == "Pow" else self.source(node.inputs[0]) == self.source(node.inputs[1])
        return replace(found, squared=node.inputs[0]) if squares else None

    def _reduced(self, name: str, *operators: str) -> Divisor | None:
        """A reduction that keeps its constant axes as 1; of what is `squared`, which is not looked at here."""
        node = self.made(name, *operators)
        if node is None or node.integer("keepdims", 1) != 1:
            return None
        if node.opset < AXES_AS_INPUT[node.operator]:
            axes = node.integers("axes")
        else:
            array = self.array(node.inputs[1]) if node.has_input(1) else None
            axes = None if array is None or array.dtype.kind not in "iu" else [int(axis) for axis in array.reshape(-1)]
        return Divisor(squared=node.inputs[0], axes=tuple(sorted(axes)), averaged=node.operator == "ReduceMean") if axes else None

    def mean_taken(self, name: str, *, either_way: bool = False) -> tuple[str, tuple[int, ...]] | None:
        """x and axes, if the tensor is x less its mean over them; `either_way`: or the mean less x."""
        node = self.made(name, "Sub")
        if node is None or len(node.inputs) != 2:
            return None
        for x, mean in (node.inputs, node.inputs[::-1]) if either_way else (node.inputs,):
            if (axes := self.mean_of(mean, x)) is not None:
                return x, axes
        return None

    def mean_of(self, name: str, x: str) -> tuple[int, ...] | None:
        """The axes, if the tensor is the mean of x."""
        if self._peek(name, "ReduceMean") is None or (found := self._reduced(name, "ReduceMean")) is None:
            return None
        return found.axes if self.source(found.squared) == self.source(x) else None

    def scaled(self, name: str) -> tuple[str, str]:
        """What is multiplied by a constant, and the constant; "" where there is none."""
        node = self._peek(name, "Mul")
        for one, constant in () if node is None or len(node.inputs) != 2 else _both_ways(node):
            if node is not None and self.array(self.source(constant)) is not None:
                self.inner.append(node)
                return one, self.source(constant)
        return name, ""

    def centers(self, divisor: Divisor, x: str) -> bool:
        """What is squared is x less its mean over the same axes."""
        found = self.mean_taken(divisor.squared, either_way=True)
        return found is not None and (self.source(found[0]), found[1], divisor.least) == (self.source(x), divisor.axes, 0.0)


def _copies(node: OnnxNode) -> bool:
    return len(node.inputs) == 1 and (node.operator == "Identity" or (node.operator == "Cast" and node.attributes.get("to") in REALS))


@dataclass(frozen=True, kw_only=True)
class Search:
    """The nodes of a network by what they compute, and its constants."""

    producers: Mapping[str, OnnxNode]
    constants: Mapping[str, Array]

    def finder(self) -> Finder:
        return Finder(producers=self.producers, constants=self.constants)

    def found(self, node: OnnxNode) -> Iterator[Found]:
        """All readings of the node as the last of a normalization, and the nodes that it then stands for beside itself."""
        if node.operator == "Add" and len(node.inputs) == 2:
            for product, rest in _both_ways(node):
                yield from self._of_moments(node, product, rest)
        elif node.operator == "Div" and len(node.inputs) == 2:
            yield from self._quotient(node, node.inputs[0], partial(Finder.divisor, name=node.inputs[1]))
        elif node.operator == "Mul" and len(node.inputs) == 2:
            for dividend, factor in _both_ways(node):
                yield from self._quotient(node, dividend, partial(Finder.reciprocal, name=factor))

    def _quotient(self, node: OnnxNode, dividend: str, read: Callable[[Finder], Divisor | None]) -> Iterator[Found]:
        finder = self.finder()
        divisor = read(finder)
        if divisor is None:
            return
        inner = list(finder.inner)
        centered = finder.mean_taken(dividend)
        if centered is not None and finder.centers(divisor, centered[0]) and centered[1] == divisor.axes:
            yield _normalization(node, (centered[0],), divisor, True), finder.inner
        if finder.source(divisor.squared) == finder.source(dividend):
            yield _normalization(node, (dividend,), divisor, False), inner

    def _of_moments(self, node: OnnxNode, product: str, rest: str) -> Iterator[Found]:
        """x * i + (offset - mean * i), where i is the reciprocal, or that times a constant scale."""
        start = self.finder()
        outer, difference = start.made(product, "Mul"), start.made(rest, "Sub", "Neg")
        subtracted = None if difference is None else start.made(difference.inputs[-1], "Mul")
        if outer is None or difference is None or subtracted is None or len(outer.inputs) != 2 or len(subtracted.inputs) != 2:
            return
        offset = difference.inputs[0] if difference.operator == "Sub" else ""
        for x, inverse in _both_ways(outer):
            for mean, other in _both_ways(subtracted):
                finder = replace(start, inner=list(start.inner))
                axes, scaled = finder.mean_of(mean, x), finder.scaled(inverse)
                if finder.source(inverse) != finder.source(other) or axes is None or (offset and finder.array(offset) is None):
                    continue
                divisor = finder.reciprocal(scaled[0])
                if divisor is not None and divisor.axes == axes and finder.centers(divisor, x):
                    yield _normalization(node, (x, scaled[1], offset), divisor, True), finder.inner


Found = tuple[Normalization, list[OnnxNode]]


def _both_ways(node: OnnxNode) -> tuple[Sequence[str], Sequence[str]]:
    return node.inputs, node.inputs[::-1]


def _normalization(node: OnnxNode, inputs: tuple[str, ...], divisor: Divisor, centered: bool) -> Normalization:
    return Normalization(
        name=node.name,
        operator="LayerNormalization" if centered else "RMSNormalization",
        inputs=inputs,
        outputs=node.outputs,
        opset=node.opset,
        attributes={},
        proto=node.proto,
        divisor=divisor,
        centered=centered,
    )


def _computed(nodes: Sequence[OnnxNode], constants: Mapping[str, Array]) -> set[str]:
    """The tensors that depend on an input of the network."""
    fixed = set(constants)
    for node in nodes:
        if all(name in fixed for name in node.inputs if name):
            fixed.update(node.outputs)
    return {name for node in nodes for name in node.outputs} - fixed


def find_normalizations(nodes: Sequence[OnnxNode], constants: Mapping[str, Array], outputs: Collection[str], rounded: Collection[str]) -> list[OnnxNode]:
    """The nodes in order, with those that make up a normalization as one `Normalization` each. Where another node, or an output of the
    network, reads what lies in between, or it is `rounded`, all stays as it is; so does what is computed of constants alone."""
    computed = _computed(nodes, constants)
    search = Search(producers={node.output: node for node in nodes if node.outputs}, constants=constants)
    result = list(nodes)
    for node in nodes:
        for found, inner in search.found(node) if node.output in computed else ():
            replaced = {id(part) for part in inner}
            names = tuple(other.name for other in nodes if other.name and (other is node or id(other) in replaced))
            fewer = needed([replace(found, parts=names) if other is node else other for other in result], outputs)
            if not any(part.output in rounded for part in inner) and not any(id(other) in replaced for other in fewer):
                result = fewer
                break
    return result
