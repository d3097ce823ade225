"""Comparison of two requantization rules over every accumulator at once.

A rule is a monotone staircase accumulator -> output level, so two rules agree on an interval if and only if each step lies at the
same accumulator in both. The steps of the integer rule have a closed form; the other rule is evaluated on both sides of each.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8, Rounding
from hwgen.layout import Int64Array
from hwgen.ops.integer import OutputStage
from hwgen.ops.thresholds import least_accumulators

Rule = Callable[[Int64Array], npt.NDArray[np.floating]]  # (C, L) accumulators -> rounded levels, before the zero point; monotone
MAX_SHIFT = 52  # (2 * level - 1) << shift must fit int64
SINGLE_EXACT = 1 << 24  # integers up to here are exact in float32


def levels(zero_point: Int64Array) -> Int64Array:
    """(C, 255) levels k such that an output changes from k - 1 to k: output codes -127..127 less the zero point (C,)."""
    return np.arange(INT8.min + 1, INT8.max + 1) - zero_point[:, None]


def steps(stage: OutputStage, rounding: Rounding) -> Int64Array:
    """(C, 255) least accumulator whose rounded acc * multiplier / 2**shift reaches each of `levels`; shifts up to MAX_SHIFT."""
    return least_accumulators(levels(stage.zero_point), stage.multiplier[:, None], stage.shift[:, None], rounding)


def agrees(stage: OutputStage, rounding: Rounding, rule: Rule, low: Int64Array, high: Int64Array) -> npt.NDArray[np.bool_]:
    """(C,) whether `rule` equals the integer rule for every accumulator from `low` to `high`, both (C,)."""
    k, first = levels(stage.zero_point), steps(stage, rounding)
    low, high = low[:, None], high[:, None]
    reached = rule(np.clip(first, low, high)) >= k
    not_before = rule(np.clip(first - 1, low, high)) < k
    same = np.where(first <= high, reached, True) & np.where(first > low, not_before, True)
    return same.all(axis=1) & (stage.shift <= MAX_SHIFT)


def differing(stage: OutputStage, rounding: Rounding, rule: Rule, low: Int64Array, high: Int64Array) -> Int64Array:
    """(C,) accumulators from `low` to `high` for which `rule` gives another code than the integer rule, as far as the clamp lets them through.

    The steps of `rule` are sought near those of the integer rule: ratios that differ by less than 2**-14.
    """
    k, first = levels(stage.zero_point), steps(stage, rounding)
    least, beyond = low[:, None], high[:, None] + 1
    reach = (np.abs(first) >> 14) + 4
    begin, end = np.clip(first - reach, least, beyond), np.clip(first + reach, least, beyond)
    while (begin < end).any():
        middle = (begin + end) >> 1
        reached = rule(np.minimum(middle, beyond - 1)) >= k
        begin, end = np.where((begin < end) & ~reached, middle + 1, begin), np.where((begin < end) & reached, middle, end)
    codes = k + stage.zero_point[:, None]
    counts = (codes > stage.low[:, None]) & (codes <= stage.high[:, None])
    result: Int64Array = (np.abs(begin - np.clip(first, least, beyond)) * counts).sum(axis=1)
    return result


def single_precision_rule(ratio: npt.NDArray[np.float32]) -> Rule:
    """ONNX Runtime's integer kernels: float32(acc) * ratio in float32, rounded half to even; ratio (C,)."""

    def rule(acc: Int64Array) -> npt.NDArray[np.floating]:
        rounded: npt.NDArray[np.float32] = np.rint(acc.astype(np.float32) * ratio[:, None])
        return rounded

    return rule


def exact_in_single_precision(stage: OutputStage, rounding: Rounding, low: Int64Array, high: Int64Array) -> bool:
    """Whether float32 arithmetic gives the integer rule's results for every accumulator from low to high (C,), all below 2**24."""
    if low.min() < -SINGLE_EXACT or high.max() > SINGLE_EXACT:
        return False
    return bool(agrees(stage, rounding, single_precision_rule(stage.ratio.astype(np.float32)), low, high).all())
