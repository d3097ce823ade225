"""Fuse Pad into the windows of the operators that read it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.graph import Graph, Node
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED, Operator, Pads, Window, clamp_of
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.optimize.rewrite import with_node

LOWEST = -(2.0**68)  # below every value that hwgen can quantize: exporters write a padding of MaxPool as -infinity or the least float32


def fuse_pad(graph: Graph) -> Graph:
    """Each reader of a Pad pads for itself where that means the same; a Pad that nobody reads any more is dead code. Of two Pads in a row
    the last goes first, so that nothing is left for a second time."""
    for node in reversed(graph.nodes):
        if isinstance(node.op, Pad) and min(node.op.pads) >= 0:
            for reader in graph.consumers(node.output):
                op = _padded(graph, node, node.op, reader.op)
                if op is not None and _fits(op, graph, node):
                    graph = with_node(graph, replace(reader, op=op, inputs=node.inputs, source=node.source + reader.source))
    return graph


def _padded(graph: Graph, node: Node, pad: Pad, op: Operator) -> Conv | AveragePool | MaxPool | None:
    """`op` with the padding in its own window; None where that would change its meaning."""
    if isinstance(op, Conv) and pad.value == 0 and not op.is_transposed:
        return replace(op, window=_enlarged(op.window, pad.pads))
    if isinstance(op, AveragePool) and pad.value == 0:
        return replace(op, window=_enlarged(op.window, pad.pads), counted_pads=_sum(op.counted_pads, pad.pads))
    if isinstance(op, MaxPool) and pad.value <= max(LOWEST, _lowest(graph.producer(node.inputs[0]))):
        return replace(op, window=_enlarged(op.window, pad.pads))
    return None


def _fits(op: Conv | AveragePool | MaxPool, graph: Graph, node: Node) -> bool:
    """False for a pooling window that would cover padding only, or pad as much as its kernel, which ONNX forbids."""
    if not isinstance(op, Conv) and any(pad >= op.window.kernel[axis % 2] for axis, pad in enumerate(op.window.pads)):
        return False
    try:
        op.infer(graph.values[node.inputs[0]].type)
    except ModelError:
        return False
    return True


def _lowest(producer: Node | None) -> float:
    """A bound that no element of the producer's value lies below."""
    return float(np.min(clamp_of(producer.op)[0])) if producer else UNLIMITED[0]


def _enlarged(window: Window, pads: Pads) -> Window:
    return replace(window, pads=_sum(window.pads, pads))


def _sum(a: Pads, b: Pads) -> Pads:
    return (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
