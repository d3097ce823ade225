"""Convolutions whose weights are integers and whose scale and offset per channel are real numbers: what stays of them in integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8
from hwgen.errors import QuantizationError
from hwgen.ir.types import IntArray, Quantization
from hwgen.ops.check import check_scale
from hwgen.ops.conv import Conv
from hwgen.ops.integer import weight_bounds

FRACTION = 16  # bits of the bias behind the point, fewer where it is large
_BIAS_BITS = 30
_LARGE = float(1 << 24)  # a bias of so many products drowns the products
_NEGLIGIBLE = 2.0**-8  # of an output step

Reals = npt.NDArray[np.float64]


def fine_conv(op: Conv, codes: IntArray, scale: Reals, offset: Reals, x: Quantization, y: Quantization, where: str) -> Conv:
    """`op` as y = scale * (sum of products of `codes` with real x) + offset, for scale and offset (C,); codes of a channel change their sign
    with its scale. Raises QuantizationError for scales that are no positive normal float32, or an offset beyond what int32 holds."""
    for quantization in (x, y):
        check_scale(float(quantization.scale), where)
    sign = np.where(scale < 0, -1, 1)
    magnitude = np.abs(scale)
    low, high = weight_bounds(codes)
    reach = np.maximum(-low, high) * 2.0 * magnitude * float(x.scale) / float(y.scale)  # twice: whatever the zero point
    with np.errstate(all="ignore"):
        products = offset / (magnitude * float(x.scale))
    constant = (magnitude == 0) | ((reach < _NEGLIGIBLE) & ~(np.abs(products) < _LARGE))
    unit_scale = float(y.scale) / float(x.scale)
    magnitude = np.where(constant, unit_scale, magnitude)
    for one in np.unique(magnitude.astype(np.float32)).tolist():
        check_scale(one, f"weights of {where}")
    weight: IntArray = codes * np.where(constant, 0, sign).reshape(-1, 1, 1, 1)
    weight_scale = magnitude.astype(np.float32)
    bias = offset / (weight_scale.astype(np.float64) * float(x.scale))
    bits = int(np.ceil(np.log2(np.abs(bias).max(initial=0) + 1))) if np.isfinite(bias).all() else 99
    if bits > _BIAS_BITS:
        raise QuantizationError(f"{where}: the bias must fit int32 at the scale of the products, reaches {np.abs(bias).max():.4g}; quantize again")
    fraction = min(FRACTION, _BIAS_BITS - bits)
    fine = np.rint(np.ldexp(bias, fraction)).astype(np.int32)
    narrow = INT8.holds(int(weight.min(initial=0)), int(weight.max(initial=0)))
    kept = weight.astype(np.int8) if narrow else weight.astype(np.int16)
    return replace(op, weight=kept, bias=fine, weight_scale=weight_scale, bias_fraction=fraction)
