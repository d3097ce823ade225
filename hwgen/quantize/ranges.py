"""Ranges of activations from what calibration saw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwgen.errors import QuantizationError
from hwgen.ir.types import FloatArray
from hwgen.quantize.divergence import least_divergence
from hwgen.quantize.options import QuantizeOptions, RangeMethod, Scheme

BINS = 1 << 14
LEVELS = 255
AVERAGE_KEEPS = 0.9  # of the average when one more input comes
GREATEST_EXTENSION = 2.0  # of a range beyond what was seen
Range = tuple[float, float]
Counts = npt.NDArray[np.int64]


class Observer:
    """Extremes (of all inputs and of each) and histogram of one value, gathered batch by batch. The histogram spans -limit..limit and doubles when needed,
    so that the result does not depend on how the data were cut into batches."""

    def __init__(self, name: str, *, histogram: bool = True) -> None:
        self.name = name
        self.low, self.high = np.inf, -np.inf
        self.lows: list[FloatArray] = []  # of the inputs of each batch
        self.highs: list[FloatArray] = []
        self.elements = 0  # of one input
        self.counts: Counts | None = np.zeros(BINS, np.int64) if histogram else None
        self.limit = 0.0

    def add(self, x: FloatArray) -> None:
        """Raises QuantizationError for values that are not finite."""
        if not x.size:
            return
        rows = x.reshape(len(x), -1)
        lows, highs = rows.min(1), rows.max(1)
        low, high = float(lows.min()), float(highs.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise QuantizationError(f"value {self.name!r}: calibration must give finite values, not {low} .. {high}; check the inputs and the weights")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.lows.append(lows)
        self.highs.append(highs)
        self.elements = rows.shape[1]
        if self.counts is not None:
            self.count(x)

    def count(self, x: FloatArray) -> None:
        """Into the histogram only."""
        magnitude = float(np.abs(x).max(initial=0))
        if magnitude:
            if self.counts is None:
                self.counts = np.zeros(BINS, np.int64)
            self._grow(magnitude)
            index = (x.reshape(-1) * np.float32(BINS / 2 / self.limit) + np.float32(BINS / 2)).astype(np.int32)
            self.counts += np.bincount(np.clip(index, 0, BINS - 1, out=index), minlength=BINS)

    def _grow(self, magnitude: float) -> None:
        needed = 2.0 ** np.ceil(np.log2(max(magnitude, 2.0**-100)))
        if not self.limit:
            self.limit = needed
        while self.limit < needed:
            assert self.counts is not None
            merged = np.zeros(BINS, np.int64)
            merged[BINS // 4 : 3 * BINS // 4] = self.counts.reshape(-1, 2).sum(1)
            self.counts, self.limit = merged, self.limit * 2

    @property
    def centers(self) -> npt.NDArray[np.float64]:
        bins = np.arange(BINS, dtype=np.float64)
        return (bins + (0.5 - BINS / 2)) * (2 * self.limit / BINS)


def choose_range(observer: Observer, options: QuantizeOptions) -> Range:
    """(low, high) with low <= 0 <= high."""
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    if not np.isfinite(low + high) or low == high:
        return (low, high) if np.isfinite(low + high) else (0.0, 0.0)
    if options.ranges is RangeMethod.AVERAGE:
        return average_extremes(observer)
    if options.ranges is RangeMethod.TAIL:
        return beyond_extremes(observer)
    if observer.counts is None or not observer.counts.any():
        return low, high
    if options.ranges is RangeMethod.PERCENTILE:
        return _percentile(observer, observer.counts, options.percentile)
    if options.ranges is RangeMethod.MSE:
        return _shifting(observer, observer.counts) if options.scheme is Scheme.POWER_OF_TWO else _least_squares(observer, observer.counts)
    if options.ranges is RangeMethod.KL:
        return least_divergence(observer.low, observer.high, observer.centers, observer.counts)
    return low, high


def _percentile(observer: Observer, counts: Counts, percentile: float) -> Range:
    share = np.cumsum(counts) / counts.sum()
    tail = (1 - percentile / 100) / 2
    half_bin = observer.limit / BINS
    low = observer.centers[np.searchsorted(share, tail, side="right")] - half_bin
    high = observer.centers[np.searchsorted(share, 1 - tail, side="left")] + half_bin
    return float(min(max(low, observer.low), 0.0)), float(max(min(high, observer.high), 0.0))


def _least_squares(observer: Observer, counts: Counts) -> Range:
    """The clip of each end that minimizes the squared error of 8-bit codes; the ends one after the other."""
    used = counts > 0
    x, weight = observer.centers[used], counts[used]
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)

    def error(a: float, b: float) -> float:
        return _squared_error(x, weight, a, b, (b - a) / LEVELS)

    for _ in range(2):
        high = min((high * f for f in np.linspace(1, 0.4, 49)), key=lambda b: error(low, b)) if high > 0 else high
        low = min((low * f for f in np.linspace(1, 0.4, 49)), key=lambda a: error(a, high)) if low < 0 else low
    return low, high


def _squared_error(x: npt.NDArray[np.float64], weight: Counts, low: float, high: float, scale: float) -> float:
    """Of values x, each as often as `weight` says, as codes of a range."""
    code = np.rint(np.clip(x, low, high) / scale)
    return float(((code * scale - x) ** 2 * weight).sum())


def _shifting(observer: Observer, counts: Counts) -> Range:
    """The range of the scale 2**k with the least squared error, of those that cover all values, half and a quarter of them."""
    used = counts > 0
    x, weight = observer.centers[used], counts[used]
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    codes = (-128, 127) if low < 0 else (0, 255)
    covering = 2.0 ** np.ceil(np.log2(max(-low, high) / codes[1]))
    scale = min((covering * share for share in (1.0, 0.5, 0.25)), key=lambda s: _squared_error(x, weight, codes[0] * s, codes[1] * s, s))
    return max(low, -codes[1] * scale), min(high, codes[1] * scale)


def average_extremes(observer: Observer) -> Range:
    """Moving averages of the extremes of one input after the other, so that a single outlier counts little."""
    low, high = np.concatenate(observer.lows).astype(np.float64), np.concatenate(observer.highs).astype(np.float64)
    ages = np.arange(len(low))[::-1]
    weight = AVERAGE_KEEPS**ages * np.where(ages == len(low) - 1, 1.0, 1 - AVERAGE_KEEPS)
    return min(float((low * weight).sum()), 0.0), max(float((high * weight).sum()), 0.0)


def beyond_extremes(observer: Observer) -> Range:
    """Ends beyond the extremes, where what other inputs may lose by clipping is worth more than finer codes for all.

    The extremes of single inputs above their upper quartile are taken as exponentially distributed; the squared error that a clip at T
    leaves is then 2 b**2 exp(-(T - u) / b) for each of them, u the quartile and b their mean excess.
    """
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    ends = []
    for extremes, end, other in ((-np.concatenate(observer.lows), -low, high), (np.concatenate(observer.highs), high, -low)):
        ordered = np.sort(extremes.astype(np.float64))
        count = max(1, len(ordered) // 4)
        start = ordered[-count - 1] if len(ordered) > count else ordered[0]
        excess = float(max((ordered[-count:] - start).mean(), np.finfo(np.float32).tiny))
        tried = end * np.linspace(1, GREATEST_EXTENSION, 101)
        share = count / len(ordered) / max(1, observer.elements)
        lost = share * 2 * excess**2 * np.exp(-np.maximum(tried - start, 0) / excess)
        ends.append(float(tried[int((((tried + other) / LEVELS) ** 2 / 12 + lost).argmin())]))
    return -ends[0], ends[1]
