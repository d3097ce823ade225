"""The integer meaning of every operator: multipliers, shifts, folded biases and clamps, derived from scales and zero points alone.

Golden model, program and firmware all read these numbers, so a graph that is saved and loaded again means the same integers.
Ratios are formed in float32 in the order in which ONNX Runtime forms them: (x_scale * w_scale) / y_scale for convolution,
x_scale / y_scale for addition, x_scale / (y_scale * count) for average pooling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8, AddRequantize, IntType, Rounding
from hwgen.errors import QuantizationError
from hwgen.ir.graph import Arithmetic, Graph, Node
from hwgen.ir.types import FloatArray, IntArray, Quantization
from hwgen.layout import Int8Array, Int64Array
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Interval, clamp_of
from hwgen.ops.conv import Conv
from hwgen.ops.lookup import Lookup
from hwgen.ops.pad import Pad
from hwgen.ops.thresholds import Placed, RealStage, place

ACCUMULATOR = IntType(32)
MAX_ADD_SHIFT = AddRequantize.OFFSET.bits - 9  # zero_point << shift must fit the offset
MAX_STEP_SHIFT = 52  # of steps in int64
EXACT_FLOAT64 = 1 << 53  # integers up to here are exact in float64


@dataclass(frozen=True, kw_only=True, eq=False)
class OutputStage:
    """Operands of hwgen.arith.Requantize for every output channel: int64 arrays (C,)."""

    multiplier: Int64Array
    shift: Int64Array
    zero_point: Int64Array
    low: Int64Array
    high: Int64Array

    def only(self, channel: int) -> OutputStage:
        """The stage of one channel."""
        part = slice(channel, channel + 1)
        return OutputStage(multiplier=self.multiplier[part], shift=self.shift[part], zero_point=self.zero_point[part], low=self.low[part], high=self.high[part])

    @cached_property
    def ratio(self) -> npt.NDArray[np.float64]:
        """multiplier / 2**shift, exact."""
        return np.ldexp(self.multiplier.astype(np.float64), -self.shift.astype(np.int32))

    def apply(self, acc: IntArray | FloatArray, arithmetic: Arithmetic) -> Int8Array:
        """(..., C) accumulators (integers, of any dtype that holds them) -> int8; equal to hwgen.arith.Requantize.

        Works in float64, where acc * multiplier / 2**shift is exact (32 + 16 bits), and in int64 where it would not be.
        """
        if int(self.multiplier.max(initial=1)) << (ACCUMULATOR.bits - 1) > EXACT_FLOAT64:
            return self._apply_int64(np.asarray(acc, np.int64), arithmetic.rounding)
        y = np.multiply(acc, self.ratio, dtype=np.float64)
        if arithmetic.rounding is Rounding.HALF_EVEN:
            np.rint(y, out=y)
        else:
            y += 0.5
            np.floor(y, out=y)
        y += self.zero_point
        np.maximum(y, self.low, out=y)
        np.minimum(y, self.high, out=y)
        return y.astype(np.int8)

    def _apply_int64(self, acc: Int64Array, rounding: Rounding) -> Int8Array:
        product = acc * self.multiplier
        half = (np.int64(1) << self.shift) >> 1
        y = (product + half) >> self.shift
        if rounding is Rounding.HALF_EVEN:
            tie = ((product & ((np.int64(1) << self.shift) - 1)) == half) & (self.shift > 0)
            y -= y & tie
        result: Int8Array = np.minimum(np.maximum(y + self.zero_point, self.low), self.high).astype(np.int8)
        return result


@dataclass(frozen=True, kw_only=True)
class AddStage:
    """Operands of hwgen.arith.AddRequantize. With multiplier_bits 0 the multipliers are exponents of two."""

    multiplier_a: int
    multiplier_b: int
    offset: int
    shift: int
    low: int
    high: int

    def table(self, arithmetic: Arithmetic) -> Int8Array:
        """(256, 256) results, indexed by a + 128 and b + 128, computed by the stages of hwgen.arith; read only."""
        return _add_table(self, arithmetic)

    def lookup(self, arithmetic: Arithmetic) -> Callable[[Int8Array, Int8Array], Int8Array]:
        """The sum of int8 arrays of one shape as a function that reads `table`."""
        table = self.table(arithmetic).reshape(-1)

        def add(a: Int8Array, b: Int8Array) -> Int8Array:
            index = (a.view(np.uint8) ^ np.uint8(0x80)).astype(np.uint16)
            index <<= 8
            index |= b.view(np.uint8) ^ np.uint8(0x80)
            return table.take(index)

        return add

    def apply(self, a: Int8Array, b: Int8Array, arithmetic: Arithmetic) -> Int8Array:
        """Elementwise sum of int8 arrays of one shape."""
        return self.lookup(arithmetic)(a, b)


@lru_cache(maxsize=64)  # of 64 KiB each: the trials of a quantization ask for the same ones
def _add_table(stage: AddStage, arithmetic: Arithmetic) -> Int8Array:
    codes = np.arange(-128, 128, dtype=np.int64)
    rule = AddRequantize(multiplier_bits=arithmetic.multiplier_bits, rounding=arithmetic.rounding)
    operands = {name: np.int64(getattr(stage, name)) for name in ("multiplier_a", "multiplier_b", "offset", "shift", "low", "high")}
    result: IntArray = rule.compute(a=codes[:, None], b=codes[None, :], **operands)
    table = result.astype(np.int8)
    table.flags.writeable = False
    return table


def title(node: Node) -> str:
    """How messages name a node."""
    return f"{type(node.op).__name__} {node.name!r}"


def clamp_codes(clamp: tuple[float, float], quantization: Quantization) -> tuple[int, int]:
    """The real interval as int8 codes: each end rounded as QuantizeLinear rounds, then limited to int8."""
    low, high = channel_clamp_codes(clamp, quantization, 1)
    return int(low[0]), int(high[0])


def channel_clamp_codes(clamp: Interval, quantization: Quantization, channels: int) -> tuple[Int64Array, Int64Array]:
    """As `clamp_codes`, for an interval whose ends may differ from channel to channel: (C,) codes each."""
    with np.errstate(over="ignore"):
        low, high = (np.asarray(end, np.float32) / np.float32(quantization.scale) for end in clamp)
    ends = (np.clip(np.rint(end) + np.float32(quantization.zero_point), INT8.min, INT8.max).astype(np.int64) for end in (low, high))
    lows, highs = (np.array(np.broadcast_to(end, channels)) for end in ends)
    return lows, highs


def multiplier_and_shift(ratio: FloatArray, arithmetic: Arithmetic, where: str) -> tuple[Int64Array, Int64Array]:
    """Nearest multiplier / 2**shift to each positive ratio, with 2**(bits-1) <= multiplier < 2**bits; both int64, shaped as `ratio`.

    The shift stays within accumulator bits + multiplier bits: beyond that every accumulator gives zero, and still does.
    Raises QuantizationError naming `where` if a ratio is not positive and finite, too large, or (multiplier_bits 0) not a power of two.
    """
    bits = arithmetic.multiplier_bits
    multiplier, shift = _normalized(ratio, bits, where)
    if (shift < 0).any():
        raise QuantizationError(f"{where}: the ratio of input to output scales must be below 2**{bits}, not {_extreme(ratio)}; choose moderate scales")
    limit = ACCUMULATOR.bits + bits
    return np.where(shift > limit, 1 << max(bits - 1, 0), multiplier), np.minimum(shift, limit)


def _normalized(ratio: FloatArray, bits: int, where: str) -> tuple[Int64Array, Int64Array]:
    """As `multiplier_and_shift`, shifts unlimited; with 0 bits the multipliers are 1."""
    exact = np.asarray(ratio, np.float64)
    if not (np.isfinite(exact).all() and (exact > 0).all()):
        raise QuantizationError(f"{where}: the ratio of input to output scales must be positive and finite, not {_extreme(exact)}; choose moderate scales")
    mantissa, exponent = np.frexp(exact)
    if bits == 0:
        if (mantissa != 0.5).any():
            raise QuantizationError(
                f"{where}: with multiplier_bits 0 the ratio of scales must be a power of two, not {exact[mantissa != 0.5].flat[0]:.9g}; "
                "quantize with the power-of-two scheme or build with a multiplier"
            )
        return np.ones(exact.shape, np.int64), (1 - exponent).astype(np.int64)
    multiplier = np.rint(np.ldexp(mantissa, bits)).astype(np.int64)
    carry = multiplier == 1 << bits
    return np.where(carry, multiplier >> 1, multiplier), (bits - exponent - carry).astype(np.int64)


def _extreme(ratio: FloatArray) -> str:
    """The ratio whose magnitude is farthest from one, for messages."""
    flat = ratio.reshape(-1)
    bad = flat[~(np.isfinite(flat) & (flat > 0))]
    return f"{bad[0]:.9g}" if bad.size else f"{flat[np.argmax(np.abs(np.log2(flat)))]:.9g}"


def conv_ratio(x: Quantization, weight_scale: FloatArray, y: Quantization) -> npt.NDArray[np.float32]:
    """(C,) float32((x_scale * w_scale) / y_scale), rounded after each operation."""
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(x.scale) * np.asarray(weight_scale, np.float32) / np.float32(y.scale)


def average_ratio(x: Quantization, y: Quantization, count: int) -> np.float32:
    """float32(x_scale / (y_scale * count)), as ONNX Runtime's QLinearGlobalAveragePool."""
    with np.errstate(over="ignore", under="ignore"):
        return np.float32(np.float32(x.scale) / (np.float32(y.scale) * np.float32(count)))


def _stage(ratio: FloatArray, y: Quantization, clamp: Interval, arithmetic: Arithmetic, where: str) -> OutputStage:
    multiplier, shift = multiplier_and_shift(ratio, arithmetic, where)
    low, high = channel_clamp_codes(clamp, y, len(multiplier))
    return OutputStage(multiplier=multiplier, shift=shift, zero_point=np.full(multiplier.shape, y.zero_point, np.int64), low=low, high=high)


def output_stage(node: Node, graph: Graph) -> OutputStage:
    """Requantization of a Conv, one entry per output channel."""
    op = node.op
    assert isinstance(op, Conv) and op.weight_scale is not None
    x, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
    stage = _stage(conv_ratio(x, op.weight_scale, y), y, op.clamp, graph.arithmetic, title(node))
    if not op.bias_fraction:
        return stage
    placed = placed_bias(node, graph)
    return replace(stage, zero_point=placed.zero_point, multiplier=placed.multiplier)


def placed_bias(node: Node, graph: Graph) -> Placed:
    """Integer bias, zero point and multiplier of each channel of a Conv whose bias has a fraction."""
    op = node.op
    assert isinstance(op, Conv)
    return _placed(op, graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized, graph.arithmetic, title(node))


@lru_cache(maxsize=256)
def _placed(op: Conv, x: Quantization, y: Quantization, arithmetic: Arithmetic, where: str) -> Placed:
    assert op.weight_scale is not None
    stage = _stage(conv_ratio(x, op.weight_scale, y), y, op.clamp, arithmetic, where)
    low, high = weight_bounds(op.weight)
    offset = fold_zero_point(np.zeros(op.channels, np.int64), op.weight, x.zero_point)
    real = RealStage(
        bias=np.ldexp(op.bias.astype(np.float64), -op.bias_fraction),
        ratio=np.float64(x.scale) * op.weight_scale.astype(np.float64) / np.float64(y.scale),
        multiplier=stage.multiplier,
        shift=np.minimum(stage.shift, MAX_STEP_SHIFT),
        low=stage.low,
        high=stage.high,
        least=low + offset,
        greatest=high + offset,
        zero_point=y.zero_point,
    )
    return place(real, arithmetic.rounding, arithmetic.multiplier_bits)


def average_stages(node: Node, graph: Graph) -> tuple[IntArray, dict[int, OutputStage]]:
    """Divisors (OH, OW) of an AveragePool, and for each divisor the stage that maps the zero-point-corrected sum to int8."""
    op = node.op
    assert isinstance(op, AveragePool)
    source = graph.values[node.inputs[0]]
    x, y = source.quantized, graph.values[node.output].quantized
    counts = op.divisors(source.type)
    stages = {}
    for count in np.unique(counts).tolist():
        ratio = np.full(source.type.channels, average_ratio(x, y, count))
        stages[count] = _stage(ratio, y, op.clamp, graph.arithmetic, f"{title(node)}, divisor {count}")
    return counts, stages


def is_global(node: Node, graph: Graph) -> bool:
    """An AveragePool whose only window is the whole image: ONNX Runtime has another formula for it."""
    op, source = node.op, graph.values[node.inputs[0]].type
    assert isinstance(op, AveragePool)
    plain = op.window.pads == op.counted_pads == (0, 0, 0, 0) and op.window.dilations == (1, 1)
    return plain and op.window.kernel == (source.height, source.width)


def add_stage(node: Node, graph: Graph) -> AddStage:
    """Requantization of an Add: the larger ratio gets a full-width multiplier, the other one shares its shift."""
    op = node.op
    assert isinstance(op, Add)
    a, b = (graph.values[name].quantized for name in node.inputs)
    y = graph.values[node.output].quantized
    with np.errstate(over="ignore", under="ignore"):
        ratios = np.array([np.float32(a.scale) / np.float32(y.scale), np.float32(b.scale) / np.float32(y.scale)], np.float64)
    bits = graph.arithmetic.multiplier_bits
    _, shifts = _normalized(ratios, bits, title(node))
    shift = int(shifts.min()) if bits else max(0, int(shifts.max()))
    usable = 0 <= shift <= MAX_ADD_SHIFT
    factors = [int(factor) for factor in np.rint(np.ldexp(ratios, shift))] if usable else [0, 0]
    offset = (y.zero_point << max(shift, 0)) - a.zero_point * factors[0] - b.zero_point * factors[1]
    if not usable or not AddRequantize.OFFSET.holds(offset, offset) or (bits == 0 and max(factors) >> 31):
        pair = f"{ratios[0]:.9g} and {ratios[1]:.9g}"
        raise QuantizationError(f"{title(node)}: the ratios of input to output scales must be within the adder's range, not {pair}; choose moderate scales")
    first, second = factors if bits else (factor.bit_length() - 1 for factor in factors)
    low, high = clamp_codes(op.clamp, y)
    return AddStage(multiplier_a=first, multiplier_b=second, offset=offset, shift=shift, low=low, high=high)


def identity_stage(node: Node, graph: Graph) -> OutputStage:
    """The stage of operators that keep codes (MaxPool, Clamp, Pad, Concat): factor one, then the operator's clamp."""
    value = graph.values[node.output]
    low, high = channel_clamp_codes(clamp_of(node.op), value.quantized, 1)
    return unit_stage(value.type.channels, graph.arithmetic, int(low[0]), int(high[0]))


def unit_stage(channels: int, arithmetic: Arithmetic, low: int = INT8.min, high: int = INT8.max) -> OutputStage:
    """Factor one and zero point 0: codes go through, limited to low..high."""
    shift = max(arithmetic.multiplier_bits - 1, 0)
    multiplier, shifts, zero, lows, highs = (np.full(channels, number, np.int64) for number in (1 << shift, shift, 0, low, high))
    return OutputStage(multiplier=multiplier, shift=shifts, zero_point=zero, low=lows, high=highs)


def pad_code(node: Node, graph: Graph) -> int:
    """The int8 code of a Pad's value."""
    assert isinstance(node.op, Pad)
    return int(graph.values[node.output].quantized.quantize(np.array(node.op.value)))


def lookup_table(node: Node, graph: Graph) -> Int8Array:
    """(256,) output codes of a Lookup, by input code + 128."""
    assert isinstance(node.op, Lookup)
    return node.op.table(graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized)


def folded_bias(node: Node, graph: Graph) -> Int64Array:
    """(C,) bias with the input's zero point folded in: b - z_x * sum(w). An AveragePool counts as a convolution with weights one.

    Valid because padded cells are read as z_x.
    """
    op = node.op
    source = graph.values[node.inputs[0]]
    zero_point = source.quantized.zero_point
    if isinstance(op, AveragePool):
        return np.full(source.type.channels, -zero_point * op.window.area, np.int64)
    assert isinstance(op, Conv)
    return fold_zero_point(placed_bias(node, graph).bias if op.bias_fraction else op.bias, op.weight, zero_point)


def fold_zero_point(bias: IntArray | FloatArray, weight: IntArray | FloatArray, zero_point: int) -> Int64Array:
    """(C,) b - z_x * sum(w), for weights (C, ...) that are integers."""
    sums: Int64Array = weight.astype(np.int64).reshape(len(weight), -1).sum(1)
    return bias.astype(np.int64) - zero_point * sums


def accumulator_bounds(node: Node, graph: Graph) -> tuple[Int64Array, Int64Array]:
    """(C,) least and greatest accumulator over all int8 inputs, folded bias included.

    Every partial sum that starts at the folded bias lies within them as well.
    """
    bias = folded_bias(node, graph)
    if isinstance(node.op, AveragePool):
        return bias + INT8.min * node.op.window.area, bias + INT8.max * node.op.window.area
    assert isinstance(node.op, Conv)
    low, high = weight_bounds(node.op.weight)
    return bias + low, bias + high


def weight_parts(weight: IntArray) -> tuple[Int8Array, ...]:
    """int8 arrays whose sum is `weight`, as few as there can be. All have its sign, so that no partial sum leaves the accumulator's bounds."""
    if weight.dtype == np.int8:
        return (weight.astype(np.int8, copy=False),)
    parts: list[Int8Array] = []
    rest = weight
    while not parts or rest.any():
        parts.append(np.clip(rest, INT8.min, INT8.max).astype(np.int8))
        rest = rest - parts[-1]
    return tuple(parts)


def weight_bounds(weight: IntArray | FloatArray) -> tuple[Int64Array, Int64Array]:
    """(C,) extremes of sum(x * w) over x in int8, for weights (C, ...)."""
    flat = weight.astype(np.int64).reshape(len(weight), -1)
    positive, negative = np.maximum(flat, 0).sum(1), np.minimum(flat, 0).sum(1)
    return positive * INT8.min + negative * INT8.max, positive * INT8.max + negative * INT8.min
