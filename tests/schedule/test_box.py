"""Boxes against sets of cells, and what a window reads against its taps one by one."""

from hypothesis import given
from hypothesis import strategies as st
from schedule_support import cells

from hwgen.ops.base import Window
from hwgen.schedule.box import Box, whole, window_box


@st.composite
def boxes(draw, rows=9, columns=9, blocks=3):
    def limits(length):
        first = draw(st.integers(0, length - 1))
        return first, draw(st.integers(first + 1, length))

    (top, bottom), (left, right), (first, end) = limits(rows), limits(columns), limits(blocks)
    return Box(top=top, bottom=bottom, left=left, right=right, first_block=first, end_block=end)


@given(boxes(), boxes())
def test_an_intersection_is_what_both_contain(a, b):
    common = a.intersect(b)
    assert common.empty == (not cells(a) & cells(b))
    assert cells(common) == cells(a) & cells(b)


@given(boxes())
def test_sizes_count_cells(box):
    assert not box.empty
    assert box.pixels == len({(y, x) for _, y, x in cells(box)}) == box.rows * box.columns
    assert box.pixels * box.blocks == len(cells(box))


def test_whole_is_all_of_it():
    assert cells(whole(2, 3, 2)) == {(b, y, x) for b in range(2) for y in range(2) for x in range(3)}


def _read(first, end, axis, window, length):
    """Positions along an axis that taps of outputs first..end-1 meet, one by one: inside the image, and all."""
    strides, pads, dilations = window.strides[axis], window.pads[axis], window.dilations[axis]
    met = [o * strides - pads + k * dilations for o in range(first, end) for k in range(window.kernel[axis])]
    return {p for p in met if 0 <= p < length}, min(met), max(met)


@given(
    box=boxes(rows=6, columns=6),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    window=st.builds(
        Window,
        kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
        pads=st.tuples(*[st.integers(0, 4)] * 4),
        dilations=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    ),
)
def test_a_window_reads_its_box_and_nothing_beyond(box, height, width, window):
    found = window_box(box, window, height, width)
    assert (found.first_block, found.end_block) == (box.first_block, box.end_block)
    for first, end, axis, length, low, high in (
        (box.top, box.bottom, 0, height, found.top, found.bottom),
        (box.left, box.right, 1, width, found.left, found.right),
    ):
        inside, nearest, farthest = _read(first, end, axis, window, length)
        assert inside <= set(range(low, high)) and 0 <= low < high <= length
        if inside:
            assert low >= nearest and high <= farthest + 1  # halo only
        else:
            assert high == low + 1 or (nearest < low and farthest >= high)  # one position, or the gap of a dilated kernel
