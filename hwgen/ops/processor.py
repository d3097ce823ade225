"""Operators that the accelerator has no command for: the processor computes them between its programs, by generated C.

Their integer meaning, written once: golden model and C read the numbers that are derived here. A processor has wide multipliers, so all
ratios have PROCESSOR.multiplier_bits bits whatever the hardware has, and are rounded half to even as ONNX Runtime rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.errors import QuantizationError
from hwgen.ir.graph import Arithmetic, Graph, Node
from hwgen.ir.types import FloatArray, IntArray
from hwgen.layout import Int8Array, Int64Array
from hwgen.ops.base import UNLIMITED
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.integer import ACCUMULATOR, OutputStage, clamp_codes, multiplier_and_shift, title
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.normalizing import CODES, index_codes, log_softmax_stage, normalize_stage, response_stage
from hwgen.ops.softmax import LONGEST, ArgExtremum, LogSoftmax, Softmax

PROCESSOR = Arithmetic(multiplier_bits=24)


class Stage(Protocol):
    """The integers of an operator of one operand."""

    @property
    def error(self) -> float:
        """As `processor_error`."""

    def apply(self, q: Int8Array) -> Int8Array:
        """(N, H, W, C) codes -> codes."""


NORMALIZING: dict[type, Callable[[Node, Graph], Stage]] = {Normalize: normalize_stage, LocalResponse: response_stage, LogSoftmax: log_softmax_stage}
PROCESSOR_OPERATORS = (Move, Mul, Div, Extremum, MatMul, Softmax, ArgExtremum, *NORMALIZING)
MOST_TERMS = ACCUMULATOR.max // 255**2  # products of codes less their zero points in one sum
EXPONENT_BITS, SHORT_SUM = 20, 1 << 11  # of the exponential of 0 in sums of so many terms; more in longer ones
MOST_ERROR = 0.5  # of a result before it is rounded: then it is at most one code away
RATIO_ERROR = 4 * 2.0**-24  # relative: a ratio of float32 scales is rounded twice, its multiplier and M / 2**s once each
MOST_DIVISOR_SHIFT = 40  # a quotient shifted farther is 0 already
Kernel = Callable[..., Int8Array]


def _clamp(node: Node) -> tuple[float, float]:
    """The interval of an operator that has one for all channels."""
    clamp: tuple[float, float] = getattr(node.op, "clamp", UNLIMITED)
    return clamp


def product_stage(node: Node, graph: Graph) -> OutputStage:
    """Requantization of Mul and MatMul: of sums of (a - zero_point_a) * (b - zero_point_b), by float32(a_scale * b_scale / y_scale)."""
    a, b, y = (graph.values[name].quantized for name in (*node.inputs, node.output))
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float32(a.scale) * np.float32(b.scale) / np.float32(y.scale)
    multiplier, shift = multiplier_and_shift(np.array([ratio]), PROCESSOR, title(node))
    low, high = clamp_codes(_clamp(node), y)
    codes = [np.array([code], np.int64) for code in (y.zero_point, low, high)]
    if isinstance(node.op, MatMul) and graph.values[node.inputs[0]].type.channels > MOST_TERMS:
        terms = graph.values[node.inputs[0]].type.channels
        raise QuantizationError(f"{title(node)}: a sum must have at most {MOST_TERMS} products to fit {ACCUMULATOR}, not {terms}; split the matrices")
    return OutputStage(multiplier=multiplier, shift=shift, zero_point=codes[0], low=codes[1], high=codes[2])


@dataclass(frozen=True, kw_only=True)
class QuotientStage:
    """y = clamp(round(a * multiplier / (b * 2**shift)) + zero_point, low, high), ties to even; b = 0 gives the limit of a's sign."""

    multiplier: int
    shift: int
    zero_point: int
    low: int
    high: int

    def apply(self, a: Int64Array, b: Int64Array) -> Int8Array:
        """int64 arrays that broadcast; |a| * multiplier and |b| * 2**shift stay below 2**63."""
        dividend, divisor = np.abs(a) * self.multiplier, np.abs(b) << self.shift
        quotient, rest = np.divmod(dividend, np.maximum(divisor, 1))
        quotient = quotient + ((rest > divisor - rest) | ((rest == divisor - rest) & (quotient & 1 == 1)))
        quotient = np.where(divisor == 0, np.where(a == 0, 0, 256), np.minimum(quotient, 256))
        y = np.where((a < 0) != (b < 0), -quotient, quotient) + self.zero_point
        result: Int8Array = np.minimum(np.maximum(y, self.low), self.high).astype(np.int8)
        return result


def _quotient(ratio: float, node: Node, graph: Graph, most_shift: int) -> QuotientStage:
    y = graph.values[node.output].quantized
    multiplier, shift = multiplier_and_shift(np.array([ratio], np.float32), PROCESSOR, title(node))
    if shift[0] > most_shift and isinstance(node.op, Softmax):
        raise QuantizationError(f"{title(node)}: the scale of its result must be at most {2.0 ** (most_shift - 24):g}, not {y.scale:.9g}; quantize again")
    low, high = clamp_codes(_clamp(node), y)
    return QuotientStage(multiplier=int(multiplier[0]), shift=min(int(shift[0]), most_shift), zero_point=y.zero_point, low=low, high=high)


def division_stage(node: Node, graph: Graph) -> QuotientStage:
    """Of (a - zero_point_a) / (b - zero_point_b)."""
    a, b, y = (graph.values[name].quantized for name in (*node.inputs, node.output))
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float32(a.scale) / (np.float32(b.scale) * np.float32(y.scale))
    return _quotient(float(ratio), node, graph, MOST_DIVISOR_SHIFT)


def exponent_bits(node: Node, graph: Graph) -> int:
    """Of the exponential of 0: EXPONENT_BITS, and one more for each doubling of sums beyond SHORT_SUM."""
    assert isinstance(node.op, Softmax)
    length = graph.values[node.inputs[0]].type.shape[node.op.axis - 1]
    return EXPONENT_BITS + max(0, (length - 1).bit_length() - (SHORT_SUM - 1).bit_length())


def softmax_stage(node: Node, graph: Graph) -> QuotientStage:
    """Of an exponential of `exponentials` by a sum of them."""
    with np.errstate(over="ignore", under="ignore"):
        ratio = np.float32(1) / np.float32(graph.values[node.output].quantized.scale)
    return _quotient(float(ratio), node, graph, 62 - exponent_bits(node, graph) - LONGEST.bit_length() + 1)


def exponentials(node: Node, graph: Graph) -> Int64Array:
    """(256,) round(2**exponent_bits * exp(-d * x_scale)) for d codes below the greatest."""
    scale = np.float64(graph.values[node.inputs[0]].quantized.scale)
    found: Int64Array = np.rint(np.ldexp(np.exp(-np.arange(256) * scale), exponent_bits(node, graph))).astype(np.int64)
    return found


def processor_error(node: Node, graph: Graph) -> float:
    """By how many codes, at most, the result differs from that of the real-valued operator on the same codes, before both are rounded; where
    the real one lies beyond the codes, both are at their limit. Below 1/2 the rounded ones differ by at most one."""
    op = node.op
    if type(op) in NORMALIZING:
        return NORMALIZING[type(op)](node, graph).error
    if isinstance(op, Softmax):
        length = graph.values[node.inputs[0]].type.shape[op.axis - 1]
        terms = 1 / float(graph.values[node.output].quantized.scale) + CODES * length  # half a unit each, above and below the line
        return terms / 2.0 ** (exponent_bits(node, graph) + 1) + CODES * RATIO_ERROR
    return CODES * RATIO_ERROR if isinstance(op, Mul | Div | MatMul) else 0.0


def check_processor(node: Node, graph: Graph) -> None:
    """Raises QuantizationError for scales that the operator's arithmetic cannot express, or not to half a code."""
    if isinstance(node.op, Mul | MatMul):
        product_stage(node, graph)
    elif isinstance(node.op, Div):
        division_stage(node, graph)
    elif isinstance(node.op, Softmax):
        softmax_stage(node, graph)
    if (error := processor_error(node, graph)) > MOST_ERROR:
        raise QuantizationError(f"{title(node)}: its scales must give the result to half a code, not to {error:.3g}; quantize again")


def processor_kernel(node: Node, graph: Graph) -> Kernel:
    """The golden meaning: int8 arrays (N, H, W, C) -> int8 array."""
    op = node.op
    zero_points = [graph.values[name].quantized.zero_point for name in node.inputs]
    if isinstance(op, Move | Extremum):
        return lambda *arrays: op.reference(*arrays).astype(np.int8)
    if isinstance(op, ArgExtremum):
        codes = index_codes(node, graph)
        return lambda x: codes[op.reference(x).astype(np.int64)]
    if type(op) in NORMALIZING:
        return NORMALIZING[type(op)](node, graph).apply
    if isinstance(op, Softmax):
        return _softmax(op, exponentials(node, graph), softmax_stage(node, graph))

    def less_zero_points(arrays: tuple[Int8Array, ...]) -> list[Int64Array]:
        return [array.astype(np.int64) - zero_point for array, zero_point in zip(arrays, zero_points, strict=True)]

    if isinstance(op, Div):
        division = division_stage(node, graph)
        return lambda *arrays: division.apply(*less_zero_points(arrays))
    stage = product_stage(node, graph)
    if isinstance(op, Mul):
        return lambda *arrays: _finish(np.multiply(*less_zero_points(arrays)), stage)
    return lambda *arrays: _finish(_exact_matmul(*less_zero_points(arrays)), stage)


def _finish(sums: IntArray | FloatArray, stage: OutputStage) -> Int8Array:
    return stage.apply(sums[..., None], PROCESSOR)[..., 0]


def _exact_matmul(a: Int64Array, b: Int64Array) -> npt.NDArray[np.float64]:
    """Through BLAS: sums of MOST_TERMS products are exact in float64."""
    product: npt.NDArray[np.float64] = np.matmul(a.astype(np.float64), b.astype(np.float64))
    return product


def _softmax(op: Softmax, table: Int64Array, stage: QuotientStage) -> Kernel:
    def kernel(x: Int8Array) -> Int8Array:
        wide = x.astype(np.int64)
        terms = table[wide.max(axis=op.axis, keepdims=True) - wide]
        return stage.apply(terms, terms.sum(axis=op.axis, keepdims=True))

    return kernel


assert INT8.max - INT8.min == 255  # MOST_TERMS and the table of exponentials rest on it
