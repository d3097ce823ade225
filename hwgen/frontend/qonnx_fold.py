"""Scales and offsets between quantizers (batch normalization, biases, factors), folded into the convolutions whose weights are codes.

Weights stay integers; what they are multiplied by, and what is added, is kept beside them in float64.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.errors import Unsupported, UnsupportedError
from hwgen.ir.graph import Graph, Node
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED
from hwgen.ops.conv import Conv
from hwgen.optimize.fold_batch_norm import is_affine
from hwgen.optimize.rewrite import merge, only_reader, with_node

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scaled:
    """y = scale * (products of codes) + offset, arrays (C,); `scale` does not hold that of the weights themselves."""

    scale: Reals
    offset: Reals


def averages_as_products(graph: Graph) -> tuple[Graph, dict[str, Reals]]:
    """Average poolings with one divisor, as convolutions with weights 1, and the scale (C,) of these, by the number of their ONNX node: what
    stands between them and the next quantizer can be folded then."""
    scales, nodes = {}, []
    for node in graph.nodes:
        op, kind = node.op, graph.values[node.inputs[0]].type
        if isinstance(op, AveragePool) and len(np.unique(op.divisors(kind))) == 1 and op.clamp == UNLIMITED:
            scales[node.source[0]] = np.full(kind.channels, 1 / int(op.divisors(kind).flat[0]))
            weight = np.ones((kind.channels, *op.window.kernel, 1), np.float32)
            node = replace(node, op=Conv(weight=weight, bias=np.zeros(kind.channels, np.float32), window=op.window, group=kind.channels))
        nodes.append(node)
    return graph.with_nodes(tuple(nodes)), scales


def fold_scales(graph: Graph, products: Collection[str], weight_scales: Mapping[str, Reals]) -> tuple[Graph, dict[str, Scaled]]:
    """The graph with such nodes merged into products, and what was merged, by the number of the product's ONNX node.

    `graph` is as imported, one node per ONNX node. Raises UnsupportedError for scales that differ between a product's input channels.
    """
    found: dict[str, Scaled] = {}
    problems = []
    for node in graph.nodes:
        current = graph.producer(node.output)
        if current is None or not isinstance(current.op, Conv) or current.source[0] not in products or current.source[0] in found:
            continue
        number = current.source[0]
        scaled = Scaled(scale=np.ones(current.op.channels), offset=current.op.bias.astype(np.float64))
        graph, current, problem, scaled = _before(graph, current, scaled, products, weight_scales.get(number))
        problems += [problem] if problem is not None else []
        graph, scaled = _behind(graph, current, scaled, products)
        found[number] = scaled
    if problems:
        raise UnsupportedError(problems)
    return graph, found


def _is_factor(node: Node | None, graph: Graph, products: Collection[str]) -> bool:
    """A scale and an offset per channel of a value."""
    return node is not None and is_affine(node) and node.source[0] not in products


def _numbers(node: Node) -> tuple[Reals, Reals]:
    assert isinstance(node.op, Conv)
    return node.op.weight.reshape(-1).astype(np.float64), node.op.bias.astype(np.float64)


def _behind(graph: Graph, node: Node, scaled: Scaled, products: Collection[str]) -> tuple[Graph, Scaled]:
    while graph.values[node.output].quantization is None and (reader := only_reader(graph, node)) is not None and _is_factor(reader, graph, products):
        factor, addend = _numbers(reader)
        scaled = Scaled(scale=scaled.scale * factor, offset=scaled.offset * factor + addend)
        graph = merge(graph, node, reader, node.op)
        node = next(kept for kept in graph.nodes if kept.output == reader.output)
    return graph, scaled


def _before(
    graph: Graph, node: Node, scaled: Scaled, products: Collection[str], weight_scale: Reals | None
) -> tuple[Graph, Node, Unsupported | None, Scaled]:
    """One scale for all input channels is the product's; an offset adds what the weights make of it, where nothing is padded."""
    op, before = node.op, graph.producer(node.inputs[0])
    assert isinstance(op, Conv)
    while before is not None and _is_factor(before, graph, products) and graph.values[before.output].quantization is None:
        factor, addend = _numbers(before)
        if (factor != factor[0]).any() or factor[0] == 0 or (addend.any() and any(op.window.pads)) or weight_scale is None:
            reason = "its input is scaled by other factors in each channel, or shifted before padding, behind the quantizer; quantize behind that"
            return graph, node, Unsupported(node=node.name, operator="Conv", reason=reason), scaled
        inputs = op.weight.shape[3]
        groups = np.repeat(np.arange(op.group), op.channels // op.group)
        added = (op.weight.astype(np.float64) * addend.reshape(op.group, inputs)[groups][:, None, None, :]).sum(axis=(1, 2, 3)) * weight_scale
        scaled = Scaled(scale=scaled.scale * factor[0], offset=scaled.offset + scaled.scale * added)
        node = replace(node, inputs=before.inputs)
        graph = with_node(graph, node)
        before = graph.producer(node.inputs[0])
    return graph, node, None, scaled

