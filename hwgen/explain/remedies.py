"""What might help a layer: each remedy is something measurable, tried when a number of the layer speaks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.explain.measure import StageMeasure
from hwgen.explain.partial import rounded
from hwgen.explain.weights import WeightStatistics
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.quantize.groups import groups
from hwgen.quantize.options import QuantizeOptions, RangeMethod, Scheme
from hwgen.quantize.ranges import Range, choose_range
from hwgen.quantize.report import QuantizationReport
from hwgen.quantize.schemes import activation

SPREAD, PEAK = 2.0, 4.0  # from here on it is tried: largest channel / median channel, largest weight / root mean square of its channel
CLIPS = np.linspace(1.0, 0.3, 36)  # shares of a channel's greatest magnitude, tried for the least squared error

Round = Callable[[FloatArray], FloatArray]


@dataclass(frozen=True, kw_only=True, eq=False)
class Remedy:
    """`why`: what speaks for it, in numbers; `then`: what it does; `advice`: how to get it. Measured with `weights` in place of the rounded
    ones, or `values` in place of the rounding of the layer's values."""

    name: str
    why: str
    then: str
    advice: str
    weights: FloatArray | None = None
    values: Round | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """What is known of one stage. `weights` and `op` (float) for convolutions."""

    measure: StageMeasure
    graph: Graph
    report: QuantizationReport
    op: Conv | None
    weights: WeightStatistics | None

    @property
    def options(self) -> QuantizeOptions:
        return self.report.options

    @property
    def range(self) -> Range:
        """Real values that the codes of this stage's value express."""
        q = self.graph.values[self.measure.stage.value].quantized
        return float(q.scale) * (-128 - q.zero_point), float(q.scale) * (127 - q.zero_point)

    @property
    def observed(self) -> Range:
        return float(self.measure.low.min()), float(self.measure.high.max())


def remedies(case: Case) -> Iterator[Remedy]:
    """Those that a number of the layer speaks for, the simpler ones first."""
    if case.op is not None and case.weights is not None:
        yield from _for_weights(case, case.op, case.weights)
    yield from _for_values(case)
    stage = case.measure.stage
    if stage.node is not None and not case.graph.is_output(stage.value):  # what comes from outside, or goes there, cannot be equalized
        yield from _by_channel(case)


def _for_weights(case: Case, op: Conv, found: WeightStatistics) -> Iterator[Remedy]:
    weight = op.weight.astype(np.float64).reshape(op.channels, -1)
    greatest = found.kind.high
    largest = found.magnitudes

    def remedy(name: str, limits: npt.NDArray[np.float64], codes: int, why: str, then: str, advice: str) -> Remedy:
        return Remedy(name=name, why=why, then=then, advice=advice, weights=_coded(op, limits, codes))

    if found.one_scale and found.spread >= SPREAD:
        why = (
            f"one scale serves channels of very different range: channel {int(largest.argmax())} reaches {largest.max():.3g}, "
            f"the median channel {found.median:.3g} ({found.spread:.3g} times less)"
        )
        advice = "--granularity channel, or equalize it with its neighbours (--repair)"
        yield remedy("channel_spread", largest, greatest, why, "with one scale per channel", advice)
    count = case.report.widened.get(case.measure.stage.name, 0)
    if count:
        why = f"{count} of {op.channels} channels got a wider weight scale because their bias or sum would not fit 32 bits"
        advice = "the input's scale is small against the bias: a wider range of the input, or a smaller bias"
        yield remedy("widened", largest if not found.one_scale else np.full(op.channels, largest.max()), greatest, why, "without that", advice)
    if found.kind is not WeightFormat.INT8:
        limits = np.full(op.channels, largest.max()) if found.one_scale else largest
        why = f"its weights are {found.kind.name.lower()} ({found.codes} different codes in use) and have an SQNR of {found.sqnr_db:.1f} dB"
        yield remedy("few_bits", limits, WeightFormat.INT8.high, why, "with 8 bits", "give it 8 bits")
    if found.peak >= PEAK:
        why = f"single weights stand out of their channel, up to {found.peak:.3g} times its root mean square"
        then, advice = "with weights clipped for the least squared error", "clip its weights (--repair best)"
        yield remedy("outliers", _clipped(weight, largest, greatest), greatest, why, then, advice)


def _coded(op: Conv, limits: npt.NDArray[np.float64], greatest: int) -> FloatArray:
    """The weights as codes up to `greatest` mean them, `limits` (C,) being what the greatest code means."""
    scale = np.where(limits > 0, limits, 1.0).reshape(-1, 1, 1, 1) / greatest
    codes = np.clip(np.rint(op.weight / scale), -greatest, greatest)
    result: FloatArray = (codes * scale).astype(np.float32)
    return result


def _clipped(weight: npt.NDArray[np.float64], largest: npt.NDArray[np.float64], greatest: int) -> npt.NDArray[np.float64]:
    """(C,) limits with the least squared error."""
    best, least = largest.copy(), np.full(len(weight), np.inf)
    for share in CLIPS:
        scale = np.where(largest > 0, largest * share, 1.0)[:, None] / greatest
        error = ((np.clip(np.rint(weight / scale), -greatest, greatest) * scale - weight) ** 2).sum(1)
        best, least = np.where(error < least, largest * share, best), np.minimum(error, least)
    return best


def _for_values(case: Case) -> Iterator[Remedy]:
    (low, high), (least, most), scheme = case.range, case.observed, case.options.scheme

    def remedy(name: str, limits: Range, used: Scheme, why: str, then: str, advice: str) -> Remedy:
        quantization = activation(limits, used)
        return Remedy(name=name, why=why, then=then, advice=advice, values=lambda real: rounded(quantization, real))

    if case.measure.saturated:
        yield remedy("saturation", (least, most), scheme, *_saturation(case))
    members = _sharing(case)
    if members and (high - low) > SPREAD * max(most - least, 0.0):
        why = f"its values lie in {least:.3g} … {most:.3g}, but it shares the range {low:.3g} … {high:.3g} with {members}"
        yield remedy("shared_range", (least, most), scheme, why, "with a range of its own", "equalize the values that are joined")
    yield from _tails(case, remedy)
    if scheme is not Scheme.ASYMMETRIC and min(-least, most) * SPREAD < max(-least, most):
        why = f"its values lie in {least:.3g} … {most:.3g}, and a symmetric range leaves nearly half of the codes unused"
        yield remedy("one_sided", (least, most), Scheme.ASYMMETRIC, why, "with a zero point", "--scheme asymmetric")
    if scheme is Scheme.POWER_OF_TWO:
        limit = max(-least, most)
        why = f"its values reach {limit:.3g}, but with scales that are powers of two the codes reach {max(-low, high):.3g}"
        yield remedy("power_of_two", (least, most), Scheme.SYMMETRIC, why, "with a free scale", "--scheme symmetric")


def _saturation(case: Case) -> tuple[str, str, str]:
    (low, high), (least, most) = case.range, case.observed
    share = f"{100 * case.measure.saturated:.2g} % of its values saturate: they reach {least:.3g} … {most:.3g}, the codes {low:.3g} … {high:.3g}"
    chosen = case.report.ranges.get(case.measure.stage.value)
    if case.options.ranges is RangeMethod.MINMAX and chosen is not None and (least < chosen[0] or most > chosen[1]):
        return f"{share}; calibration saw {chosen[0]:.3g} … {chosen[1]:.3g}", "with a range that covers them", "more calibration inputs of this kind"
    return share, "with a range that covers them", "--range minmax, or a higher percentile"


def _tails(case: Case, remedy: Callable[..., Remedy]) -> Iterator[Remedy]:
    """Ranges that give up rare values. Those of other methods are chosen from what was measured here."""
    least, most = case.observed
    for method in (RangeMethod.PERCENTILE, RangeMethod.MSE):
        low, high = choose_range(case.measure.observer, replace(case.options, ranges=method))
        if method is not case.options.ranges and high - low < 0.8 * (max(most, 0.0) - min(least, 0.0)):
            why = f"its values have a long tail: they reach {least:.3g} … {most:.3g}, but only {_beyond(case, low, high)} lie beyond {low:.3g} … {high:.3g}"
            yield remedy("long_tail", (low, high), case.options.scheme, why, "with that range", f"--range {method.value}")


def _beyond(case: Case, low: float, high: float) -> str:
    counts, centers = case.measure.observer.counts, case.measure.observer.centers
    assert counts is not None
    share = counts[(centers < low) | (centers > high)].sum() / max(1, counts.sum())
    return f"{100 * share:.2g} %"


def _sharing(case: Case) -> str:
    """Other values that share this one's codes, in words; empty for none."""
    group = groups(case.graph)
    value = case.measure.stage.value
    others = [name for name in case.graph.values if group[name] == group[value] and name != value and _own_range(case, name)]
    if not others:
        return ""
    return repr(others[0]) + (f" and {len(others) - 1} more" if len(others) > 1 else "")


def _own_range(case: Case, name: str) -> bool:
    """Whether the value's range was a reason for the common one, so not one that the operator merely copies."""
    (low, high), (least, most) = case.report.ranges.get(name, (0.0, 0.0)), case.observed
    return high - low > SPREAD * (most - least)


def _by_channel(case: Case) -> Iterator[Remedy]:
    """Ranges of its own for every channel, which equalization comes near to; also for weights where these share one scale."""
    low, high = case.measure.low.astype(np.float64), case.measure.high.astype(np.float64)
    reach = np.maximum(-low, high)
    used = reach[reach > 0]
    if len(used) < 2 or used.max() < SPREAD * np.median(used):
        return
    scales = np.where(reach > 0, (np.maximum(high, 0) - np.minimum(low, 0)) / 255, 1.0).astype(np.float32)
    least = np.minimum(low, 0).astype(np.float32)

    def by_channel(real: FloatArray) -> FloatArray:
        result: FloatArray = (np.rint((real - least) / scales) * scales + least).astype(np.float32)
        return result

    why = f"few channels use its range: channel {int(reach.argmax())} reaches {reach.max():.3g}, the median channel {np.median(used):.3g}"
    then, advice = "if every channel had a range of its own", "equalize it with the layers that read it (--repair)"
    yield Remedy(name="channel_range", why=why, then=then, advice=advice, values=by_channel)
    found = case.weights
    if case.op is not None and found is not None and found.one_scale and found.spread >= SPREAD:
        weights = _coded(case.op, found.magnitudes, found.kind.high)
        why += f", and one scale serves weights of which they reach {found.magnitudes.max():.3g} and {found.median:.3g}"
        yield Remedy(name="channel_scale", why=why, then=then, advice=advice, weights=weights, values=by_channel)
