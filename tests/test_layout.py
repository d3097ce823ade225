"""Packing of tensors, weights and parameters into words."""

import numpy as np
import pytest

from hwgen.errors import CapacityError
from hwgen.layout import BlockedLayout, PackedLayout, parameter_bytes, weight_bytes


def test_blocked_words_hold_neighbouring_channels_of_one_pixel():
    layout = BlockedLayout(height=2, width=3, lanes=4, positions=(0, 1, 2, 4, 5), blocks=2, fill=9)
    x = np.arange(30, dtype=np.int8).reshape(1, 2, 3, 5)
    words = layout.pack(x).reshape(2, 2, 3, 4)
    assert words[0, 1, 2].tolist() == [*x[0, 1, 2, :3], 9]
    assert words[1, 1, 2].tolist() == [x[0, 1, 2, 3], x[0, 1, 2, 4], 9, 9]
    assert np.array_equal(layout.unpack(layout.pack(x)), x)


def test_packed_rows_hold_pixels_one_after_the_other():
    layout = PackedLayout(height=2, width=3, channels=3, lanes=4, left_bytes=3, row_words=4, fill=-7)
    x = np.arange(18, dtype=np.int8).reshape(1, 2, 3, 3)
    rows = layout.pack(x).reshape(2, 16)
    assert rows[1].tolist() == [-7, -7, -7, *range(9, 18), -7, -7, -7, -7]
    assert np.array_equal(layout.unpack(layout.pack(x)), x)


def test_parameter_records():
    one = {name: np.array([[value]]) for name, value in dict(bias=-2, multiplier=0x8001, shift=17, low=-128, high=127, zero_point=-3).items()}
    assert parameter_bytes(one).hex() == "feffffff" + "01800000" + "11807ffd" + "00000000"


@pytest.mark.parametrize(("name", "value"), [("bias", 1 << 31), ("multiplier", 1 << 24), ("shift", 64), ("low", -129), ("zero_point", 128)])
def test_parameters_that_do_not_fit_are_refused(name, value):
    legal = {key: np.zeros((1, 1), np.int64) for key in ("bias", "multiplier", "shift", "low", "high", "zero_point")}
    with pytest.raises(CapacityError, match=f"parameter {name}: must be"):
        parameter_bytes(legal | {name: np.array([[value]])})


def test_weight_sets_lie_row_by_row():
    sets = np.arange(16, dtype=np.int8).reshape(2, 2, 4)
    assert weight_bytes(sets) == bytes(range(16))
