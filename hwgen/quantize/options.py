"""How to quantize: the choices that a user makes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum

import numpy as np

from hwgen.arith import MULTIPLIER_BITS, Rounding
from hwgen.errors import ConfigError
from hwgen.ir.graph import Arithmetic
from hwgen.packing import WeightFormat
from hwgen.quantize.few_bits import WeightCodes


class Scheme(Enum):
    """Which scales and zero points are allowed. Real zero is exact in each."""

    ASYMMETRIC = "asymmetric"  # uint8 outside, any zero point
    SYMMETRIC = "symmetric"  # int8, zero point 0
    POWER_OF_TWO = "power-of-two"  # every scale 2**k: requantization is a shift; uint8 outside, zero point 0 or 128 (values below zero)


class Granularity(Enum):
    """How many scales the weights of one layer have."""

    CHANNEL = "channel"
    TENSOR = "tensor"


class RangeMethod(Enum):
    """How the range of an activation follows from what calibration saw."""

    MINMAX = "minmax"
    AVERAGE = "moving-average"  # of the extremes of one input after the other
    PERCENTILE = "percentile"
    MSE = "mse"
    KL = "kl"  # least Kullback-Leibler divergence between the values' distribution and that of their codes
    TAIL = "tail"  # beyond the extremes, as far as those of single inputs say that others may lie
    OUTPUT = "output"  # each end as far in as the network's outputs gain by it
    DATA_FREE = "data-free"  # without calibration data: from weights, batch-norm statistics and the range of the inputs


CALIBRATED = tuple(method for method in RangeMethod if method is not RangeMethod.DATA_FREE)


class Repair(Enum):
    """What can be done to a float network, without retraining, so that it loses less when it is quantized."""

    EQUALIZE = "equalize"  # channels get scales with which activations and weights fill their ranges
    ABSORB = "absorb-bias"  # offsets of channels that are far above zero move into the next layer
    RANGE = "range"  # another way from what calibration saw to the range of an activation
    CLIP = "clip-weights"  # weight scales below the greatest weight
    ROUND = "adaptive-rounding"  # weights are rounded so that their errors cancel in the layer's output
    SOLVE = "least-squares"  # weights of few bits and their scales are chosen together, for the inputs that the quantized layer meets
    BIAS = "correct-bias"  # what quantization adds to the mean of each channel is taken off its bias


class Effort(Enum):
    """How many repairs are tried."""

    NONE = "none"
    FAST = "fast"  # each repair once: a second for a network of 12 million MACs, some seconds with weights of few bits
    BEST = "best"  # every range method with every repair: some seconds


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """`multiplier_bits` None means 16, or 0 for power-of-two scales. `percentile` in percent of the values kept, both tails together.
    `certify` moves scales by a few parts per million so that ONNX Runtime provably computes the same integers. `repairs`: those that may
    be tried; `effort`: how hard. Each is kept only where it gains on inputs that it was not fitted to. `weights`: what weights may be;
    `layer_weights`: exceptions, by layer name. `input_range`: what the elements of every network input lie in, for quantization without
    data; None: that of integer inputs is known."""

    scheme: Scheme = Scheme.ASYMMETRIC
    granularity: Granularity = Granularity.CHANNEL
    ranges: RangeMethod = RangeMethod.MINMAX
    percentile: float = 99.99
    multiplier_bits: int | None = None
    rounding: Rounding = Rounding.HALF_EVEN
    certify: bool = True
    effort: Effort = Effort.NONE
    repairs: tuple[Repair, ...] = tuple(Repair)
    weights: WeightCodes = WeightFormat.INT8
    layer_weights: tuple[tuple[str, WeightCodes], ...] = ()
    input_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.multiplier_bits is not None and self.multiplier_bits not in MULTIPLIER_BITS:
            raise ConfigError(f"multiplier_bits: must be one of {', '.join(map(str, MULTIPLIER_BITS))}, not {self.multiplier_bits}")
        if self.multiplier_bits == 0 and self.scheme is not Scheme.POWER_OF_TWO:
            raise ConfigError(f"multiplier_bits: 0 (no multiplier) needs the scheme power-of-two, not {self.scheme.value}")
        if self.input_range is not None and not (np.isfinite(self.input_range).all() and self.input_range[0] < self.input_range[1]):
            raise ConfigError(f"input_range: must be two finite numbers, the lower one first, not {self.input_range[0]} and {self.input_range[1]}")
        if not 50 < self.percentile <= 100:
            raise ConfigError(f"percentile: must be above 50 and at most 100, not {self.percentile}")

    @property
    def arithmetic(self) -> Arithmetic:
        bits = self.multiplier_bits
        if bits is None:
            bits = 0 if self.scheme is Scheme.POWER_OF_TWO else 16
        return Arithmetic(multiplier_bits=bits, rounding=self.rounding)

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of what differs from the defaults, but for what hardware decides: its arithmetic, and scales for a machine without multiplier."""
        arithmetic = ("multiplier_bits", "rounding", *(["scheme"] if self.multiplier_bits == 0 else []))
        return tuple(field.name for field in fields(self) if field.name not in arithmetic and getattr(self, field.name) != field.default)

    def weights_of(self, layer: str) -> WeightCodes:
        """What the weights of a layer may be."""
        return dict(self.layer_weights).get(layer, self.weights)
