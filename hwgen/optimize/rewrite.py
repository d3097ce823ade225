"""Small edits of a frozen graph that the passes share."""

from __future__ import annotations

from dataclasses import replace

from hwgen.ir.graph import Graph, Node, Value
from hwgen.ops.base import Operator


def with_node(graph: Graph, node: Node) -> Graph:
    """`graph` with the node that has `node.output` replaced, and its value's type inferred again."""
    kind = node.op.infer(*graph.input_types(node))
    nodes = tuple(node if old.output == node.output else old for old in graph.nodes)
    return graph.with_nodes(nodes, {**graph.values, node.output: replace(graph.values[node.output], type=kind)})


def merge(graph: Graph, first: Node, second: Node, op: Operator) -> Graph:
    """`first` and its only reader `second` become one node `op` at `first`'s place, which gives `second`'s value."""
    merged = Node(name=second.name, op=op, inputs=first.inputs, output=second.output, source=first.source + second.source)
    nodes = tuple(merged if node is first else node for node in graph.nodes if node is not second)
    return graph.with_nodes(nodes, _without(graph, first.output))


def bypass(graph: Graph, node: Node) -> Graph:
    """Without `node`, whose readers read its input instead."""
    source = node.inputs[0]

    def redirected(other: Node) -> Node:
        return replace(other, inputs=tuple(source if name == node.output else name for name in other.inputs)) if node.output in other.inputs else other

    outputs = tuple(replace(output, value=source) if output.value == node.output else output for output in graph.outputs)
    nodes = tuple(redirected(other) for other in graph.nodes if other is not node)
    return replace(graph, outputs=outputs, nodes=nodes, values=_without(graph, node.output))


def only_reader(graph: Graph, node: Node) -> Node | None:
    """The one node that reads `node`'s value, once; None when there are others, or the value is an output."""
    readers = graph.consumers(node.output)
    if len(readers) != 1 or readers[0].inputs.count(node.output) != 1 or graph.is_output(node.output):
        return None
    return readers[0]


def _without(graph: Graph, value: str) -> dict[str, Value]:
    return {name: kept for name, kept in graph.values.items() if name != value}
