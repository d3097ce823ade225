"""Fuse Relu, Clip and the like into the operator that computes their operand."""

from __future__ import annotations

from dataclasses import replace

from hwgen.ir.graph import Graph, Node
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Operator
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool
from hwgen.optimize.rewrite import merge, only_reader

Interval = tuple[float, float]


def fuse_activation(graph: Graph) -> Graph:
    """A Clamp becomes the `clamp` of the operator before it, when nothing else reads that operator's value."""
    for node in graph.nodes:
        current = graph.producer(node.output)
        if current is not None and isinstance(current.op, Clamp):
            graph = _fuse(graph, current, current.op.clamp)
    return graph


def _fuse(graph: Graph, node: Node, clamp: Interval) -> Graph:
    before = graph.producer(node.inputs[0])
    if before is None or only_reader(graph, before) is None:
        return graph
    op = _clamped(before.op, clamp)
    return graph if op is None else merge(graph, before, node, op)


def _clamped(op: Operator, clamp: Interval) -> Operator | None:
    """`op` whose result is limited to `clamp` too; None for operators without a clamp."""
    if isinstance(op, Conv | Add | MaxPool | AveragePool | Clamp):
        low, high = (min(max(limit, clamp[0]), clamp[1]) for limit in op.clamp)
        return replace(op, clamp=(low, high))
    return None
