"""The processor's operators that divide values by what other values give, in integers; docs/arithmetic.md tells the formulas.

`error` of a stage: by how many codes, at most, its result differs from the real one before it is rounded to a code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwgen.errors import QuantizationError
from hwgen.ir.graph import Graph, Node
from hwgen.layout import Int8Array, Int64Array
from hwgen.ops.base import UNLIMITED
from hwgen.ops.curves import LOG_BITS, LOG_ERROR, MOST_BITS, UNIT_BITS, InversePower, inverse_power, logarithm
from hwgen.ops.integer import clamp_codes, title
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.normalize import Normalize
from hwgen.ops.softmax import ArgExtremum, LogSoftmax

EXTRA_BITS = 24  # of a variance behind the point, at most
RESULT_BITS = 22  # of a normalized value behind the point
MULTIPLIER_BITS = 24
MOST_SHIFT = 50  # of a normalized value with its scale
SUM_BITS = 60  # an offset is limited to so many bits, which is far beyond the codes
RESPONSE_BITS, RESPONSE_MULTIPLIER_BITS = 38, 22
LOG_SUM_BITS = 31  # of the exponential of 0 in a sum whose logarithm is taken
CODES = 256.0  # the result of which an error counts; others are at their limit


def rounded_shift(value: Int64Array, shift: Int64Array | int) -> Int64Array:
    """value / 2**shift, ties to even; shift from 1 to 62."""
    half, rest = np.int64(1) << (np.asarray(shift, np.int64) - 1), value & ((np.int64(1) << np.asarray(shift, np.int64)) - 1)
    floor = value >> shift
    found: Int64Array = floor + ((rest > half) | ((rest == half) & (floor & 1 == 1)))
    return found


def _limited(y: Int64Array, low: int, high: int) -> Int8Array:
    found: Int8Array = np.minimum(np.maximum(y, low), high).astype(np.int8)
    return found


@dataclass(frozen=True, kw_only=True, eq=False)
class NormalizeStage:
    """With n = `count` codes q that share a mean, S their sum: c = n * q - S and v = (n * sum(q**2) - S**2) * 2**extra + epsilon are exact;
    c / sqrt(v) with RESULT_BITS behind the point, times `multiplier`, plus `offset`, divided by 2**shift is the result. `multiplier` and
    `offset` broadcast to (H, W, C). If not `centered`, q is a code less `x_zero_point`, S is 0, and v is at least `least`."""

    axes: tuple[int, ...]
    count: int
    centered: bool
    x_zero_point: int
    extra: int
    epsilon: int
    least: int
    multiplier: Int64Array
    offset: Int64Array
    shift: int
    zero_point: int
    low: int
    high: int
    error: float

    @property
    def root(self) -> InversePower:
        return inverse_power(0.5)

    @property
    def down(self) -> int:
        """Bits that the quotient loses, beside the places of the root."""
        return UNIT_BITS - RESULT_BITS - self.extra // 2

    def apply(self, q: Int8Array) -> Int8Array:
        """(N, H, W, C) codes -> codes."""
        x = q.astype(np.int64) - self.x_zero_point
        total, squares = (part.sum(axis=self.axes, keepdims=True) for part in (x * self.centered, x * x))
        v = ((self.count * squares - total * total) << self.extra) + self.epsilon
        r, places = self.root.at(np.maximum(v, self.least))
        down = np.maximum(places + self.down, 1)
        normal = ((self.count * x - total) * r + (np.int64(1) << (down - 1))) >> down
        return _limited(rounded_shift(normal * self.multiplier + self.offset, self.shift) + self.zero_point, self.low, self.high)


def normalize_stage(node: Node, graph: Graph) -> NormalizeStage:
    """Raises QuantizationError where the operand's scale is too small against epsilon, or the result's against the factors."""
    op = node.op
    assert isinstance(op, Normalize)
    x, y = (graph.values[name].quantized for name in (node.inputs[0], node.output))
    count = op.count(graph.values[node.inputs[0]].type)
    epsilon, least = (part * (count / float(x.scale)) ** 2 for part in (op.epsilon, op.least**2))
    most = max((count * 255 / (2 if op.centered else 1)) ** 2 + epsilon, least) + 1
    extra = min(EXTRA_BITS, (MOST_BITS - 1 - math.ceil(math.log2(most))) // 2 * 2)
    if extra < 0:
        named = f"epsilon {op.epsilon:g}" + (f" and the least divisor {op.least:g}" if op.least else "")
        raise QuantizationError(f"{title(node)}: the scale of its operand must not be so small against {named}, {x.scale:.9g}; quantize again")
    scale, offset = (np.asarray(array, np.float64) / float(y.scale) for array in (op.scale, op.offset))
    greatest, farthest = float(np.abs(scale).max()), float(np.abs(offset).max())
    places = MULTIPLIER_BITS - 1 - (math.floor(math.log2(greatest)) if greatest else 0)
    shift = min(RESULT_BITS + places, MOST_SHIFT)
    if shift < 1:
        raise QuantizationError(f"{title(node)}: the scale of its result must not be so small against its factors, {y.scale:.9g}; quantize again")
    beyond, reach = 2.0 ** (SUM_BITS - shift), math.sqrt(count)
    root_error = inverse_power(0.5).error + 2.0**-26  # what epsilon and the bits behind the point are rounded by
    low, high = clamp_codes(op.clamp, y)
    return NormalizeStage(
        axes=op.axes,
        count=count,
        centered=op.centered,
        x_zero_point=0 if op.centered else x.zero_point,
        extra=extra,
        epsilon=int(np.rint(np.ldexp(epsilon, extra))),
        least=max(1, int(np.rint(np.ldexp(least, extra)))),
        multiplier=np.rint(np.ldexp(scale, shift - RESULT_BITS)).astype(np.int64),
        offset=np.rint(np.ldexp(np.clip(offset, -beyond, beyond), shift)).astype(np.int64),
        shift=shift,
        zero_point=y.zero_point,
        low=low,
        high=high,
        error=root_error * min(reach * greatest, CODES + farthest)
        + greatest * 2.0 ** -(RESULT_BITS + 1)
        + reach * 2.0 ** (RESULT_BITS - shift - 1)
        + 2.0 ** -(shift + 1),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class ResponseStage:
    """w = bias + factor * T, T the sum of squared codes less their zero point; the result is code * r * multiplier / 2**(shift + x), where
    w**-beta = r / 2**(31 + x). What is shifted by more than MOST_BITS is below half a code, and 0 as well when shifted by so many."""

    op: LocalResponse
    bias: int
    factor: int
    multiplier: int
    shift: int
    x_zero_point: int
    zero_point: int
    low: int
    high: int
    error: float

    @property
    def power(self) -> InversePower:
        return inverse_power(self.op.beta)

    def apply(self, q: Int8Array) -> Int8Array:
        """(N, H, W, C) codes -> codes."""
        x = q.astype(np.int64) - self.x_zero_point
        squares: Int64Array = self.op.around(x * x)  # type: ignore[arg-type, assignment]  # sums ask nothing of the element type
        r, places = self.power.at(self.bias + self.factor * squares)
        y = rounded_shift(x * r * self.multiplier, np.minimum(self.shift + places, MOST_BITS))
        return _limited(y + self.zero_point, self.low, self.high)


def response_stage(node: Node, graph: Graph) -> ResponseStage:
    """Raises QuantizationError where scales leave what integers of 62 bits hold."""
    op = node.op
    assert isinstance(op, LocalResponse)
    x, y = (graph.values[name].quantized for name in (node.inputs[0], node.output))
    terms = min(op.size, graph.values[node.inputs[0]].type.channels)
    factor = op.alpha / op.size * float(x.scale) ** 2
    most = op.bias + factor * terms * 255**2
    bits = min(RESPONSE_BITS - math.floor(math.log2(op.bias)), MOST_BITS - 2 - math.ceil(math.log2(most)))
    ratio = float(x.scale) / float(y.scale) * 2.0 ** (op.beta * bits - UNIT_BITS)
    shift = RESPONSE_MULTIPLIER_BITS - 1 - math.floor(math.log2(ratio))
    if shift < 1 or bits < 0:
        raise QuantizationError(f"{title(node)}: its scales {x.scale:.9g} and {y.scale:.9g} must be moderate; quantize again")
    low, high = clamp_codes(UNLIMITED, y)
    whole, steps = op.bias * 2.0**bits, factor * 2.0**bits
    relative = inverse_power(op.beta).error + 2.0**-RESPONSE_MULTIPLIER_BITS + op.beta / 2 * (1 / whole + min(terms * 255**2 / whole, 1 / max(steps, 1e-9)))
    return ResponseStage(
        op=op,
        bias=int(np.rint(np.ldexp(op.bias, bits))),
        factor=int(np.rint(np.ldexp(factor, bits))),
        multiplier=int(np.rint(np.ldexp(ratio, shift))),
        shift=shift,
        x_zero_point=x.zero_point,
        zero_point=y.zero_point,
        low=low,
        high=high,
        error=CODES * relative,
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LogSoftmaxStage:
    """-(d * step + ln(sum of exponentials)), both with LOG_BITS behind the point, times multiplier / 2**shift; d codes below the greatest.
    `exponentials` (256,): round(2**31 * exp(-d * x_scale))."""

    axis: int
    exponentials: Int64Array
    step: int
    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int
    error: float

    def apply(self, q: Int8Array) -> Int8Array:
        """(N, H, W, C) codes -> codes."""
        x = q.astype(np.int64)
        below = x.max(axis=self.axis, keepdims=True) - x
        total = logarithm(self.exponentials[below].sum(axis=self.axis, keepdims=True), LOG_SUM_BITS)
        y = rounded_shift(-(below * self.step + total) * self.multiplier, self.shift)
        return _limited(y + self.zero_point, self.low, self.high)


def log_softmax_stage(node: Node, graph: Graph) -> LogSoftmaxStage:
    """Raises QuantizationError for a scale of the operand of 64 or more, or one of the result beyond 2**-46 to 2**15."""
    op = node.op
    assert isinstance(op, LogSoftmax)
    kind = graph.values[node.inputs[0]].type
    x, y = (float(graph.values[name].quantized.scale) for name in (node.inputs[0], node.output))
    shift = MULTIPLIER_BITS - 1 - math.floor(math.log2(np.ldexp(1 / y, -LOG_BITS)))
    if x >= 64 or not 1 <= shift <= MOST_BITS:
        raise QuantizationError(f"{title(node)}: the scales {x:.9g} and {y:.9g} must be moderate; quantize again")
    low, high = clamp_codes(UNLIMITED, graph.values[node.output].quantized)
    length, steps = kind.shape[op.axis - 1], min(255.0, 1 + CODES * y / x)  # codes below the greatest beyond which the result is at its limit
    return LogSoftmaxStage(
        axis=op.axis,
        exponentials=np.rint(np.ldexp(np.exp(-np.arange(256) * x), LOG_SUM_BITS)).astype(np.int64),
        step=int(np.rint(np.ldexp(x, LOG_BITS))),
        multiplier=int(np.rint(np.ldexp(1 / y, shift - LOG_BITS))),
        shift=shift,
        zero_point=graph.values[node.output].quantized.zero_point,
        low=low,
        high=high,
        error=(steps * 2.0 ** -(LOG_BITS + 1) + LOG_ERROR + length * 2.0 ** -(LOG_SUM_BITS + 1)) / y + CODES * 2.0**-MULTIPLIER_BITS,
    )


def index_codes(node: Node, graph: Graph) -> Int8Array:
    """The code of each index that an ArgExtremum can give."""
    op = node.op
    assert isinstance(op, ArgExtremum)
    length = graph.values[node.inputs[0]].type.shape[op.axis - 1]
    return graph.values[node.output].quantized.quantize(np.arange(length, dtype=np.float32))
