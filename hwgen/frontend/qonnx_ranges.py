"""Ranges of what a few-bit model leaves in real numbers: its inputs, by data; its outputs, by what the last layer can give."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.frontend.qonnx_fold import Scaled
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, Quantization
from hwgen.ops.base import clamp_of
from hwgen.ops.conv import Conv
from hwgen.ops.integer import channel_clamp_codes

# Standard deviations of an output, its inputs taken as independent and either equally distributed over their codes or nearly all 0. Those
# of a trained layer are correlated: its outputs go farther, and a range that cuts them does more harm than one that rounds them.
DEVIATIONS = 12
DEVIATIONS_IN = 8
_CODES = INT8.max - INT8.min
_LEAST = 2.0**-40


def input_quantization(real: FloatArray) -> Quantization:
    """int8 over the range of the data and 0."""
    return _over(min(float(real.min(initial=0)), 0.0), max(float(real.max(initial=0)), 0.0))


def sensible_reach(node: Node, scaled: Scaled, y: Quantization) -> float:
    """Inputs of this magnitude and random signs, DEVIATIONS_IN times as large as those that take an average output to its limit."""
    op = node.op
    assert isinstance(op, Conv)
    low, high = channel_clamp_codes(op.clamp, y, op.channels)
    limit = np.maximum(high - y.zero_point, y.zero_point - low) * float(y.scale)
    norm = np.abs(scaled.scale) * np.sqrt((op.weight.astype(np.float64) ** 2).reshape(op.channels, -1).sum(1))
    with np.errstate(all="ignore"):
        reach = float(np.nanmedian(np.where(norm > 0, limit / norm, np.nan)))
    return DEVIATIONS_IN * reach if np.isfinite(reach) and reach > 0 else 1.0


def _over(low: float, high: float) -> Quantization:
    scale = max((high - low) / _CODES, _LEAST)
    return Quantization(scale=np.float32(scale), zero_point=int(np.clip(np.rint(INT8.min - low / scale), INT8.min, INT8.max)))


def output_quantization(node: Node, graph: Graph, scaled: Scaled | None) -> Quantization | None:
    """Of the real output of a convolution: one code per sum of products where 256 codes suffice for that, else over what is likely.
    None where nothing is known of it."""
    op, x = node.op, graph.values[node.inputs[0]].quantization
    if not isinstance(op, Conv) or scaled is None or x is None:
        return None
    low, high = (np.float64(code - x.zero_point) for code in _codes(node.inputs[0], graph))
    flat = op.weight.astype(np.float64).reshape(op.channels, -1)
    positive, negative = np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)
    least, most = positive * low + negative * high, positive * high + negative * low
    product = scaled.scale * float(x.scale)
    ends = np.stack([product * least, product * most]) + scaled.offset
    if (np.abs(product) == np.abs(product[0])).all() and product[0] != 0 and ends.max() - ends.min() <= _CODES * np.abs(product[0]):
        return _steps(ends, float(np.abs(product[0])))
    mean, variance = (low + high) / 2 * flat.sum(1), ((high - low) ** 2 / 12) * (flat**2).sum(1)
    middles, reach = np.stack([product * mean, np.zeros_like(mean)]) + scaled.offset, DEVIATIONS * np.abs(product) * np.sqrt(variance)
    return _over(float(np.maximum(middles - reach, ends.min(0)).min()), float(np.minimum(middles + reach, ends.max(0)).max()))


def _steps(ends: npt.NDArray[np.float64], step: float) -> Quantization:
    """A code for each multiple of `step`; zero may lie beyond them, then the middle of the range has the middle code as nearly as can be."""
    zero_point = np.clip(np.rint(-(ends.max() + ends.min()) / 2 / step), INT8.min, INT8.max)
    return Quantization(scale=np.float32(step), zero_point=int(zero_point))


def _codes(value: str, graph: Graph) -> tuple[int, int]:
    """The codes that a value can have."""
    producer, q = graph.producer(value), graph.values[value].quantized
    if producer is None:
        return INT8.min, INT8.max
    low, high = channel_clamp_codes(clamp_of(producer.op), q, 1)
    return int(low.min()), int(high.max())
