"""The integer golden model: what every other execution must reproduce bit for bit, fast enough for whole data sets.

Convolutions run through BLAS in float32 where every partial sum is an integer below 2**24, and in float64 elsewhere: both exact.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.blas import single_threaded
from hwgen.errors import DataError
from hwgen.ir.evaluate import array_of, require_one_batch, to_canonical
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, IntArray
from hwgen.layout import Int8Array
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import padded
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.integer import (
    OutputStage,
    accumulator_bounds,
    add_stage,
    average_stages,
    folded_bias,
    identity_stage,
    lookup_table,
    output_stage,
    pad_code,
    weight_bounds,
)
from hwgen.ops.interleave import Interleave
from hwgen.ops.lookup import Lookup
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.processor import PROCESSOR_OPERATORS, processor_kernel
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice
from hwgen.ops.staircase import SINGLE_EXACT, exact_in_single_precision

Kernel = Callable[..., Int8Array]
BLOCK_BYTES = 8 << 20  # of float patches per block of the batch: stays near the caches


def golden_node(node: Node, graph: Graph, *arrays: Int8Array) -> Int8Array:
    """int8 result (N, H, W, C) of one node from its int8 inputs."""
    kernel = prepare(node, graph)
    count, block = len(arrays[0]), _block([node], graph)
    with single_threaded():
        if count <= block:
            return kernel(*arrays)
        return np.concatenate([kernel(*(array[start : start + block] for array in arrays)) for start in range(0, count, block)])


def golden(graph: Graph, arrays: Mapping[str, FloatArray], *, keep: Collection[str] | None = None) -> dict[str, Int8Array]:
    """Run the quantized network on the user's arrays (by input name, as the model takes them).

    Returns int8 arrays (N, H, W, C) by value name: the outputs' values, or those in `keep` (`graph.values` keeps all).
    Raises DataError for a missing, misshapen or not finite input.
    """
    feeds = {entry.value: to_canonical(entry, array_of(entry, arrays)) for entry in graph.inputs}
    require_one_batch(feeds)
    for name, feed in feeds.items():
        if not np.isfinite(feed).all():
            raise DataError(f"input {name!r}: must hold finite numbers, holds NaN or infinity; clean the data")
    codes = {name: graph.values[name].quantized.quantize(feed) for name, feed in feeds.items()}
    return golden_codes(graph, codes, keep=keep)


def golden_codes(graph: Graph, codes: Mapping[str, Int8Array], *, keep: Collection[str] | None = None) -> dict[str, Int8Array]:
    """As `golden`, from the int8 arrays (N, H, W, C) of the input values."""
    kept = {output.value for output in graph.outputs} if keep is None else set(keep)
    kernels = [(node, prepare(node, graph)) for node in graph.nodes]
    last_use = {name: index for index, node in enumerate(graph.nodes) for name in node.inputs}
    count = len(next(iter(codes.values())))
    results = {name: np.empty((count, *graph.values[name].type.shape), np.int8) for name in kept}
    block = _block(graph.nodes, graph)
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        live = {name: np.ascontiguousarray(array[part]) for name, array in codes.items()}
        for index, (node, kernel) in enumerate(kernels):
            with single_threaded():
                live[node.output] = kernel(*(live[name] for name in node.inputs))
            for name in {*node.inputs, node.output}:
                if name in live and last_use.get(name, -1) <= index:
                    _store(results, name, part, live.pop(name))
        for name, array in live.items():
            _store(results, name, part, array)
    return results


def _store(results: dict[str, Int8Array], name: str, part: slice, array: Int8Array) -> None:
    if name in results:
        results[name][part] = array


def _block(nodes: Sequence[Node], graph: Graph) -> int:
    """How many inputs of the batch the nodes take at once."""
    return max(1, BLOCK_BYTES // max(1, max((_patch_bytes(node, graph) for node in nodes), default=1)))


def _patch_bytes(node: Node, graph: Graph) -> int:
    """Float32 bytes that one input of the batch needs at this node."""
    y = graph.values[node.output].type
    if isinstance(node.op, Conv) and not node.op.is_depthwise:
        return 4 * (y.height * y.width * int(np.prod(node.op.weight.shape[1:])) * node.op.group + y.elements)
    return 8 * max(y.elements, *(graph.values[name].type.elements for name in node.inputs))


def prepare(node: Node, graph: Graph) -> Kernel:
    """The function int8 arrays -> int8 array of a node, with everything that depends on weights computed once."""
    for kind, build in _BUILDERS.items():
        if isinstance(node.op, kind):
            return build(node, graph)
    raise AssertionError(f"no golden meaning for {type(node.op).__name__}")


def _requantize(node: Node, graph: Graph, stage: OutputStage) -> Callable[[npt.NDArray[Any]], Int8Array]:
    """Accumulators without the folded bias -> int8. In float32 where that is proven equal, for speed."""
    bias = folded_bias(node, graph)
    low, high = accumulator_bounds(node, graph)
    if not exact_in_single_precision(stage, graph.arithmetic.rounding, low, high):
        return lambda acc: stage.apply(acc.astype(np.float64) + bias, graph.arithmetic)
    single_bias, ratio = bias.astype(np.float32), stage.ratio.astype(np.float32)
    zero_point, least, greatest = (_common(codes) for codes in (stage.zero_point, stage.low, stage.high))

    def fast(acc: npt.NDArray[Any]) -> Int8Array:
        y = acc if acc.dtype == np.float32 else acc.astype(np.float32)
        y += single_bias
        y *= ratio
        np.rint(y, out=y)
        y += zero_point
        np.clip(y, least, greatest, out=y)
        return y.astype(np.int8)

    return fast


def _common(codes: IntArray) -> npt.NDArray[np.float32]:
    """Per-channel codes (C,), or one scalar where they are all equal: broadcasting a scalar is faster."""
    return codes.astype(np.float32) if (codes != codes[0]).any() else np.array(codes[0], np.float32)


def _conv(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Conv)
    zero_point = graph.values[node.inputs[0]].quantized.zero_point
    low, high = weight_bounds(op.weight)
    kind = np.float32 if max(-int(low.min()), int(high.max())) <= SINGLE_EXACT else np.float64
    # The float operator without bias and clamp is an exact integer convolution once padding is the zero point.
    weight = op.weight.astype(kind)
    requantize = _requantize(node, graph, output_stage(node, graph))
    sums = op.depthwise_sums if op.is_depthwise else op.dense_sums
    return lambda x: requantize(sums(op.image(x.astype(kind), zero_point), weight, zero_point))


def _average_pool(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, AveragePool)
    zero_point = graph.values[node.inputs[0]].quantized.zero_point
    counts, stages = average_stages(node, graph)
    requantize = {count: _requantize(node, graph, stage) for count, stage in stages.items()}

    def kernel(x: Int8Array) -> Int8Array:
        total = op.window.sums(x, zero_point, np.int32)
        y = np.empty(total.shape, np.int8)
        for count, rule in requantize.items():
            y[:, counts == count] = rule(total[:, counts == count])
        return y

    return kernel


def _limit(stage: OutputStage, y: Int8Array) -> Int8Array:
    """The clamp of an operator that keeps codes."""
    low, high = int(stage.low[0]), int(stage.high[0])
    return y if low == INT8.min and high == INT8.max else np.minimum(np.maximum(y, np.int8(low)), np.int8(high))


def _max_pool(node: Node, graph: Graph) -> Kernel:
    op, stage = node.op, identity_stage(node, graph)
    assert isinstance(op, MaxPool)
    return lambda x: _limit(stage, op.window.maximum(x, INT8.min))


def _add(node: Node, graph: Graph) -> Kernel:
    return add_stage(node, graph).lookup(graph.arithmetic)


def _pad(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Pad)
    fill = pad_code(node, graph)
    return lambda x: np.ascontiguousarray(padded(x, op.pads, fill))


def _clamp(node: Node, graph: Graph) -> Kernel:
    stage = identity_stage(node, graph)
    return lambda x: _limit(stage, x).copy()


def _concat(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Concat)
    return lambda *arrays: np.concatenate(arrays, axis=op.axis + 1)


def _slice(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Slice)
    return lambda x: np.ascontiguousarray(op.part(x), np.int8)


def _resize(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Resize)
    return op.enlarged


def _depth_to_space(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, DepthToSpace)
    return op.spread


def _interleave(node: Node, graph: Graph) -> Kernel:
    op = node.op
    assert isinstance(op, Interleave)
    return op.join


def _lookup(node: Node, graph: Graph) -> Kernel:
    table = lookup_table(node, graph)
    return lambda x: table.take(x.view(np.uint8) ^ np.uint8(0x80))


_BUILDERS: dict[type, Callable[[Node, Graph], Kernel]] = {
    Conv: _conv,
    Add: _add,
    MaxPool: _max_pool,
    AveragePool: _average_pool,
    Concat: _concat,
    Pad: _pad,
    Clamp: _clamp,
    Lookup: _lookup,
    Slice: _slice,
    Resize: _resize,
    DepthToSpace: _depth_to_space,
    Interleave: _interleave,
    **dict.fromkeys(PROCESSOR_OPERATORS, processor_kernel),
}
