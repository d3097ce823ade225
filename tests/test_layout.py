"""Packing of tensors, weights and parameters into words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwgen.errors import CapacityError
from hwgen.layout import BlockedLayout, PackedLayout, RowWindow, parameter_bytes, weight_bytes


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


FOLD = RowWindow(outputs=2, kernel=3, stride=2, dilation=1, top=1)


def test_folded_rows_hold_all_that_a_window_reads_column_by_column():
    layout = PackedLayout(height=3, width=2, channels=2, lanes=4, left_bytes=6, row_words=5, fill=-7, fold=FOLD)
    x = np.arange(12, dtype=np.int8).reshape(1, 3, 2, 2)
    rows = layout.pack(x).reshape(2, 20)
    pad, two = [-7] * 6, [-7] * 2
    assert rows[0].tolist() == [*pad, *two, *x[0, 0, 0], *x[0, 1, 0], *two, *x[0, 0, 1], *x[0, 1, 1], *two]
    assert rows[1].tolist() == [*pad, *x[0, 1, 0], *x[0, 2, 0], *two, *x[0, 1, 1], *x[0, 2, 1], *two, *two]
    assert (layout.rows, layout.words, layout.column_bytes) == (2, 10, 6)
    assert np.array_equal(layout.unpack(layout.pack(x)), x)


def test_image_rows_that_no_window_reads_do_not_lie_in_memory():
    layout = PackedLayout(height=4, width=1, channels=1, lanes=4, left_bytes=0, row_words=1, fill=9, fold=RowWindow(outputs=2, stride=2))
    assert layout.unpack(layout.pack(np.array([1, 2, 3, 4], np.int8).reshape(1, 4, 1, 1))).reshape(-1).tolist() == [1, 9, 3, 9]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_stored_rows_hold_what_the_window_reads(data: st.DataObject):
    """Against the definition, element by element: no index arithmetic in common."""

    def number(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    height, width, channels, left = number(1, 6), number(1, 3), number(1, 3), number(0, 5)
    fold = RowWindow(outputs=number(1, 5), kernel=number(1, 4), stride=number(1, 3), dilation=number(1, 3), top=number(0, 4))
    used = left + width * channels * fold.kernel
    layout = PackedLayout(height=height, width=width, channels=channels, lanes=4, left_bytes=left, row_words=used // 4 + 1, fill=-128, fold=fold)
    x = np.random.default_rng(number(0, 99)).integers(-127, 128, (2, height, width, channels)).astype(np.int8)
    image = layout.pack(x).reshape(2, fold.outputs, -1)
    read = np.zeros(height, bool)
    for n, g, row, column, c in np.ndindex(2, fold.outputs, fold.kernel, width, channels):
        y = g * fold.stride + row * fold.dilation - fold.top
        inside = 0 <= y < height
        read[y if inside else 0] |= inside
        assert image[n, g, left + (column * fold.kernel + row) * channels + c] == (x[n, y, column, c] if inside else -128)
    assert (image[:, :, :left] == -128).all() and (image[:, :, used:] == -128).all()
    assert np.array_equal(layout.unpack(layout.pack(x)), np.where(read[:, None, None], x, -128))


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 3), st.integers(0, 4), st.data())
def test_a_slice_of_output_rows_needs_these_stored_rows(height, kernel, stride, dilation, top, data):
    window = RowWindow(outputs=8, kernel=kernel, stride=stride, dilation=dilation, top=top)
    first = data.draw(st.integers(0, 7))
    end = data.draw(st.integers(first + 1, 8))
    plain = PackedLayout(height=height, width=1, channels=1, lanes=4, left_bytes=0, row_words=1, fill=0)
    folded = PackedLayout(height=height, width=1, channels=1, lanes=4, left_bytes=0, row_words=1, fill=0, fold=window)
    low, high = plain.rows_for(first, end, window)
    needed = [y for g in range(first, end) for k in range(kernel) if 0 <= (y := g * stride + k * dilation - top) < height]
    assert 0 <= low <= high <= height and all(low <= y < high for y in needed)
    assert not needed or (low, high) == (min(needed), max(needed) + 1) or stride > 1 or dilation > 1
    assert folded.rows_for(first, end, window) == (first, end)


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
