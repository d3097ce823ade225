"""Integer arithmetic, written once: the same functions run on NumPy arrays, on Amaranth values and on C expressions.

Functions use plain operators and `select`, which the RTL and C readers extend by `select.register`. A compound operation is a
tuple of stages; folding them over NumPy int64 arrays is the golden model, one register after each stage is the pipeline in RTL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import singledispatch
from typing import Any

import numpy as np

from hwgen.errors import QuantizationError


class Rounding(Enum):
    """What a right shift does with the bits that it drops."""

    HALF_EVEN = "half_even"
    HALF_UP = "half_up"


@dataclass(frozen=True)
class IntType:
    """An integer of `bits` bits in two's complement (`signed`) or plain binary."""

    bits: int
    signed: bool = True

    @property
    def min(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    def holds(self, low: int, high: int) -> bool:
        return self.min <= low and high <= self.max

    def __str__(self) -> str:
        return f"{'' if self.signed else 'u'}int{self.bits}"


INT8, UINT8 = IntType(8), IntType(8, False)


@singledispatch
def select(condition: Any, if_true: Any, if_false: Any) -> Any:
    """`if_true` where `condition` holds, else `if_false`; element by element."""
    return np.where(condition, if_true, if_false)


def clamp(x: Any, low: Any, high: Any) -> Any:
    """x limited to [low, high]; high wins where low > high."""
    at_least = select(x < low, low, x)
    return select(at_least > high, high, at_least)


@dataclass(frozen=True)
class Stage:
    """One step of a compound operation: `function(**operands)` gives the named outputs, whose types are declared."""

    outputs: Mapping[str, IntType]
    function: Callable[..., Mapping[str, Any]]


def fold(stages: tuple[Stage, ...], operands: Mapping[str, Any]) -> Mapping[str, Any]:
    """Run the stages over NumPy integers, and check every declared range on the way.

    Raises QuantizationError when a value leaves its declared range: a width error is found here before RTL exists.
    """
    for stage in stages:
        operands = stage.function(**operands)
        for name, kind in stage.outputs.items():
            value = np.asarray(operands[name])
            if value.size and not kind.holds(int(value.min()), int(value.max())):
                raise QuantizationError(f"{name}: must fit {kind}, found {int(value.min())}..{int(value.max())}; widen the type")
    return operands


_FINE_BITS = 3  # a shift is done in two steps: by whole bytes, then by what is left of it
_SCALED = IntType(10)  # twice a scaled value and its fraction bit; beyond, zero point and clamps of int8 give the same y
_FLAG = IntType(1, False)
PARTS = IntType(4, False)  # a flag whose parts are not yet put together: it holds where any bit is set


@singledispatch
def scale_down(value: Any, shift: Any, lowest: int, fraction: int, kind: IntType) -> tuple[Any, Any, Any]:
    """floor(value * 2**fraction / 2**s); PARTS: it does not fit `kind`, and only its sign is right; PARTS: a remainder is left.

    s are the 3 bits of `shift` from bit `lowest` on.
    """
    by = shift & (((1 << _FINE_BITS) - 1) << lowest)
    value = value << fraction
    scaled = value >> by
    limited = clamp(scaled, kind.min, kind.max)
    return limited, select(limited != scaled, 1, 0), select((value & ((1 << by) - 1)) != 0, 1, 0)


def shift_round_clamp(value: str, shift_type: IntType, rounding: Rounding, zero_point: bool) -> tuple[Stage, ...]:
    """Four stages: y = value / 2**shift, rounded, with the operand `zero_point` added, and clamped to `low` and `high`.

    Limits late, and rounds later: between the two shifts 17 bits are enough, since 7 more positions leave the 10 of _SCALED, so that
    what does not fit before the second shift does not fit behind it. Clamps by complements, whose sums' signs are the comparisons.
    """
    window_type = IntType(_SCALED.bits + (1 << _FINE_BITS) - 1)
    to_even = rounding is Rounding.HALF_EVEN
    carry = {"low": INT8, "high": INT8, **({"zero_point": INT8} if zero_point else {})}
    between = {"window": window_type, "beyond": PARTS, "shift": shift_type, **({"sticky": PARTS} if to_even else {}), **carry}
    shifted = {"doubled": _SCALED, "beyond": PARTS, **({"sticky": PARTS} if to_even else {}), **carry}
    clamped = {"scaled": _SCALED, "not_low": INT8, "not_high": INT8, "crossed": _FLAG}

    def shift_bytes(**o: Any) -> dict[str, Any]:
        window, beyond, sticky = scale_down(o[value], o["shift"], _FINE_BITS, 1, window_type)
        return {"window": window, "beyond": beyond, "shift": o["shift"], **({"sticky": sticky} if to_even else {}), **{name: o[name] for name in carry}}

    def shift_bits(**o: Any) -> dict[str, Any]:
        doubled, beyond, sticky = scale_down(o["window"], o["shift"], 0, 0, _SCALED)
        flags = {"beyond": o["beyond"] | beyond, **({"sticky": o["sticky"] | sticky} if to_even else {})}
        return {"doubled": doubled, **flags, **{name: o[name] for name in carry}}

    def round_and_add(**o: Any) -> dict[str, Any]:
        low, high = o["low"], o["high"]
        limit = select(_is_negative(o["doubled"], _SCALED), _SCALED.min, _SCALED.max)
        doubled = select(o["beyond"] != 0, limit, o["doubled"])
        q, half = doubled >> 1, doubled & 1
        up = half & select(o["sticky"] != 0, 1, q) if to_even else half
        return {"scaled": q + (o["zero_point"] if zero_point else 0) + up, "not_low": ~low, "not_high": ~high, "crossed": select(low > high, 1, 0)}

    def clamp_scaled(scaled: Any, not_low: Any, not_high: Any, crossed: Any) -> dict[str, Any]:
        difference = IntType(_SCALED.bits + 1)
        limited = select(_is_negative(scaled + not_low, difference), ~not_low, scaled)
        return {"y": select(crossed != 0, ~not_high, select(_is_negative(scaled + not_high, difference), limited, ~not_high))}

    return Stage(between, shift_bytes), Stage(shifted, shift_bits), Stage(clamped, round_and_add), Stage({"y": INT8}, clamp_scaled)


def _is_negative(value: Any, kind: IntType) -> Any:
    """By the sign bit: hardware makes a subtraction of a comparison."""
    return (value >> (kind.bits - 1)) != 0


SHIFT = IntType(6, False)
MULTIPLIER_BITS = (0, 8, 10, 12, 16, 24)  # that hardware can be built with; 0: scales are powers of two, and no multiplier is built


@dataclass(frozen=True, kw_only=True)
class Requantize:
    """accumulator -> int8:  y = clamp(round(acc * multiplier / 2**shift) + zero_point, low, high).

    `multiplier_bits` 0 means power-of-two scales only: operand `multiplier` is then ignored and no multiplier is built.
    Source: design of the integer inference rule of Jacob et al., CVPR 2018, section 2.2, with per-channel clamps.
    """

    accumulator: IntType = IntType(32)
    multiplier_bits: int = 16
    rounding: Rounding = Rounding.HALF_EVEN

    @property
    def inputs(self) -> dict[str, IntType]:
        return {"acc": self.accumulator, "multiplier": IntType(max(self.multiplier_bits, 1), False), "shift": SHIFT, **self._tail}

    @property
    def _tail(self) -> dict[str, IntType]:
        return {"zero_point": INT8, "low": INT8, "high": INT8}

    @property
    def product(self) -> IntType:
        return IntType(self.accumulator.bits + self.multiplier_bits)

    @property
    def stages(self) -> tuple[Stage, ...]:
        keep = {"shift": SHIFT, **self._tail}
        half_bits = self.accumulator.bits // 2

        def partial_products(acc: Any, multiplier: Any, **rest: Any) -> dict[str, Any]:
            return {"lower": (acc & ((1 << half_bits) - 1)) * multiplier, "upper": (acc >> half_bits) * multiplier, **rest}

        def join(lower: Any, upper: Any, **rest: Any) -> dict[str, Any]:
            return {"product": (upper << half_bits) + lower, **rest}

        def pass_through(acc: Any, multiplier: Any, **rest: Any) -> dict[str, Any]:
            return {"product": acc, **rest}

        multiply: tuple[Stage, ...]
        if self.multiplier_bits:
            lower = IntType(half_bits + self.multiplier_bits, False)
            upper = IntType(self.accumulator.bits - half_bits + self.multiplier_bits)
            multiply = (Stage({"lower": lower, "upper": upper, **keep}, partial_products), Stage({"product": self.product, **keep}, join))
        else:
            multiply = (Stage({"product": self.product, **keep}, pass_through),)

        return (*multiply, *shift_round_clamp("product", SHIFT, self.rounding, zero_point=True))

    def compute(self, **operands: Any) -> Any:
        """Golden meaning on int64 arrays; operands as in `inputs`, broadcast together."""
        return fold(self.stages, operands)["y"]


@dataclass(frozen=True, kw_only=True)
class AddRequantize:
    """Elementwise addition: y = clamp(round((a * multiplier_a + b * multiplier_b + offset) / 2**shift), low, high).

    offset = (zero_point_y << shift) - zero_point_a * multiplier_a - zero_point_b * multiplier_b: the zero point lies inside the
    rounding, as in ONNX Runtime's QLinearAdd. With `multiplier_bits` 0 the multipliers are powers of two, and the operands
    `multiplier_a`, `multiplier_b` hold their exponents.
    """

    multiplier_bits: int = 16
    rounding: Rounding = Rounding.HALF_EVEN

    OFFSET = IntType(48)

    @property
    def _multiplier(self) -> IntType:
        return IntType(self.multiplier_bits, False) if self.multiplier_bits else IntType(5, False)

    @property
    def inputs(self) -> dict[str, IntType]:
        m = self._multiplier
        return {"a": INT8, "b": INT8, "multiplier_a": m, "multiplier_b": m, "offset": self.OFFSET, "shift": SHIFT, "low": INT8, "high": INT8}

    @property
    def stages(self) -> tuple[Stage, ...]:
        tail = {"low": INT8, "high": INT8}
        product = IntType(8 + (self.multiplier_bits or 31))
        total = IntType(self.OFFSET.bits + 1)

        def multiply(a: Any, b: Any, multiplier_a: Any, multiplier_b: Any, **rest: Any) -> dict[str, Any]:
            if self.multiplier_bits:
                return {"a": a * multiplier_a, "b": b * multiplier_b, **rest}
            return {"a": a << multiplier_a, "b": b << multiplier_b, **rest}

        def add(a: Any, b: Any, offset: Any, **rest: Any) -> dict[str, Any]:
            return {"total": a + b + offset, **rest}

        return (
            Stage({"a": product, "b": product, "offset": self.OFFSET, "shift": SHIFT, **tail}, multiply),
            Stage({"total": total, "shift": SHIFT, **tail}, add),
            *shift_round_clamp("total", SHIFT, self.rounding, zero_point=False),
        )

    def compute(self, **operands: Any) -> Any:
        """Golden meaning on int64 arrays; operands as in `inputs`, broadcast together."""
        return fold(self.stages, operands)["y"]
