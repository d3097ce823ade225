"""Weights of few bits: every byte, every combination, and images of any length."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwgen.packing import WeightFormat, narrowest, pack, packed_words, trits, unpack

LEVELS = {
    WeightFormat.INT8: range(-128, 128),
    WeightFormat.INT4: range(-8, 8),
    WeightFormat.INT2: range(-2, 2),
    WeightFormat.TERNARY: range(-1, 2),
    WeightFormat.BINARY: (-1, 1),
}


def astc_trits(code: int) -> tuple[int, ...]:
    """Five trits of a byte as the Khronos Data Format Specification 1.3 prints it: a second reading, in integers."""
    bit = [code >> k & 1 for k in range(8)]
    if code >> 2 & 7 == 7:
        c, t3, t4 = (code >> 5) << 2 | code & 3, 2, 2
    else:
        c = code & 31
        t3, t4 = (bit[7], 2) if code >> 5 & 3 == 3 else (code >> 5 & 3, bit[7])
    if c & 3 == 3:
        t2, t1, t0 = 2, c >> 4 & 1, (c >> 3 & 1) << 1 | (c >> 2 & 1 & ~(c >> 3))
    elif c >> 2 & 3 == 3:
        t2, t1, t0 = 2, 2, c & 3
    else:
        t2, t1, t0 = c >> 4 & 1, c >> 2 & 3, (c >> 1 & 1) << 1 | (c & 1 & ~(c >> 1))
    return t0, t1, t2, t3, t4


def test_every_byte_has_five_digits_and_every_five_digits_a_byte() -> None:
    seen = set()
    for code in range(256):
        digits = trits([np.array(bool(code >> k & 1)) for k in range(8)])
        values = tuple(-2 * int(d.sign) + int(d.low) for d in digits)
        assert values == tuple((0, 1, -1)[t] for t in astc_trits(code)), code
        seen.add(values)
    assert seen == set(itertools.product((-1, 0, 1), repeat=5))


@pytest.mark.parametrize("kind", WeightFormat)
def test_every_combination_of_weights_has_a_byte(kind: WeightFormat) -> None:
    combinations = np.array(list(itertools.product(LEVELS[kind], repeat=kind.digits)), np.int8)
    image = pack(combinations, kind, 1)
    assert len(image) == len(combinations)
    assert (unpack(np.frombuffer(image, np.uint8), kind, 1).reshape(combinations.shape) == combinations).all()
    assert {kind.low, kind.high} == {min(LEVELS[kind]), max(LEVELS[kind])}


@given(st.sampled_from(WeightFormat), st.sampled_from([1, 4, 16, 64]), st.integers(0, 41), st.integers(0, 2**32 - 1))
def test_images_of_any_length_come_back(kind: WeightFormat, bus_bytes: int, words: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array(LEVELS[kind], np.int8), (words, bus_bytes))
    image = pack(weights, kind, bus_bytes)
    assert len(image) == packed_words(words, kind) * bus_bytes
    back = unpack(np.frombuffer(image, np.uint8), kind, bus_bytes).reshape(-1, bus_bytes)
    assert (back[:words] == weights).all()
    assert (back[words:] == (1 if kind is WeightFormat.BINARY else 0)).all()


def test_digit_i_of_byte_b_is_byte_b_of_bus_word_i() -> None:
    weights = np.array([[1, 2, 3, 4], [-1, -2, -3, -4]], np.int8)
    assert pack(weights, WeightFormat.INT4, 4) == bytes([0xF1, 0xE2, 0xD3, 0xC4])
    assert pack(np.array([[1, -1]] * 3 + [[-1, 1]] * 5, np.int8), WeightFormat.BINARY, 2) == bytes([0xF8, 0x07])


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        ([1, -1], WeightFormat.BINARY),
        ([], WeightFormat.BINARY),
        ([1, 0], WeightFormat.TERNARY),
        ([0, -2], WeightFormat.INT2),
        ([2], WeightFormat.INT4),
        ([-8, 7], WeightFormat.INT4),
        ([8], WeightFormat.INT8),
        ([-9], WeightFormat.INT8),
        ([255], WeightFormat.INT8),
    ],
)
def test_narrowest_format(weights: list[int], kind: WeightFormat) -> None:
    assert narrowest(np.array(weights, np.int16)) is kind


def test_what_a_format_does_not_hold_is_never_packed() -> None:
    for kind, value in ((WeightFormat.INT4, 8), (WeightFormat.TERNARY, 2), (WeightFormat.BINARY, 0)):
        with pytest.raises(AssertionError, match=kind.name):
            pack(np.full(8, value, np.int8), kind, 8)
