"""Weights of few bits: their codes, and the scales with which these come nearest to the real weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.packing import WeightFormat

GREATEST_WEIGHT = 127  # of 8 bits; symmetric: -128 is not used, as in ONNX Runtime's own quantizer
FACTORS = np.linspace(1.0, 0.1, 46)  # of the scale that covers the greatest weight
REFINEMENTS = 2  # of the best one: the scale that fits its codes best, and the codes of that
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PartOfFormat:
    """Integers that have no format of their own in memory, and are stored in the narrowest one that holds them."""

    name: str
    low: int
    high: int

    def holds(self, weights: npt.NDArray[Any]) -> bool:
        """Whether each weight has a code."""
        return not weights.size or (int(weights.min()) >= self.low and int(weights.max()) <= self.high)


INT3 = PartOfFormat(name="INT3", low=-4, high=3)
WeightCodes = WeightFormat | PartOfFormat  # what weights may be


def encode(units: Reals, kind: WeightCodes) -> npt.NDArray[np.int8]:
    """Nearest codes of weights in units of their scale."""
    if kind is WeightFormat.BINARY:
        return np.where(units < 0, -1, 1).astype(np.int8)
    low = -GREATEST_WEIGHT if kind is WeightFormat.INT8 else kind.low
    codes: npt.NDArray[np.int8] = np.clip(np.rint(units), low, kind.high).astype(np.int8)
    return codes


def covering_scales(weight: Reals, kind: WeightCodes) -> Reals:
    """(C,) scales at which the greatest magnitude of weights (C, K) has the greatest code; 0 where all weights are."""
    greatest: Reals = np.abs(weight).max(axis=1, initial=0.0) / kind.high
    return greatest


def least_squares_scales(weight: Reals, kind: WeightCodes) -> Reals:
    """(C,) scales with the least squared error of weights (C, K): large weights are limited where the finer steps of others are worth more.

    For one scale for all give weights of one row. 0 where all weights are.
    """
    covering = covering_scales(weight, kind)
    safe = np.where(covering > 0, covering, 1.0)

    def error(scale: Reals) -> Reals:
        lost: Reals = ((encode(weight / scale[:, None], kind) * scale[:, None] - weight) ** 2).sum(axis=1)
        return lost

    table = np.array([error(safe * factor) for factor in FACTORS])
    best = safe * FACTORS[table.argmin(axis=0)]
    for _ in range(REFINEMENTS):
        codes = encode(weight / best[:, None], kind).astype(np.float64)
        fitted = np.where((codes**2).sum(axis=1) > 0, (codes * weight).sum(axis=1) / np.maximum((codes**2).sum(axis=1), 1.0), best)
        fitted = np.where(fitted > 0, fitted, best)
        best = np.where(error(fitted) < error(best), fitted, best)
    return np.where(covering > 0, best, 0.0)
