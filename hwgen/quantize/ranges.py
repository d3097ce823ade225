"""Ranges of activations from what calibration saw."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hwgen.errors import QuantizationError
from hwgen.ir.types import FloatArray
from hwgen.quantize.options import QuantizeOptions, RangeMethod

BINS = 1 << 14
LEVELS = 255
Range = tuple[float, float]
Counts = npt.NDArray[np.int64]


class Observer:
    """Extremes and histogram of one value, gathered batch by batch. The histogram spans -limit..limit and doubles when needed,
    so that the result does not depend on how the data were cut into batches."""

    def __init__(self, name: str, *, histogram: bool = True) -> None:
        self.name = name
        self.low, self.high = np.inf, -np.inf
        self.counts: Counts | None = np.zeros(BINS, np.int64) if histogram else None
        self.limit = 0.0

    def add(self, x: FloatArray) -> None:
        """Raises QuantizationError for values that are not finite."""
        if not x.size:
            return
        low, high = float(x.min()), float(x.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise QuantizationError(f"value {self.name!r}: calibration must give finite values, not {low} .. {high}; check the inputs and the weights")
        self.low, self.high = min(self.low, low), max(self.high, high)
        if self.counts is not None and (low or high):
            self._grow(max(-low, high))
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
    if not np.isfinite(low + high) or low == high or observer.counts is None or not observer.counts.any():
        return (low, high) if np.isfinite(low + high) else (0.0, 0.0)
    if options.ranges is RangeMethod.PERCENTILE:
        return _percentile(observer, observer.counts, options.percentile)
    if options.ranges is RangeMethod.MSE:
        return _least_squares(observer, observer.counts)
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
        scale = (b - a) / LEVELS
        code = np.rint(np.clip(x, a, b) / scale)
        return float(((code * scale - x) ** 2 * weight).sum())

    for _ in range(2):
        high = min((high * f for f in np.linspace(1, 0.4, 49)), key=lambda b: error(low, b)) if high > 0 else high
        low = min((low * f for f in np.linspace(1, 0.4, 49)), key=lambda a: error(a, high)) if low < 0 else low
    return low, high
