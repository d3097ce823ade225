"""Integer arithmetic against exact rationals."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwgen.arith import INT8, AddRequantize, IntType, Requantize, Rounding, Stage, clamp, fold
from hwgen.errors import QuantizationError

CODES = st.integers(-128, 127)


def rounded(value: Fraction, rounding: Rounding) -> int:
    return round(value) if rounding is Rounding.HALF_EVEN else (value + Fraction(1, 2)).__floor__()


@given(
    acc=st.integers(-(2**31), 2**31 - 1),
    multiplier=st.integers(0, 2**16 - 1),
    shift=st.integers(0, 47),
    zero_point=CODES,
    low=CODES,
    high=CODES,
    rounding=st.sampled_from(Rounding),
)
def test_requantize_is_the_exact_rational(acc, multiplier, shift, zero_point, low, high, rounding):
    found = Requantize(rounding=rounding).compute(acc=np.int64(acc), multiplier=multiplier, shift=shift, zero_point=zero_point, low=low, high=high)
    exact = rounded(Fraction(acc * multiplier, 1 << shift), rounding) + zero_point
    assert int(found) == min(max(exact, low), high)


@pytest.mark.parametrize("rounding", Rounding)
def test_ties_of_the_shift(rounding):
    """Rounding half up in one place and half to even (or away from zero) in another is the classic mismatch."""
    halves = np.array([-5, -3, -1, 1, 3, 5])
    found = Requantize(multiplier_bits=0, rounding=rounding).compute(acc=halves, multiplier=np.int64(0), shift=np.int64(1), zero_point=0, low=-128, high=127)
    assert found.tolist() == ([-2, -2, 0, 0, 2, 2] if rounding is Rounding.HALF_EVEN else [-2, -1, 0, 1, 2, 3])


@given(a=CODES, b=CODES, ma=st.integers(0, 2**16 - 1), mb=st.integers(0, 2**16 - 1), shift=st.integers(0, 30), zero_point=CODES)
def test_addition_rounds_with_the_zero_point_inside(a, b, ma, mb, shift, zero_point):
    found = AddRequantize().compute(a=np.int64(a), b=np.int64(b), multiplier_a=ma, multiplier_b=mb, offset=zero_point << shift, shift=shift, low=-128, high=127)
    exact = round(Fraction(a * ma + b * mb, 1 << shift) + zero_point)
    assert int(found) == min(max(exact, -128), 127)


def test_addition_with_shifts_alone():
    operands = {"multiplier_a": 2, "multiplier_b": 0, "offset": np.int64(0), "shift": 1, "low": -128, "high": 127}
    found = AddRequantize(multiplier_bits=0).compute(a=np.int64(-7), b=np.int64(3), **operands)
    assert int(found) == round(Fraction(-7 * 4 + 3, 2))


def test_fold_finds_a_width_error():
    narrow = (Stage({"y": INT8}, lambda x: {"y": x + 1}),)
    with pytest.raises(QuantizationError, match="y: must fit int8, found 1..128; widen the type"):
        fold(narrow, {"x": np.array([0, 127])})


def test_types_and_clamp():
    assert (IntType(8).min, IntType(8).max, IntType(8, False).max, str(IntType(4, False))) == (-128, 127, 255, "uint4")
    assert clamp(np.array([-5, 0, 5]), -2, 3).tolist() == [-2, 0, 3]
    assert clamp(np.array([0]), 5, 1).tolist() == [1]
