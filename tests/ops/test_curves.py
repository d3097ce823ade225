"""Powers and logarithms of integers by tables: within the stated errors, against decimals of 40 digits."""

from __future__ import annotations

import random
from decimal import Decimal, getcontext

import numpy as np
import pytest

from hwgen.ops.curves import LOG_BITS, LOG_ERROR, MOST_BITS, inverse_power, leading, logarithm

getcontext().prec = 40


def numbers(most_bits: int, count: int) -> list[int]:
    r = random.Random(1)
    powers = [n for bits in range(most_bits) for n in (2**bits - 1, 2**bits, 2**bits + 1)]
    drawn = [r.getrandbits(r.randint(1, most_bits)) for _ in range(count)]
    return [n for n in (*powers, *drawn, 2**most_bits - 1) if 1 <= n < 2**most_bits]


def test_leading_bits() -> None:
    w = numbers(MOST_BITS, 500)
    exponents, mantissas = leading(np.array(w, np.int64))
    for n, exponent, mantissa in zip(w, exponents.tolist(), mantissas.tolist(), strict=True):
        assert exponent == n.bit_length() - 1
        assert mantissa == (n << 31 >> exponent if exponent < 31 else n >> (exponent - 31))


@pytest.mark.parametrize("beta", [0.5, 0.75, 1.0, 0.01])
def test_inverse_powers(beta: float) -> None:
    w = numbers(MOST_BITS, 2000)
    function = inverse_power(beta)
    worst = 0.0
    for n, r, places in zip(w, *(array.tolist() for array in function.at(np.array(w, np.int64))), strict=True):
        assert 2**29 <= r <= 2**31
        exact = (-Decimal(beta) * Decimal(n).ln()).exp()
        worst = max(worst, abs(float(Decimal(r) / Decimal(2) ** (31 + places) / exact - 1)))
    assert function.error / 4 < worst <= function.error


def test_logarithms() -> None:
    w = [n << 31 for n in numbers(17, 500)] + [(1 << 31) + n for n in numbers(46, 2000)]
    found = logarithm(np.array(w, np.int64), 31)
    errors = [abs(float(Decimal(int(y)) / 2**LOG_BITS - (Decimal(n) / 2**31).ln())) for n, y in zip(w, found, strict=True)]
    assert LOG_ERROR / 4 < max(errors) <= LOG_ERROR
