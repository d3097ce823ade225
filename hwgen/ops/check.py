"""The rules that a quantized graph must keep, whoever made it: hwgen's quantizer or a file."""

from __future__ import annotations

import numpy as np

from hwgen.arith import INT8
from hwgen.errors import QuantizationError
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import Quantization
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.elementwise import Extremum
from hwgen.ops.integer import ACCUMULATOR, accumulator_bounds, add_stage, average_stages, output_stage, title
from hwgen.ops.interleave import Interleave
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.move import Move
from hwgen.ops.pad import Pad
from hwgen.ops.processor import check_processor
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice

COPYING = (MaxPool, Clamp, Concat, Pad, Slice, Resize, DepthToSpace, Interleave, Move, Extremum)  # inputs and output share one quantization
MAX_FRACTION = 24  # bits of a bias behind the point
GREATEST_WEIGHT = 255  # of 8-bit codes less a zero point
LEAST_NORMAL = np.finfo(np.float32).tiny


def check_quantized(graph: Graph) -> None:
    """Raises QuantizationError for a value without quantization, an illegal scale or zero point, weights that are not integers,
    unequal quantizations around an operator that copies codes, a ratio of scales out of range, or an accumulator beyond int32."""
    for value in graph.values.values():
        if value.quantization is None:
            raise QuantizationError(f"value {value.name!r}: must have a quantization, has none; quantize the whole graph")
        check_quantization(value.quantization, f"value {value.name!r}")
    for node in graph.nodes:
        _check_node(node, graph)


def check_scale(scale: float, where: str) -> None:
    """Raises QuantizationError unless the scale is a positive normal float32."""
    if not (np.isfinite(scale) and scale >= LEAST_NORMAL):
        raise QuantizationError(f"{where}: the scale must be a positive normal float32, not {scale:.9g}; quantize again")


def check_quantization(quantization: Quantization, where: str) -> None:
    """Raises QuantizationError for an illegal scale or a zero point outside int8."""
    check_scale(float(quantization.scale), where)
    if not INT8.holds(quantization.zero_point, quantization.zero_point):
        offset = quantization.outside_offset
        raise QuantizationError(f"{where}: the zero point must lie in {offset - 128}..{offset + 127}, not {quantization.zero_point + offset}; quantize again")


def _check_node(node: Node, graph: Graph) -> None:
    if isinstance(node.op, Conv):
        _check_conv(node, node.op)
        output_stage(node, graph)
    elif isinstance(node.op, AveragePool):
        average_stages(node, graph)
    elif isinstance(node.op, Add):
        add_stage(node, graph)
    elif not isinstance(node.op, COPYING):
        check_processor(node, graph)
    elif isinstance(node.op, COPYING):
        output = graph.values[node.output].quantized
        for name in node.inputs:
            q = graph.values[name].quantized
            if (q.scale, q.zero_point) != (output.scale, output.zero_point):
                raise QuantizationError(
                    f"{title(node)}: inputs and output must share one quantization, not {q.scale:.9g} / {q.zero_point} and "
                    f"{output.scale:.9g} / {output.zero_point}; give them equal scales and zero points"
                )
    if isinstance(node.op, Conv | AveragePool):
        low, high = accumulator_bounds(node, graph)
        if low.min() < ACCUMULATOR.min or high.max() > ACCUMULATOR.max:
            raise QuantizationError(f"{title(node)}: the accumulator must fit {ACCUMULATOR}, reaches {low.min()}..{high.max()}; use a larger weight scale")


def _check_conv(node: Node, op: Conv) -> None:
    if op.weight_scale is None or op.weight.dtype not in (np.int8, np.int16) or op.bias.dtype != np.int32:
        raise QuantizationError(f"{title(node)}: weights must be int8 and bias int32, not {op.weight.dtype} and {op.bias.dtype}; quantize the graph")
    if np.abs(op.weight.astype(np.int64)).max(initial=0) > GREATEST_WEIGHT:
        raise QuantizationError(f"{title(node)}: weights must lie in -{GREATEST_WEIGHT}..{GREATEST_WEIGHT}: 8-bit codes less their zero point; quantize again")
    if not 0 <= op.bias_fraction <= MAX_FRACTION:
        raise QuantizationError(f"{title(node)}: the fraction of the bias must have 0..{MAX_FRACTION} bits, not {op.bias_fraction}; quantize again")
    for scale in np.unique(op.weight_scale).tolist():
        check_scale(scale, f"weights of {title(node)}")
