"""Fold scales and offsets per channel (batch normalization, biases, constants) into a convolution before or behind them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray
from hwgen.ops.base import UNLIMITED
from hwgen.ops.conv import Conv
from hwgen.optimize.rewrite import bypass, merge, only_reader, with_node


def fold_batch_norm(graph: Graph) -> Graph:
    """Import writes every x * scale + offset as a 1x1 depthwise Conv; fold each where the meaning stays the same but for float rounding.

    Into the Conv before it, when that is read by nothing else and does not clamp; else into the Convs behind it, when all readers
    are Convs that pad nothing (padding would have to become the offset). Otherwise it stays, as it does where the value between the
    two is quantized: folding would leave out a rounding.
    """
    for node in graph.nodes:
        current = graph.producer(node.output)  # earlier folds may have replaced or removed it
        if current is not None and is_affine(current):
            graph = _fold(graph, current)
    return graph


def is_affine(node: Node) -> bool:
    """The node is y = clamp(x * scale + offset) with one scale and one offset per channel."""
    return isinstance(node.op, Conv) and node.op.window.is_pointwise and node.op.is_lane_wise and not node.op.is_transposed


def _fold(graph: Graph, node: Node) -> Graph:
    affine = node.op
    assert isinstance(affine, Conv)
    before = graph.producer(node.inputs[0])
    closed = before is None or graph.values[before.output].quantization is not None or only_reader(graph, before) is None
    if before is not None and not closed and isinstance(before.op, Conv) and before.op.clamp == UNLIMITED:
        return merge(graph, before, node, _after(before.op, affine))
    readers = graph.consumers(node.output)
    if affine.clamp != UNLIMITED or graph.is_output(node.output) or graph.values[node.output].quantization is not None or not readers:
        return graph
    if all(isinstance(reader.op, Conv) and not ((any(reader.op.window.pads) or reader.op.is_transposed) and affine.bias.any()) for reader in readers):
        for reader in readers:
            assert isinstance(reader.op, Conv)
            graph = with_node(graph, replace(reader, op=_before(affine, reader.op), source=node.source + reader.source))
        return bypass(graph, next(kept for kept in graph.nodes if kept.output == node.output))
    return graph


def _after(conv: Conv, affine: Conv) -> Conv:
    """conv, then affine. Products in float64, rounded to float32 once."""
    scale = affine.weight.reshape(-1).astype(np.float64)
    return replace(
        conv,
        weight=_rounded(conv.weight * scale[:, None, None, None]),
        bias=_rounded(conv.bias * scale + affine.bias),
        clamp=affine.clamp,
        moments=affine.moments or _moments_after(conv, affine),
    )


def _moments_after(conv: Conv, affine: Conv) -> tuple[FloatArray, FloatArray] | None:
    if conv.moments is None:
        return None
    scale = affine.weight.reshape(-1)
    return _rounded(conv.moments[0] * scale + affine.bias), _rounded(conv.moments[1] * np.abs(scale))


def _before(affine: Conv, conv: Conv) -> Conv:
    """affine, then conv without padding."""
    inputs = conv.weight.shape[3]
    groups = np.repeat(np.arange(conv.group), conv.channels // conv.group)  # of each output channel
    scale = affine.weight.reshape(conv.group, inputs).astype(np.float64)[groups]
    offset = affine.bias.reshape(conv.group, inputs).astype(np.float64)[groups]
    added = (conv.weight * offset[:, None, None, :]).sum(axis=(1, 2, 3))
    return replace(conv, weight=_rounded(conv.weight * scale[:, None, None, :]), bias=_rounded(conv.bias + added))  # the moments stay


def _rounded(array: FloatArray) -> FloatArray:
    with np.errstate(over="ignore"):  # an infinity is reported by verify, with the node's name
        return np.ascontiguousarray(array, np.float32)
