"""From a range of real values to scale and zero point."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwgen.ir.types import Quantization
from hwgen.quantize.options import Scheme
from hwgen.quantize.ranges import Range

LEAST_SCALE = 2.0**-60  # keeps products of scales normal in float32
GREATEST_SCALE = 2.0**60
SPARE_SCALE = 2.0**-7  # fine enough that biases behind a dead value keep their precision
Reals = npt.NDArray[np.float64]


def activation(limits: Range, scheme: Scheme) -> Quantization:
    """Quantization that covers `limits`, zero exact. A range of no width, whose only value is zero, gets SPARE_SCALE."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = _bounded(float(_covering(np.float64(low), np.float64(high), scheme)))
    if scheme is Scheme.ASYMMETRIC:
        zero_point = int(np.clip(np.rint(-128 - low / float(scale)), -128, 127))
        return Quantization(scale=scale, zero_point=zero_point, unsigned=True)
    if scheme is Scheme.POWER_OF_TWO:
        return Quantization(scale=np.float32(powers_of_two(np.float64(scale))), zero_point=0 if low < 0 else -128, unsigned=True)
    return Quantization(scale=scale, zero_point=0)


def _covering(low: Reals | np.float64, high: Reals | np.float64, scheme: Scheme) -> Reals:
    """Scales with which the codes of a scheme just reach from low to high, both broadcast."""
    if scheme is Scheme.ASYMMETRIC:
        return np.asarray((high - low) / 255)
    levels = np.where(low < 0, 127, 255) if scheme is Scheme.POWER_OF_TWO else 127
    return np.asarray(np.maximum(high, -low) / levels)


def steps(low: Reals, high: Reals, scheme: Scheme) -> Reals:
    """Scales that cover the ranges low..high, both broadcast, as the scheme allows them."""
    scales = _covering(low, high, scheme)
    return powers_of_two(scales) if scheme is Scheme.POWER_OF_TWO else scales


def powers_of_two(scales: Reals | np.float64) -> Reals:
    """The least powers of two that are not below `scales`."""
    powers: Reals = 2.0 ** np.ceil(np.log2(np.maximum(scales, np.finfo(np.float32).tiny)))
    return powers


def _bounded(scale: float) -> np.float32:
    return np.float32(min(max(scale, LEAST_SCALE), GREATEST_SCALE) if scale else SPARE_SCALE)
