"""A bias with a fraction, put into integers: against exact rationals, accumulator by accumulator."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hwgen.arith import Requantize, Rounding
from hwgen.ir.graph import Arithmetic
from hwgen.ops.integer import OutputStage
from hwgen.ops.staircase import differing, single_precision_rule
from hwgen.ops.thresholds import RealStage, place


def half_even(x):
    whole = floor(x)
    rest = x - whole
    return whole + (rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2 == 1))


def nearly_a_tie(x):
    """But no tie: closer than float64 can tell."""
    return 0 < abs(x - floor(x) - Fraction(1, 2)) < Fraction(1, 10**9)


def real_codes(acc, bias, ratio, zero_point, low, high):
    return np.array([min(max(half_even((Fraction(int(a)) + Fraction(bias)) * Fraction(ratio)) + zero_point, low), high) for a in acc])


def normalized(ratio, bits):
    mantissa, exponent = np.frexp(ratio)
    multiplier = int(np.rint(mantissa * 2**bits))
    return (multiplier >> 1, bits - exponent - 1) if multiplier == 1 << bits else (multiplier, bits - exponent)


@settings(max_examples=60, deadline=None)
@given(
    ratio=st.one_of(st.floats(2.0**-7, 3.0), st.sampled_from([1.0, 0.5, 0.25, 2.0])),
    bias=st.floats(-300, 300).map(lambda b: round(b * 65536) / 65536),
    zero_point=st.integers(-128, 127),
    clamp=st.sampled_from([(-128, 127), (-1, 1), (0, 7), (-2, 1)]),
    bits=st.sampled_from([8, 16, 24]),
    reach=st.integers(1, 300),
)
def test_placed_integers_meet_the_real_function(ratio, bias, zero_point, clamp, bits, reach):
    multiplier, shift = normalized(ratio, bits)
    low, high = clamp
    columns = {name: np.array([number], np.int64) for name, number in (("multiplier", multiplier), ("shift", shift), ("low", low), ("high", high))}
    stage = RealStage(
        bias=np.array([bias]), ratio=np.array([ratio]), least=np.array([-reach]), greatest=np.array([reach]), zero_point=zero_point, **columns
    )
    placed = place(stage, Rounding.HALF_EVEN, bits)
    acc = np.arange(-reach, reach + 1)
    rule = Requantize(multiplier_bits=bits)
    operands = {"multiplier": placed.multiplier, "shift": columns["shift"], "zero_point": placed.zero_point, "low": columns["low"], "high": columns["high"]}
    found = rule.compute(acc=acc + placed.bias, **operands)
    wanted = real_codes(acc, bias, ratio, zero_point, low, high)
    values = [(Fraction(int(a)) + Fraction(bias)) * Fraction(ratio) for a in acc]
    clear = np.array([not nearly_a_tie(value) for value in values])
    assert not placed.exact[0] or (found == wanted)[clear].all()
    assert (found != wanted)[clear].sum() <= placed.wrong[0]
    if bits >= 16 and clamp != (-128, 127) and clear.all() and not any(value.denominator == 2 for value in values):  # ties make steps of two
        assert placed.exact[0]


def test_a_bias_of_half_a_product_needs_the_zero_point():
    """Without it one of the sums gets the wrong code: the fault that the search keeps away."""
    columns = {name: np.array([number], np.int64) for name, number in (("multiplier", 40000), ("shift", 17), ("low", -2), ("high", 1))}
    stage = RealStage(bias=np.array([0.47]), ratio=np.array([40000 / 2**17]), least=np.array([-30]), greatest=np.array([30]), zero_point=0, **columns)
    placed = place(stage, Rounding.HALF_EVEN, 16)
    assert placed.exact[0]
    acc = np.arange(-30, 31)
    plain = Requantize().compute(acc=acc, zero_point=np.array([0]), **columns)
    assert (plain != real_codes(acc, 0.47, 40000 / 2**17, 0, -2, 1)).any()


def test_sums_that_another_ratio_gives_other_codes_are_counted():
    """Against a count over every sum: a float32 ratio and 8, 12 or 16 bits of it."""
    counted = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        bits = int(rng.choice([8, 12, 16]))
        ratio = np.exp(rng.uniform(-7, 0, 3)).astype(np.float32)
        columns = np.array([normalized(float(r), bits) for r in ratio], np.int64)
        filled = {name: np.full(3, number, np.int64) for name, number in (("zero_point", int(rng.integers(-128, 128))), ("low", -100), ("high", 90))}
        stage = OutputStage(multiplier=columns[:, 0], shift=columns[:, 1], **filled)
        low, high = np.full(3, -int(rng.integers(1, 20000))), np.full(3, int(rng.integers(0, 20000)))
        rule = single_precision_rule(ratio)
        acc = np.arange(low[0], high[0] + 1)
        theirs = np.clip(rule(np.broadcast_to(acc, (3, len(acc)))) + filled["zero_point"][0], -100, 90).T
        wrong = (stage.apply(acc[:, None], Arithmetic()) != theirs).sum(axis=0)
        if bits > 8:  # nearer than 2**-14, as the search supposes
            np.testing.assert_array_equal(differing(stage, Rounding.HALF_EVEN, rule, low, high), wrong)
            counted += int((wrong > 0).sum())
    assert counted > 20
