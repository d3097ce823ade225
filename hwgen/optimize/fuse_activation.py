"""Fuse Relu, Clip and the like into the operator that computes their operand."""

from __future__ import annotations

from dataclasses import replace

from hwgen.ir.graph import Graph, Node
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Interval, Operator, clamp_of, narrowed
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.elementwise import Div, Mul
from hwgen.ops.matmul import MatMul
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.normalize import Normalize
from hwgen.optimize.fold_batch_norm import is_affine
from hwgen.optimize.rewrite import merge, only_reader


def fuse_activation(graph: Graph) -> Graph:
    """A Clamp becomes the `clamp` of the operator before it, when nothing else reads that operator's value. So does a limit per channel,
    which import writes as a 1x1 depthwise Conv; only a Conv takes it."""
    for node in (*reversed(graph.nodes), *graph.nodes):  # of two in a row the last goes first: only behind it may be a quantization
        current = graph.producer(node.output)
        if current is not None and (isinstance(current.op, Clamp) or _limits_a_conv(graph, current)):
            graph = _fuse(graph, current, clamp_of(current.op))
    return graph


def _limits_a_conv(graph: Graph, node: Node) -> bool:
    """The node is y = clamp(x) behind a Conv, and no quantization lies between them, or the one that its own result has."""
    before = graph.producer(node.inputs[0])
    if not is_affine(node) or not isinstance(node.op, Conv) or before is None or not isinstance(before.op, Conv):
        return False
    unchanged = bool((node.op.weight == 1).all() and not node.op.bias.any())
    return unchanged and graph.values[before.output].quantization in (None, graph.values[node.output].quantization)


def _fuse(graph: Graph, node: Node, clamp: Interval) -> Graph:
    before = graph.producer(node.inputs[0])
    if before is None or only_reader(graph, before) is None or _rounds_between(graph, before, node):
        return graph
    op = _clamped(before.op, clamp)
    return graph if op is None else merge(graph, before, node, op)


def _rounds_between(graph: Graph, before: Node, node: Node) -> bool:
    """The value between the two has a quantization of its own: fused, one rounding would be left out."""
    own, last = graph.values[before.output].quantization, graph.values[node.output].quantization
    return own is not None and last is not None and (own.scale, own.zero_point) != (last.scale, last.zero_point)


def _clamped(op: Operator, clamp: Interval) -> Operator | None:
    """`op` whose result is limited to `clamp` too; None for operators without a clamp."""
    if isinstance(op, Conv | Add | MaxPool | AveragePool | Clamp | Mul | Div | MatMul | Normalize):
        return replace(op, clamp=narrowed(op.clamp, clamp))  # type: ignore[arg-type]  # per channel only where op is a Conv
    return None
