"""Transfers against NumPy indexing of [block][row][column] images."""

import numpy as np
import pytest
from compute_support import tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_support import words_of

from hwgen.isa.execute import run_load, run_store
from hwgen.isa.fields import Region
from hwgen.isa.machine import Memories
from hwgen.schedule.box import Box, whole
from hwgen.schedule.memory import MOST_ROWS, Home, loads, stores
from hwgen.schedule.storage import View

LANES = 4


@st.composite
def cases(draw):
    """A value, a box of it, where it lies in the region, and a view whose buffer holds that box only."""
    height, width, blocks = draw(st.integers(1, 6)), draw(st.integers(1, 6)), draw(st.integers(1, 4))
    limits = []
    for length in (height, width, blocks):
        first = draw(st.integers(0, length - 1))
        limits += [first, draw(st.integers(first + 1, length))]
    box = Box(top=limits[0], bottom=limits[1], left=limits[2], right=limits[3], first_block=limits[4], end_block=limits[5])
    if draw(st.booleans()):
        box = whole(height, width, blocks)
    row = box.columns + draw(st.integers(0, 3))
    block = box.rows * row + draw(st.integers(0, 4))
    view = View(address=draw(st.integers(0, 9)) - box.top * row - box.left - box.first_block * block, row_stride=row, block_stride=block, blocks=blocks)
    return (height, width, blocks), box, LANES * draw(st.integers(0, 9)), view


def _setting(shape, offset):
    """Memories with a value at `offset` of the arena, and that value (blocks, rows, columns, lanes)."""
    height, width, blocks = shape
    memories = Memories(config=tiny(4, LANES, bus_bits=32))
    memories.fill_randomly(1)
    rng = np.random.default_rng(2)
    memories.regions[Region.ARENA] = rng.integers(0, 256, offset + height * width * blocks * LANES + 40, np.uint8)
    home = Home(region=Region.ARENA, offset=offset, row_bytes=width * LANES, block_bytes=height * width * LANES, blocks=blocks)
    value = memories.regions[Region.ARENA][offset : offset + height * width * blocks * LANES].view(np.int8).reshape(blocks, height, width, LANES)
    return memories, home, value


def _part(box):
    return slice(box.first_block, box.end_block), slice(box.top, box.bottom), slice(box.left, box.right)


@settings(deadline=None)
@given(cases())
def test_loads_bring_the_box_and_nothing_else(case):
    shape, box, offset, view = case
    memories, home, value = _setting(shape, offset)
    expected = memories.activation.copy()
    expected[words_of(view, box)] = value[_part(box)]
    commands = list(loads(box, home, view, LANES))
    for command in commands:
        run_load(command, 0, memories)
    assert (memories.activation == expected).all()
    assert len(commands) <= min(box.rows, box.blocks)


@settings(deadline=None)
@given(cases())
def test_stores_leave_the_box_and_nothing_else(case):
    shape, box, offset, view = case
    memories, home, value = _setting(shape, offset)
    expected = memories.regions[Region.ARENA].copy()
    image = expected[offset : offset + value.size].view(np.int8).reshape(value.shape)
    image[_part(box)] = memories.activation[words_of(view, box)]
    for command in stores(box, home, view, LANES):
        run_store(command, 0, memories)
    assert (memories.regions[Region.ARENA] == expected).all()


@pytest.mark.parametrize(
    ("box", "row_stride", "gap", "transfers"),
    [
        (whole(5, 7, 3), 7, 0, 1),  # all of it, without gaps: one stretch
        (whole(5, 7, 3), 7, 2, 1),  # blocks apart
        (whole(5, 7, 3), 8, 0, 3),  # rows apart: block by block
        (whole(2, 7, 3), 8, 0, 2),  # fewer rows than blocks: row by row
        (whole(1, 7, 3), 9, 5, 1),
        (Box(top=1, bottom=4, left=0, right=7, first_block=0, end_block=3), 7, 0, 1),  # whole rows of every block
        (Box(top=1, bottom=4, left=2, right=5, first_block=0, end_block=2), 3, 0, 2),
    ],
)
def test_as_few_transfers_as_will_do(box, row_stride, gap, transfers):
    home = Home(region=Region.ARENA, offset=0, row_bytes=7 * LANES, block_bytes=box.bottom * 7 * LANES, blocks=box.end_block)
    view = View(address=0, row_stride=row_stride, block_stride=box.rows * row_stride + gap, blocks=box.blocks)
    found = list(loads(box, home, view, LANES))
    assert len(found) == transfers
    assert (found[0].rows == 1) == (transfers == 1 and box.top == 0 and gap == 0 and box.rows > 1)


def test_more_rows_than_one_transfer_takes():
    height = MOST_ROWS + 3
    box = Box(top=0, bottom=height, left=1, right=2, first_block=0, end_block=1)
    home = Home(region=Region.ARENA, offset=8, row_bytes=2 * LANES, block_bytes=2 * height * LANES, blocks=1)
    first, second = stores(box, home, View(address=5, row_stride=3, block_stride=0, blocks=1), LANES)
    assert (first.rows, first.memory_offset, first.buffer_address) == (MOST_ROWS, 8 + LANES, 5 + 1)
    assert (second.rows, second.memory_offset, second.buffer_address) == (3, 8 + LANES + MOST_ROWS * 2 * LANES, 6 + MOST_ROWS * 3)
    assert {c.memory_row_stride for c in (first, second)} == {2 * LANES} and {c.buffer_row_stride for c in (first, second)} == {3}
