"""Where a requantization steps from one code to the next, and how a bias with a fraction is put into integers.

The bias of a convolution is an integer number of products. That is too coarse where products are few-bit integers and the bias is real (a
batch normalization before a quantizer): half a product may be a good part of an output step. But the fraction of a bias can be carried by
the zero point, which every output channel has of its own: (acc + b) * ratio + z and (acc + b') * ratio + z' differ by any small amount, if
b' - b is nearly (z - z') / ratio. Of all zero points the one is taken whose staircase is that of the real-valued function.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.arith import INT8, Rounding
from hwgen.layout import Int64Array

ACCUMULATOR_BITS = 32
_STEPS_AT_ONCE = 1 << 22  # of staircases that are compared: bounds the memory


def least_accumulators(level: Int64Array, multiplier: Int64Array, shift: Int64Array, rounding: Rounding) -> Int64Array:
    """The least integer acc whose rounded acc * multiplier / 2**shift reaches each level; operands broadcast together, shifts up to 52."""
    half_steps = np.where(shift > 0, (2 * level - 1) << np.maximum(shift - 1, 0), level)
    first: Int64Array = -(-half_steps // multiplier)
    if rounding is Rounding.HALF_EVEN:
        tie_goes_down = (shift > 0) & (level & 1 == 1) & (first * multiplier == half_steps)
        first = first + tie_goes_down
    return first


@dataclass(frozen=True, kw_only=True, eq=False)
class RealStage:
    """y = clamp(round((acc + bias) * ratio) + zero_point, low, high) in real numbers, which integers shall meet; arrays (C,).

    `least` and `greatest` bound acc, the sum of products (x - zero point) * w. multiplier / 2**shift is the ratio in integers.
    """

    bias: npt.NDArray[np.float64]
    ratio: npt.NDArray[np.float64]
    multiplier: Int64Array
    shift: Int64Array
    low: Int64Array
    high: Int64Array
    least: Int64Array
    greatest: Int64Array
    zero_point: int

    def part(self, channels: slice) -> RealStage:
        arrays = {name: value[channels] for name, value in vars(self).items() if isinstance(value, np.ndarray)}
        return RealStage(**arrays, zero_point=self.zero_point)

    def steps(self) -> Int64Array:
        """(C, 255) the least acc whose y reaches each of the codes -127..127; exact ties round to even."""
        level = (_CODES - self.zero_point).astype(np.float64)
        at = (level - 0.5) / self.ratio[:, None] - self.bias[:, None]
        tie_goes_down = (at == np.floor(at)) & (level % 2 == 1)
        limit = float(1 << 62)
        steps: Int64Array = np.clip(np.ceil(at) + tie_goes_down, -limit, limit).astype(np.int64)
        return steps


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """Integers (C,): `bias` is added to acc, `zero_point` behind the rounding; `exact`: every y in reach is that of the real numbers."""

    bias: Int64Array
    zero_point: Int64Array
    multiplier: Int64Array
    wrong: Int64Array  # accumulators that give another code, as far as they were counted

    @property
    def exact(self) -> npt.NDArray[np.bool_]:
        exact: npt.NDArray[np.bool_] = self.wrong == 0
        return exact


_CODES = np.arange(INT8.min + 1, INT8.max + 1)
_ZERO_POINTS = np.arange(INT8.min, INT8.max + 1)
_NEIGHBOURS = (0, 1, -1)  # multipliers tried: a ratio that is a power of two has ties at every half step, its neighbours have none
_HOPELESS = 1 << 40


def place(stage: RealStage, rounding: Rounding, multiplier_bits: int) -> Placed:
    """Bias, zero point and multiplier per channel whose staircase is nearest to the real one, counted in accumulators that give another code."""
    block = max(1, _STEPS_AT_ONCE // (len(_CODES) * len(_ZERO_POINTS)))
    parts = [_best(stage.part(slice(first, first + block)), rounding, multiplier_bits) for first in range(0, len(stage.bias), block)]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("bias", "zero_point", "multiplier", "wrong")}
    return Placed(**joined)


def _best(stage: RealStage, rounding: Rounding, multiplier_bits: int) -> Placed:
    best = _place(stage, stage.multiplier, rounding)
    for step in _NEIGHBOURS[1:] if multiplier_bits else ():
        if best.exact.all():
            break
        multiplier = np.clip(stage.multiplier + step, 1 << (multiplier_bits - 1), (1 << multiplier_bits) - 1)
        other = _place(stage, multiplier, rounding)
        better = other.wrong < best.wrong
        best = Placed(**{name: np.where(better, value, getattr(best, name)) for name, value in vars(other).items()})
    return best


def _place(stage: RealStage, multiplier: Int64Array, rounding: Rounding) -> Placed:
    ratio = np.ldexp(multiplier.astype(np.float64), -stage.shift.astype(np.int32))[:, None]
    limit = 1 << (ACCUMULATOR_BITS - 1)
    bias = np.clip(np.rint(stage.bias[:, None] + (stage.zero_point - _ZERO_POINTS) / ratio), -limit, limit).astype(np.int64)  # (C, Z)
    fits = (stage.least[:, None] + bias >= -limit) & (stage.greatest[:, None] + bias < limit)
    level = _CODES - _ZERO_POINTS[:, None]  # (Z, K)
    first = least_accumulators(level, multiplier[:, None, None], stage.shift[:, None, None], rounding)
    least, beyond = stage.least[:, None, None], stage.greatest[:, None, None] + 1
    ours = np.clip(first - bias[:, :, None], least, beyond)
    wanted = np.clip(stage.steps()[:, None, :], least, beyond)
    counts = (stage.low[:, None] < _CODES) & (stage.high[:, None] >= _CODES)  # (C, K): steps that the clamp lets through
    wrong = np.minimum(np.abs(ours - wanted) * counts[:, None, :], 1 << 20).sum(axis=2)  # (C, Z)
    wrong = np.where(fits, wrong, _HOPELESS)
    best = np.argmin(wrong * 1024 + np.abs(_ZERO_POINTS - stage.zero_point), axis=1)
    rows = np.arange(len(best))
    return Placed(bias=bias[rows, best], zero_point=_ZERO_POINTS[best].astype(np.int64), multiplier=multiplier, wrong=wrong[rows, best])
