"""Named ways to quantize: one line each."""

from __future__ import annotations

from hwgen.quantize import Granularity, QuantizeOptions, RangeMethod, Scheme

_TENSOR = Granularity.TENSOR

METHODS: dict[str, QuantizeOptions] = {  # per channel and min-max where nothing else is said
    "asymmetric, per tensor": QuantizeOptions(granularity=_TENSOR),
    "asymmetric": QuantizeOptions(),
    "symmetric, per tensor": QuantizeOptions(scheme=Scheme.SYMMETRIC, granularity=_TENSOR),
    "symmetric": QuantizeOptions(scheme=Scheme.SYMMETRIC),
    "power-of-two, per tensor": QuantizeOptions(scheme=Scheme.POWER_OF_TWO, granularity=_TENSOR),
    "power-of-two": QuantizeOptions(scheme=Scheme.POWER_OF_TWO),
    "asymmetric, percentile": QuantizeOptions(ranges=RangeMethod.PERCENTILE),
    "asymmetric, mse": QuantizeOptions(ranges=RangeMethod.MSE),
}
