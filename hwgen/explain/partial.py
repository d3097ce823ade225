"""Partly quantized execution: a float network in which some values are replaced by what quantization makes of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwgen.blas import single_threaded
from hwgen.ir.evaluate import array_of, blocks, evaluate, from_canonical, require_one_batch
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, Quantization
from hwgen.ops.base import Operator
from hwgen.ops.conv import Conv


def rounded(quantization: Quantization, real: FloatArray) -> FloatArray:
    """`real` as its codes mean it."""
    return quantization.dequantize(quantization.quantize(real))


def with_real_weights(node: Node, graph: Graph) -> Operator:
    """The operator of a quantized graph with its weights and bias as real numbers; others as they are."""
    op = node.op
    if not isinstance(op, Conv) or op.weight_scale is None:
        return op
    scale = np.asarray(op.weight_scale, np.float32)
    unit = scale.astype(np.float64) * float(graph.values[node.inputs[0]].quantized.scale)
    weight = op.weight.astype(np.float32) * scale.reshape(-1, 1, 1, 1)
    return replace(op, weight=weight, bias=np.ldexp(op.bias * unit, -op.bias_fraction).astype(np.float32), weight_scale=None, bias_fraction=0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """A few inputs of a float network with every value that they give, (N, H, W, C) by value name. `part` is their place in the batch."""

    graph: Graph
    part: slice
    arrays: Mapping[str, FloatArray]
    values: Mapping[str, FloatArray]

    @property
    def count(self) -> int:
        return int(self.part.stop - self.part.start)

    def outputs(self, changed: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """The network's outputs, by output name and before a final Softmax, when the values `changed` are these instead. Only what depends
        on them is computed, and nothing is kept longer than it is read."""
        current = dict(changed)
        last_use = {name: index for index, node in enumerate(self.graph.nodes) for name in node.inputs}
        kept = {output.value for output in self.graph.outputs}
        with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
            for index, node in enumerate(self.graph.nodes):
                if node.output not in changed and any(name in current for name in node.inputs):
                    current[node.output] = node.op.reference(*(current.get(name, self.values[name]) for name in node.inputs))
                for name in node.inputs:
                    if last_use[name] == index and name not in kept:
                        current.pop(name, None)
        return {output.name: from_canonical(output, current.get(output.value, self.values[output.value]), softmax=False) for output in self.graph.outputs}

    def with_operator(self, node: Node, op: Operator) -> FloatArray:
        """What `node` gives with another operator in its place, its inputs being float."""
        with single_threaded(), np.errstate(over="ignore", invalid="ignore"):
            return op.reference(*(self.values[name] for name in node.inputs))


def float_blocks(graph: Graph, arrays: Mapping[str, FloatArray]) -> Iterator[Block]:
    """The batch in blocks, small enough for caches and so for any memory, every value of each kept while it is worked on.

    Raises DataError when the arrays do not fit the inputs.
    """
    feeds = {entry.name: array_of(entry, arrays) for entry in graph.inputs}
    for part in blocks(graph, require_one_batch(feeds)):
        piece = {name: feed[part] for name, feed in feeds.items()}
        yield Block(graph=graph, part=part, arrays=piece, values=evaluate(graph, piece, outside=False))
