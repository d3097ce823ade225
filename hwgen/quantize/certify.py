"""Certificates: proof, layer by layer, that ONNX Runtime's float32 formulas and the integer arithmetic give the same codes.

The formulas are those of ONNX Runtime's integer kernels (QLinearConv, QLinearAdd, QLinearGlobalAveragePool, QLinearAveragePool):
convolutions and poolings are proven on every threshold of the reachable accumulators, additions on all 65,536 pairs of codes.
A bias with a fraction has no integer kernel: there the certificate is that of the real-valued function, rounded once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import Quantization
from hwgen.layout import Int64Array
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.conv import Conv
from hwgen.ops.integer import accumulator_bounds, add_stage, average_ratio, average_stages, clamp_codes, conv_ratio, is_global, output_stage, placed_bias
from hwgen.ops.staircase import SINGLE_EXACT, Rule, agrees, differing, single_precision_rule


@dataclass(frozen=True, kw_only=True)
class Record:
    """The certificate of one channel of a Conv, one divisor of an AveragePool (channel is the divisor), or one Add (channel 0).

    `differing` is the share of the sums from low to high (of an Add: of pairs of codes) that ONNX Runtime gives another code, by one; None
    where its order of summation decides.
    """

    layer: str
    operator: str
    channel: int
    multiplier: int
    shift: int
    low: int
    high: int
    certified: bool
    differing: float | None = 0.0


def certificates(graph: Graph) -> tuple[Record, ...]:
    """One record for each rounding of the quantized graph, in the order of its nodes."""
    return tuple(record for node in graph.nodes for record in certify(node, graph))


def certify(node: Node, graph: Graph) -> Iterator[Record]:
    """The records of one node; operators that only copy codes have none."""
    if isinstance(node.op, Conv):
        yield from _conv(node, graph)
    elif isinstance(node.op, AveragePool):
        yield from _average_pool(node, graph)
    elif isinstance(node.op, Add):
        yield _add(node, graph)


def _conv(node: Node, graph: Graph) -> Iterator[Record]:
    op, stage = node.op, output_stage(node, graph)
    assert isinstance(op, Conv) and op.weight_scale is not None
    low, high = accumulator_bounds(node, graph)
    ratio = conv_ratio(graph.values[node.inputs[0]].quantized, op.weight_scale, graph.values[node.output].quantized)
    if op.bias_fraction:
        placed = placed_bias(node, graph)
        proven, wrong = placed.exact, placed.wrong
    else:
        rounding, rule = graph.arithmetic.rounding, single_precision_rule(ratio)
        proven = agrees(stage, rounding, rule, low, high)
        wrong = np.zeros(op.channels, np.int64) if proven.all() else differing(stage, rounding, rule, low, high)
    for channel in range(op.channels):
        yield Record(
            layer=node.name,
            operator="Conv",
            channel=channel,
            multiplier=int(stage.multiplier[channel]),
            shift=int(stage.shift[channel]),
            low=int(low[channel]),
            high=int(high[channel]),
            certified=bool(proven[channel]) and not op.is_transposed,  # ONNX Runtime has no integer kernel for these
            differing=_share(proven[channel], wrong[channel], low[channel], high[channel]),
        )


def _share(proven: bool, wrong: int, low: int, high: int) -> float:
    return 0.0 if proven else float(wrong) / float(high - low + 1)


def _average_pool(node: Node, graph: Graph) -> Iterator[Record]:
    x, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    for count, stage in average_stages(node, graph)[1].items():
        first = stage.only(0)
        low, high = (np.array([(end - x.zero_point) * count], np.int64) for end in (INT8.min, INT8.max))
        rule = single_precision_rule(np.array([average_ratio(x, y, count)])) if is_global(node, graph) else window_rule(x, y, count)
        proven = rule is not None and bool(agrees(first, graph.arithmetic.rounding, rule, low, high)[0])
        yield Record(
            layer=node.name,
            operator="AveragePool",
            channel=count,
            multiplier=int(first.multiplier[0]),
            shift=int(first.shift[0]),
            low=int(low[0]),
            high=int(high[0]),
            certified=proven,
            differing=_share(proven, int(differing(first, graph.arithmetic.rounding, rule, low, high)[0]), int(low[0]), int(high[0])) if rule else None,
        )


def window_rule(x: Quantization, y: Quantization, count: int) -> Rule | None:
    """ONNX Runtime's QLinearAveragePool: real values summed in float32, divided by the count, then by the scale, the zero point inside
    the rounding. None where the float32 sum would round, because the result then depends on the order of summation."""
    significand = int(np.ldexp(np.frexp(np.float64(x.scale))[0], 24))
    trailing = (significand & -significand).bit_length() - 1
    if (significand >> trailing) * 255 * count >= SINGLE_EXACT:
        return None
    zero_point = np.float32(y.zero_point + y.outside_offset)

    def rule(total: Int64Array) -> npt.NDArray[np.floating]:
        mean = total.astype(np.float32) * np.float32(x.scale) / np.float32(count)
        rounded: npt.NDArray[np.float32] = np.rint(mean / np.float32(y.scale) + zero_point) - zero_point
        return rounded

    return rule


def _add(node: Node, graph: Graph) -> Record:
    stage = add_stage(node, graph)
    table = stage.table(graph.arithmetic)
    share = max(float((table != other).mean()) for other in _add_formulas(node, graph))
    return Record(
        layer=node.name,
        operator="Add",
        channel=0,
        multiplier=max(stage.multiplier_a, stage.multiplier_b),
        shift=stage.shift,
        low=INT8.min,
        high=INT8.max,
        certified=share == 0,
        differing=share,
    )


def _add_formulas(node: Node, graph: Graph) -> Iterator[npt.NDArray[np.int8]]:
    """(256, 256) results of QLinearAdd for all pairs of codes, with and without fused multiply-add (builds differ in that)."""
    assert isinstance(node.op, Add)
    a, b = (graph.values[name].quantized for name in node.inputs)
    y = graph.values[node.output].quantized
    ratio_a, ratio_b = np.float32(a.scale) / np.float32(y.scale), np.float32(b.scale) / np.float32(y.scale)
    zero_a, zero_b, zero_y = (np.float32(q.zero_point + q.outside_offset) for q in (a, b, y))
    code_a = np.arange(256, dtype=np.float32)[:, None] - np.float32(128 - a.outside_offset)
    code_b = np.arange(256, dtype=np.float32)[None, :] - np.float32(128 - b.outside_offset)
    low, high = clamp_codes(node.op.clamp, y)
    fixed = zero_y - (ratio_a * zero_a + ratio_b * zero_b)
    with_a = (code_a.astype(np.float64) * ratio_a + fixed).astype(np.float32)
    fused = (code_b.astype(np.float64) * ratio_b + with_a).astype(np.float32)
    for total in (code_b * ratio_b + (code_a * ratio_a + fixed), fused):
        yield np.clip(np.rint(total) - y.outside_offset, low, high).astype(np.int8)
