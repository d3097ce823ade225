"""Remove nodes that copy their input."""

from __future__ import annotations

from hwgen.ir.graph import Graph, Node
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.move import Move
from hwgen.ops.pad import Pad
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice
from hwgen.optimize.fold_batch_norm import is_affine
from hwgen.optimize.rewrite import bypass


def remove_identity(graph: Graph) -> Graph:
    """Readers of a copy read the original. A graph keeps at least one node: its last copy stays."""
    weights_are_codes = any(value.quantization is not None for value in graph.values.values())
    for node in graph.nodes:
        current = graph.producer(node.output)
        if current is not None and len(graph.nodes) > 1 and is_identity(graph, current, weights_are_codes=weights_are_codes):
            graph = bypass(graph, current)
    return graph


def is_identity(graph: Graph, node: Node, *, weights_are_codes: bool = False) -> bool:
    """Output equals input, element by element, for every input. An output with a quantization of its own is rounded again. A convolution
    whose `weights_are_codes` multiplies by a scale that is not known here."""
    op, quantization = node.op, graph.values[node.output].quantization
    if quantization is not None and quantization != graph.values[node.inputs[0]].quantization:
        return False
    if isinstance(op, Pad):
        return not any(op.pads)
    if isinstance(op, DepthToSpace):
        return op.block == 1
    if isinstance(op, Resize):
        return op.factors == (1, 1)
    if isinstance(op, Slice):
        return op.counts == graph.values[node.inputs[0]].type.shape
    if isinstance(op, Concat):
        return len(node.inputs) == 1
    if isinstance(op, Clamp):
        return op.clamp == UNLIMITED
    if isinstance(op, Move):
        return not op.steps
    if isinstance(op, MaxPool | AveragePool):
        return op.window.is_pointwise and op.clamp == UNLIMITED
    if isinstance(op, Conv) and is_affine(node) and not weights_are_codes:
        return op.clamp == UNLIMITED and bool((op.weight == 1).all() and not op.bias.any())
    return False
