"""Named ways to quantize: one line each."""

from __future__ import annotations

from hwgen.packing import WeightFormat
from hwgen.quantize import CALIBRATED, Effort, Granularity, QuantizeOptions, Scheme

_DEFAULT = QuantizeOptions()


def describe(options: QuantizeOptions) -> str:
    """The name of a way to quantize: its scheme, and what differs from the default."""
    parts = [options.scheme.value]
    if options.granularity is not _DEFAULT.granularity:
        parts.append(f"per {options.granularity.value}")
    if options.ranges is not _DEFAULT.ranges:
        parts.append(options.ranges.value)
    if options.percentile != _DEFAULT.percentile:
        parts[-1] += f" {options.percentile:g}"
    if options.weights is not _DEFAULT.weights:
        parts.append(options.weights.name.lower())
    if options.effort is not _DEFAULT.effort:
        parts.append(f"{options.effort.value} repairs")
    return ", ".join(parts)


def _named(*every: QuantizeOptions) -> dict[str, QuantizeOptions]:
    return {describe(options): options for options in every}


METHODS = _named(
    *(QuantizeOptions(scheme=scheme, granularity=granularity) for scheme in Scheme for granularity in (Granularity.TENSOR, Granularity.CHANNEL)),
    *(QuantizeOptions(ranges=ranges) for ranges in CALIBRATED),
    *(QuantizeOptions(weights=weights) for weights in WeightFormat),
    QuantizeOptions(granularity=Granularity.TENSOR, effort=Effort.FAST),
    QuantizeOptions(effort=Effort.FAST),
    QuantizeOptions(effort=Effort.BEST),
    QuantizeOptions(scheme=Scheme.POWER_OF_TWO, effort=Effort.FAST),
    QuantizeOptions(weights=WeightFormat.INT4, effort=Effort.FAST),
)
