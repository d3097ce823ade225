"""Where values lie: origins against the golden model's concatenations, pitches and allocation against brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schedule_support import random_workload, small

from hwgen.config import BANKS
from hwgen.inputs import random_codes
from hwgen.layout import BlockedLayout, PackedLayout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.golden import golden_codes
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.schedule.storage import View, allocate, extent, needed_words, pitch, window_of


def _image(load, name, values):
    """(blocks, rows, columns, lanes) of a value, and the lanes that hold a channel."""
    layout = load.layouts[name]
    return layout.pack(values[name]).reshape(layout.blocks, layout.height, layout.width, layout.lanes), layout


def test_values_lie_in_the_concatenations_where_golden_says():
    axes, nested = set(), 0
    for seed in range(60):
        load = random_workload(seed, small("4x8"), nodes=6)
        graph = load.graph
        axes |= {node.op.axis for node in graph.nodes if isinstance(node.op, Concat)}
        values = golden_codes(graph, random_codes(graph, 1), keep=graph.values)
        for name, origin in load.origin.items():
            if origin.root == name:
                continue
            inner, layout = _image(load, name, values)
            outer, _ = _image(load, origin.root, values)
            blocks, rows, columns, _ = inner.shape
            part = outer[origin.block : origin.block + blocks, origin.row : origin.row + rows, origin.column : origin.column + columns]
            holds = np.zeros(blocks * layout.lanes, bool)
            holds[list(layout.positions)] = True
            assert ((part == inner) | ~holds.reshape(blocks, 1, 1, -1)).all(), (seed, name)
            nested += any(isinstance(n.op, Concat) and n.output == name for n in graph.nodes)
            box = load.root_box(name, load.extent(name))
            assert (box.top, box.left, box.first_block, box.bottom - box.top) == (origin.row, origin.column, origin.block, rows)
            view = load.view_in_root(name, View(address=7, row_stride=50, block_stride=3000, blocks=99))
            assert view.address == 7 + 50 * origin.row + origin.column + 3000 * origin.block and (view.row_stride, view.blocks) == (50, blocks)
    assert axes == {0, 1, 2} and nested > 0


def test_extents_hold_all_words():
    packed = PackedLayout(height=5, width=3, channels=3, lanes=8, left_bytes=2, row_words=2, fill=0)
    blocked = BlockedLayout(height=5, width=3, lanes=8, positions=(0, 9), blocks=2, fill=0)
    for layout in (packed, blocked):
        box = extent(layout)
        assert box.pixels * box.blocks == layout.words


@given(st.integers(1, 40), st.sets(st.tuples(st.integers(1, BANKS), st.integers(1, 5)), max_size=3))
def test_a_pitch_is_the_smallest_that_serves_all(columns, wishes):
    def serves(words):
        return all(len({(r * d * words) % BANKS for r in range(rows)}) == rows for rows, d in wishes)

    possible = [words for words in range(columns, columns + 100) if serves(words)]
    assert pitch(columns, wishes) == (possible[0] if possible else columns)


@pytest.mark.parametrize(
    ("op", "window"),
    [
        (None, Window(kernel=(1, 1))),
        (Clamp(clamp=(0.0, 1.0)), Window(kernel=(1, 1))),
        (Pad(pads=(1, 2, 3, 4), value=0.0), Window(kernel=(1, 1), pads=(1, 2, 3, 4))),
        (MaxPool(window=Window(kernel=(2, 3), strides=(2, 2))), Window(kernel=(2, 3), strides=(2, 2))),
        (AveragePool(window=Window(kernel=(3, 3))), Window(kernel=(3, 3))),
    ],
)
def test_the_window_of_every_operator(op, window):
    assert window_of(op) == window


sizes = st.dictionaries(
    st.sampled_from("abcdefghij"), st.tuples(st.integers(1, 20), st.tuples(st.integers(0, 6), st.integers(0, 4)).map(lambda p: (p[0], p[0] + p[1])))
)


@settings(deadline=None)
@given(sizes, st.data())
def test_nothing_that_is_alive_at_one_time_overlaps(things, data):
    """Things placed beforehand do not overlap here: everything lies around one of them."""
    fixed = {}
    if things and data.draw(st.booleans()):
        fixed = {data.draw(st.sampled_from(sorted(things))): BANKS * data.draw(st.integers(0, 8))}
    placed = allocate(things, fixed)
    assert placed.keys() == things.keys() and all(placed[name] == address for name, address in fixed.items())
    for moment in range(12):
        taken = [place for name, (words, (first, last)) in things.items() if first <= moment <= last for place in range(placed[name], placed[name] + words)]
        assert len(taken) == len(set(taken))
    assert all(address % BANKS == 0 for address in placed.values())
    assert needed_words(things, placed) == max((placed[name] + things[name][0] for name in things), default=0)


def test_memory_is_used_again():
    things = {"a": (10, (0, 1)), "b": (8, (1, 2)), "c": (10, (2, 3)), "d": (4, (3, 4))}
    assert needed_words(things, allocate(things)) == 12 + 8  # `c` lies where `a` was, `d` where `b` was
    assert allocate(things)["c"] == allocate(things)["a"]
