"""The network as frozen data: nodes over named values. A pass is a function Graph -> Graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from hwgen.arith import Rounding
from hwgen.ir.host import HostStep
from hwgen.ir.types import Quantization, TensorType

if TYPE_CHECKING:
    from hwgen.ops.base import Operator


def fresh_name(wish: str, taken: Collection[str]) -> str:
    """`wish`, or `wish` with the first number that makes it a name that is not taken."""
    name, number = wish, 1
    while name in taken:
        name, number = f"{wish}_{number}", number + 1
    return name


@dataclass(frozen=True, kw_only=True)
class Value:
    """One activation: produced once (by a node or as a graph input), read by any number of nodes."""

    name: str
    type: TensorType
    quantization: Quantization | None = None

    @property
    def quantized(self) -> Quantization:
        assert self.quantization is not None, f"value {self.name!r} is not quantized"
        return self.quantization


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator applied to values. `source` names the ONNX nodes that it came from, in order."""

    name: str
    op: Operator
    inputs: tuple[str, ...]
    output: str
    source: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphInput:
    """A network input. `steps` turn the user's array of `shape` (batch first, batch dimension as -1) into the channels-last `value`."""

    name: str
    shape: tuple[int, ...]
    dtype: str  # NumPy name of the ONNX element type
    value: str
    steps: tuple[HostStep, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GraphOutput:
    """A network output. `steps` turn the channels-last real array of `value` into what the ONNX model returns, of `shape`."""

    name: str
    shape: tuple[int, ...]
    value: str
    steps: tuple[HostStep, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What the integer meaning depends on besides scales and weights."""

    multiplier_bits: int = 16
    rounding: Rounding = Rounding.HALF_EVEN


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes in topological order. `values` holds every activation by name. Names are the model's own: sanitize before any output."""

    name: str
    inputs: tuple[GraphInput, ...]
    outputs: tuple[GraphOutput, ...]
    nodes: tuple[Node, ...]
    values: Mapping[str, Value]
    arithmetic: Arithmetic = field(default_factory=Arithmetic)

    def producer(self, value: str) -> Node | None:
        """The node that computes `value`; None for a graph input."""
        return next((node for node in self.nodes if node.output == value), None)

    def consumers(self, value: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if value in node.inputs)

    def is_output(self, value: str) -> bool:
        return any(output.value == value for output in self.outputs)

    def input_types(self, node: Node) -> tuple[TensorType, ...]:
        return tuple(self.values[name].type for name in node.inputs)

    def with_nodes(self, nodes: tuple[Node, ...], values: Mapping[str, Value] | None = None) -> Graph:
        return replace(self, nodes=nodes, values=self.values if values is None else values)
