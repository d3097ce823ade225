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
    if scheme is Scheme.ASYMMETRIC:
        scale = _bounded((high - low) / 255)
        zero_point = int(np.clip(np.rint(-128 - low / float(scale)), -128, 127))
        return Quantization(scale=scale, zero_point=zero_point, unsigned=True)
    if scheme is Scheme.POWER_OF_TWO:
        levels, zero_point = (127, 0) if low < 0 else (255, -128)
        return Quantization(scale=power_of_two(float(_bounded(max(-low, high) / levels))), zero_point=zero_point, unsigned=True)
    return Quantization(scale=_bounded(max(-low, high) / 127), zero_point=0)


def steps(low: Reals, high: Reals, scheme: Scheme) -> Reals:
    """Scales that cover the ranges low..high, both broadcast, as the scheme allows them."""
    greatest = np.maximum(high, -low)
    if scheme is Scheme.ASYMMETRIC:
        return (high - low) / 255
    if scheme is Scheme.SYMMETRIC:
        return greatest / 127
    return powers_of_two(greatest / np.where(low < 0, 127, 255))


def powers_of_two(scales: Reals) -> Reals:
    """The least powers of two that are not below `scales`."""
    powers: Reals = 2.0 ** np.ceil(np.log2(np.maximum(scales, np.finfo(np.float32).tiny)))
    return powers


def power_of_two(scale: float) -> np.float32:
    """The least power of two that is not below `scale`."""
    return np.float32(2.0 ** np.ceil(np.log2(scale)))


def _bounded(scale: float) -> np.float32:
    return np.float32(min(max(scale, LEAST_SCALE), GREATEST_SCALE) if scale else SPARE_SCALE)
