"""Graph -> the accelerator's operations in order: an Add or a Lookup joins the operation that produces one of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwgen.ir.graph import Graph, Node
from hwgen.ops.add import Add
from hwgen.ops.base import Window
from hwgen.ops.concat import Concat
from hwgen.ops.interleave import Interleave
from hwgen.ops.lookup import Lookup
from hwgen.schedule.storage import window_of

IN_PLACE = Concat | Interleave


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One or more CONV commands that compute value `output`. `main` computes from `input`; `add` (if any) adds value `residual`; `lookup`
    (if any) is a function of the result.

    `main` is None for an addition or a lookup that stands alone: `input` itself is the first operand.
    """

    main: Node | None
    add: Node | None
    lookup: Node | None
    input: str
    residual: str | None
    output: str

    @property
    def nodes(self) -> tuple[Node, ...]:
        return tuple(node for node in (self.main, self.add, self.lookup) if node is not None)

    @property
    def window(self) -> Window:
        """What is read of the input around each output pixel."""
        return window_of(self.main.op if self.main else None)

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,) if self.residual is None else (self.input, self.residual)


def operations(graph: Graph) -> tuple[Operation, ...]:
    """In topological order. Concatenations and interleavings have no operation: their inputs are written in place."""
    order = {node.output: index for index, node in enumerate(graph.nodes)}
    fused: dict[str, Node] = {}
    for node in graph.nodes:
        if isinstance(node.op, Add):
            main = _fusable_producer(graph, node, order, fused)
            if main is not None:
                fused[main.output] = node
    lookups = {node.inputs[0]: node for node in graph.nodes if isinstance(node.op, Lookup) and _joins_producer(graph, node)}
    absorbed = {node.output for node in (*fused.values(), *lookups.values())}
    firsts = (node for node in graph.nodes if node.output not in absorbed and not isinstance(node.op, IN_PLACE))
    return tuple(_operation(node, fused.get(node.output), lookups) for node in firsts)


def _joins_producer(graph: Graph, lookup: Node) -> bool:
    """Nothing but this lookup reads the value that it reads, and an operation without a lookup of its own computes that."""
    (name,) = lookup.inputs
    producer = graph.producer(name)
    return producer is not None and not isinstance(producer.op, IN_PLACE | Lookup) and len(graph.consumers(name)) == 1 and not graph.is_output(name)


def _fusable_producer(graph: Graph, add: Node, order: dict[str, int], fused: dict[str, Node]) -> Node | None:
    """The later producer of the two inputs, if its result is used by nothing but this addition."""
    latest = max(add.inputs, key=lambda name: order.get(name, -1))
    producer = graph.producer(latest)
    if producer is None or isinstance(producer.op, IN_PLACE | Add | Lookup) or latest in fused:
        return None
    if add.inputs[0] == add.inputs[1] or len(graph.consumers(latest)) != 1 or graph.is_output(latest):
        return None
    return producer


def _operation(node: Node, add: Node | None, lookups: Mapping[str, Node]) -> Operation:
    """The one that begins with `node`."""
    if isinstance(node.op, Lookup):
        return Operation(main=None, add=None, lookup=node, input=node.inputs[0], residual=None, output=node.output)
    lookup = lookups.get((add or node).output)
    output = (lookup or add or node).output
    if isinstance(node.op, Add):
        return Operation(main=None, add=node, lookup=lookup, input=node.inputs[0], residual=node.inputs[1], output=output)
    residual = None if add is None else next(name for name in add.inputs if name != node.output)
    return Operation(main=node, add=add, lookup=lookup, input=node.inputs[0], residual=residual, output=output)
