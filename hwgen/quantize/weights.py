"""Weights, biases and weight scales of convolutions, with scales moved so that ONNX Runtime provably computes the same integers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.errors import QuantizationError
from hwgen.ir.graph import Arithmetic, Graph, Node
from hwgen.ir.types import FloatArray, Quantization
from hwgen.layout import Int64Array
from hwgen.ops.conv import Conv
from hwgen.ops.integer import ACCUMULATOR, OutputStage, conv_ratio, fold_zero_point, multiplier_and_shift, title, weight_bounds
from hwgen.ops.staircase import agrees, single_precision_rule
from hwgen.packing import WeightFormat
from hwgen.quantize.few_bits import WeightCodes, covering_scales, encode, least_squares_scales
from hwgen.quantize.options import Granularity, QuantizeOptions, Scheme

LEAST_RATIO = 2.0**-28  # keeps shifts within what the certificate can prove; below it no 8-bit layer gives more than one code
NEUTRAL_RATIO = 2.0**-8  # for channels whose weights are all zero
REACH = 1024  # multipliers tried on either side of the nearest, nearest first; one of the first few nearly always holds
Scales = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """One convolution while its scales are being chosen; arrays have one entry per output channel. `codes`: the integer weights, where
    they are chosen already; a scale that then moves by a few parts per million leaves them as they are."""

    weight: FloatArray
    bias: npt.NDArray[np.float64]
    x: Quantization
    y: Quantization
    kind: WeightCodes = WeightFormat.INT8
    codes: npt.NDArray[np.int8] | None = None

    @classmethod
    def of(cls, node: Node, graph: Graph, options: QuantizeOptions) -> Layer:
        """`graph` holds float weights and quantized values."""
        op = node.op
        assert isinstance(op, Conv)
        x, y = graph.values[node.inputs[0]].quantized, graph.values[node.output].quantized
        return cls(weight=op.weight.astype(np.float32), bias=op.bias.astype(np.float64), x=x, y=y, kind=options.weights_of(node.name))

    def part(self, channels: npt.NDArray[np.bool_]) -> Layer:
        codes = None if self.codes is None else self.codes[channels]
        return replace(self, weight=self.weight[channels], bias=self.bias[channels], codes=codes)

    def encode(self, scale: Scales) -> tuple[npt.NDArray[np.int8], Int64Array]:
        """int8 weights and unbounded integer biases at the given weight scales (C,)."""
        column = scale.reshape(-1, 1, 1, 1).astype(np.float64)
        weight = encode(self.weight / column, self.kind) if self.codes is None else self.codes
        unit = (np.float32(self.x.scale) * scale).astype(np.float64)
        limit = float(1 << 40)  # far beyond int32, so that overflow is seen and does not wrap
        return weight, np.clip(np.rint(self.bias / unit), -limit, limit).astype(np.int64)

    def bounds(self, weight: npt.NDArray[np.int8], bias: Int64Array) -> tuple[Int64Array, Int64Array]:
        """(C,) least and greatest accumulator, the folded bias included."""
        low, high = weight_bounds(weight)
        folded = fold_zero_point(bias, weight, self.x.zero_point)
        return folded + low, folded + high


def quantize_conv(node: Node, graph: Graph, options: QuantizeOptions) -> tuple[Conv, int]:
    """The convolution with int8 weights, int32 bias and weight scales; and how many channels needed a wider weight scale because
    the bias or the accumulator would have overflowed.

    `graph` holds float weights and quantized values.
    """
    layer = Layer.of(node, graph, options)
    scale, widened = without_overflow(layer, initial_scales(layer, options), options)
    return finished(node, layer, scale, options), widened


def finished(node: Node, layer: Layer, scale: Scales, options: QuantizeOptions) -> Conv:
    """The convolution with the layer's integers, its scales certified where the options say so and it can be."""
    op = node.op
    assert isinstance(op, Conv)
    if options.certify and options.scheme is not Scheme.POWER_OF_TWO:
        scale = _certified(layer, scale, options, title(node))
    weight, bias = layer.encode(scale)
    kind = np.iinfo(np.int32)
    return replace(op, weight=weight, bias=np.clip(bias, kind.min, kind.max).astype(np.int32), weight_scale=scale)


def initial_scales(layer: Layer, options: QuantizeOptions) -> Scales:
    """Per channel or for the whole layer: greatest magnitude / 127, of fewer bits the least squared error; limited to ratios that the
    arithmetic expresses."""
    weight = layer.weight.astype(np.float64).reshape(len(layer.weight), -1)
    if options.granularity is Granularity.TENSOR:
        weight = weight.reshape(1, -1)
    fit = covering_scales if layer.kind is WeightFormat.INT8 else least_squares_scales
    fitted = np.broadcast_to(fit(weight, layer.kind), len(layer.weight))
    to_scale = float(layer.y.scale) / float(layer.x.scale)
    neutral = LEAST_RATIO if layer.kind is WeightFormat.BINARY else NEUTRAL_RATIO  # whose codes are not zero
    scale = np.where(fitted > 0, fitted, neutral * to_scale)
    ratio = np.clip(scale / to_scale, LEAST_RATIO, _greatest_ratio(options.arithmetic))
    if options.scheme is Scheme.POWER_OF_TWO:
        nearest = np.ceil if layer.kind is WeightFormat.INT8 else np.rint  # fewer bits limit weights anyway
        shift = -nearest(np.log2(ratio)).astype(np.int64)
        return exact_weight_scale(np.ones_like(shift), shift, layer.x, layer.y)[0]
    return (ratio * to_scale).astype(np.float32)


def _greatest_ratio(arithmetic: Arithmetic) -> float:
    return 2.0 ** max(arithmetic.multiplier_bits - 1, 0)


def expressible(layer: Layer, scale: Scales, options: QuantizeOptions) -> bool:
    """Whether the arithmetic has a ratio for every weight scale."""
    ratio = scale.astype(np.float64) * float(layer.x.scale) / float(layer.y.scale)
    return bool(((ratio >= LEAST_RATIO) & (ratio <= _greatest_ratio(options.arithmetic))).all())


def without_overflow(layer: Layer, scale: Scales, options: QuantizeOptions) -> tuple[Scales, int]:
    """Double the scale of each channel (of the layer, per tensor) until bias and accumulator fit; never wraps.

    At the greatest ratio a bias that still does not fit saturates the output anyway, and is clipped later.
    """
    greatest = np.float32(_greatest_ratio(options.arithmetic) * float(layer.y.scale) / float(layer.x.scale))
    widened = np.zeros(len(scale), bool)
    margin = (ACCUMULATOR.max + 1) // 128 * 127  # leaves room for moving the scale by a few parts per thousand
    while True:
        weight, bias = layer.encode(scale)
        low, high = layer.bounds(weight, bias)
        over = (np.maximum(np.maximum(-low, high), np.abs(bias)) > margin) & (scale * np.float32(2) <= greatest)
        if not over.any():
            return scale, int(widened.sum())
        if options.granularity is Granularity.TENSOR:
            over[:] = True
        widened |= over
        scale = np.where(over, scale * np.float32(2), scale)


def _certified(layer: Layer, scale: Scales, options: QuantizeOptions, where: str) -> Scales:
    """Weight scales nearest to `scale` whose multiplier is exact and certified; where none is found, the scale stays.

    Per tensor all channels share one scale, which must then be certified for every channel.
    """
    arithmetic, together = options.arithmetic, options.granularity is Granularity.TENSOR
    multiplier, shift = multiplier_and_shift(conv_ratio(layer.x, scale, layer.y), arithmetic, where)
    open_channels, result = np.ones(len(scale), bool), scale.copy()
    for offset in sorted(range(-REACH, REACH + 1), key=abs):
        candidate = multiplier[open_channels] + offset
        part = layer.part(open_channels)
        wanted, exact = exact_weight_scale(candidate, shift[open_channels], layer.x, layer.y)
        legal = exact & (candidate >= 1 << (arithmetic.multiplier_bits - 1)) & (candidate < 1 << arithmetic.multiplier_bits)
        good = legal & _proven(part, np.where(legal, wanted, scale[open_channels]), candidate, shift[open_channels], arithmetic)
        if together and not good.all():
            continue
        places = np.flatnonzero(open_channels)[good]
        result[places] = wanted[good]
        open_channels[places] = False
        if not open_channels.any():
            break
    return result


def _proven(layer: Layer, scale: Scales, multiplier: Int64Array, shift: Int64Array, arithmetic: Arithmetic) -> npt.NDArray[np.bool_]:
    weight, bias = layer.encode(scale)
    low, high = layer.bounds(weight, bias)
    fits = (np.minimum(low, bias) >= ACCUMULATOR.min) & (np.maximum(high, bias) <= ACCUMULATOR.max)
    filled = [np.full(len(scale), code, np.int64) for code in (layer.y.zero_point, INT8.min, INT8.max)]
    stage = OutputStage(multiplier=multiplier, shift=shift, zero_point=filled[0], low=filled[1], high=filled[2])
    return fits & agrees(stage, arithmetic.rounding, single_precision_rule(stage.ratio.astype(np.float32)), low, high)


def exact_weight_scale(multiplier: Int64Array, shift: Int64Array, x: Quantization, y: Quantization) -> tuple[Scales, npt.NDArray[np.bool_]]:
    """(C,) float32 scales whose product with the other scales, rounded as ONNX Runtime rounds, is exactly multiplier / 2**shift; and
    whether there is one (a few neighbours of the real-valued solution are tried)."""
    wanted = np.ldexp(multiplier.astype(np.float64), -shift.astype(np.int32))
    base = (wanted * float(y.scale) / float(x.scale)).astype(np.float32)
    found, result = np.zeros(len(base), bool), base.copy()
    for step in (0, 1, -1, 2, -2):
        near = (base.view(np.int32) + step).view(np.float32)
        hit = ~found & (conv_ratio(x, near, y) == wanted)
        result[hit], found = near[hit], found | hit
    return result, found


def require_float(graph: Graph) -> None:
    """Raises QuantizationError when a convolution is quantized already."""
    for node in graph.nodes:
        if isinstance(node.op, Conv) and node.op.weight_scale is not None:
            raise QuantizationError(f"{title(node)}: weights must be float to be quantized, they are int8 already; give the float model")
