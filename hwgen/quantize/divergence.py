"""The range whose codes keep the distribution of the values best."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Reals = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
GROUPS = 255  # of values that share a code
COARSE = 4096  # bins of the histogram that is compared
PER_BIN = 16  # values, on average, without which chance would decide
LEAST_BINS = 128  # inside a range: so few bins as would all have their own code lose nothing, and must not win
SHARES = np.linspace(1.0, 0.1, 91)  # of the extremes, tried one end after the other
MISSING = 20.0  # about the logarithm of a distribution over as many values as a histogram counts


def least_divergence(low: float, high: float, centers: Reals, counts: Counts) -> tuple[float, float]:
    """(low, high) around zero with the least Kullback-Leibler divergence of the codes' distribution from the values'.

    Source: S. Migacz, "8-bit Inference with TensorRT", 2017: values outside count at the ends of the range in the true distribution, and
    not at all in that of the codes, so that clipping costs. Too few values to have a distribution keep their extremes.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    bins = 1 << max(1, min(COARSE, int(counts.sum()) // PER_BIN).bit_length() - 1)
    if bins < GROUPS:
        return low, high
    step = max(1, len(centers) // bins)
    half = len(counts) // 2
    counts = np.concatenate([counts[: half - 1], [0, 0], counts[half + 1 :]])  # zero is exact in every range, and often half of all values
    centers, counts = centers.reshape(-1, step).mean(1), counts.reshape(-1, step).sum(1)
    used = np.flatnonzero(counts)
    if len(used) <= 1:
        return low, high
    for _ in range(2):
        high = min((high * share for share in SHARES), key=lambda end: divergence(centers, counts, low, end))
        low = min((low * share for share in SHARES), key=lambda end: divergence(centers, counts, end, high))
    return low, high


def divergence(centers: Reals, counts: Counts, low: float, high: float) -> float:
    """Of a histogram from itself after coding with the range; infinite where too few bins lie inside."""
    first, last = np.searchsorted(centers, low), np.searchsorted(centers, high, side="right")
    inside = counts[first:last].astype(np.float64)
    if len(inside) < LEAST_BINS or not inside.any():
        return float("inf")
    true = inside.copy()
    true[0] += counts[:first].sum()
    true[-1] += counts[last:].sum()
    group = np.arange(len(inside)) * GROUPS // len(inside) if len(inside) > GROUPS else np.arange(len(inside))
    filled = (inside > 0).astype(np.float64)
    mass, width = np.bincount(group, inside), np.bincount(group, filled)
    coded = np.where(inside > 0, (mass / np.maximum(width, 1))[group], 0.0)
    true, coded = true / true.sum(), coded / coded.sum()
    both = (true > 0) & (coded > 0)
    missing = float(true[(true > 0) & (coded == 0)].sum())  # values outside whose end of the range holds none
    return float((true[both] * np.log(true[both] / coded[both])).sum()) + missing * MISSING
