"""Functions of a positive integer w by its leading bits: tables over the mantissa, linear in between. Golden model and C read the same ones.

w = 2**e * (1 + f) with 0 <= f < 1: 256 steps of f, the rest of it by the straight line between two of them. For a function g of f the line
is off by at most max |g''| / (8 * 256**2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from hwgen.layout import Int64Array

STEP_BITS, REST_BITS = 8, 23  # of f: those that choose a knot, those that go on from there
UNIT_BITS = STEP_BITS + REST_BITS  # a mantissa is an integer of 2**31 to 2**32
MOST_BITS = 62  # of w
LOG_BITS = 24  # behind the point of a logarithm


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """`knots` (257,): the function at f = k / 256, as integers below 2**32."""

    knots: Int64Array

    def at(self, mantissa: Int64Array) -> Int64Array:
        """Of mantissas from 2**31 to 2**32."""
        index, rest = (mantissa >> REST_BITS) & ((1 << STEP_BITS) - 1), mantissa & ((1 << REST_BITS) - 1)
        result: Int64Array = self.knots[index] + ((self.knots[index + 1] - self.knots[index]) * rest >> REST_BITS)
        return result


def leading(w: Int64Array) -> tuple[Int64Array, Int64Array]:
    """(e, mantissa) of integers from 1 to below 2**62; bits of w below the mantissa's are cut off."""
    exponent = np.frexp(w.astype(np.float64))[1].astype(np.int64) - 1
    exponent = exponent - ((np.int64(1) << exponent) > w)  # float64 may have rounded w up to a power of two
    above = exponent - UNIT_BITS
    return exponent, np.where(above > 0, w >> np.maximum(above, 0), w << np.maximum(-above, 0))


def _fractions() -> np.ndarray:
    return 1 + np.arange((1 << STEP_BITS) + 1) / (1 << STEP_BITS)


@dataclass(frozen=True, kw_only=True, eq=False)
class InversePower:
    """w**-beta = r / 2**(31 + x): `powers[e]` / 2**(31 + exponents[e]) is 2**(-beta * e), the curve (1 + f)**-beta. 0 < beta <= 1."""

    beta: float
    curve: Curve
    powers: Int64Array
    exponents: Int64Array

    def at(self, w: Int64Array) -> tuple[Int64Array, Int64Array]:
        """(r, x) of integers from 1 to below 2**62; r is at most 2**31 and at least 2**29."""
        exponent, mantissa = leading(w)
        return self.curve.at(mantissa) * self.powers[exponent] >> UNIT_BITS, self.exponents[exponent]

    @property
    def error(self) -> float:
        """Greatest relative error: of the line; of cut bits of w, knots, powers and their product, together below 6 units of 2**-30."""
        return float(self.beta * (self.beta + 1) / 8 / 4**STEP_BITS + 6 * 2.0**-30)


@cache
def inverse_power(beta: float) -> InversePower:
    whole = np.floor(beta * np.arange(MOST_BITS)).astype(np.int64)
    powers = np.rint(2.0 ** (UNIT_BITS + whole - beta * np.arange(MOST_BITS))).astype(np.int64)
    knots = np.rint(2.0**UNIT_BITS * _fractions() ** -beta).astype(np.int64)
    return InversePower(beta=beta, curve=Curve(knots=knots), powers=powers, exponents=whole)


LOGARITHM = Curve(knots=np.rint(np.ldexp(np.log(_fractions()), LOG_BITS)).astype(np.int64))  # of 1 + f
LOG_OF_2 = int(np.rint(np.ldexp(np.log(2.0), LOG_BITS)))


def logarithm(w: Int64Array, bits: int) -> Int64Array:
    """ln(w / 2**bits) * 2**LOG_BITS of integers from 2**bits on; off by less than LOG_ERROR where w is below 2**(bits + 17)."""
    exponent, mantissa = leading(w)
    return (exponent - bits) * LOG_OF_2 + LOGARITHM.at(mantissa)


LOG_ERROR = 1 / 8 / 4**STEP_BITS + (17 / 2 + 2) * 2.0**-LOG_BITS
