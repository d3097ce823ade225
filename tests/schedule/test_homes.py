"""Homes in system memory: nothing that is still read is overwritten, and every value has one as soon as it leaves the chip."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_graphs import random_graph
from schedule_support import random_workload, small, with_all_outputs

from hwgen.errors import CapacityError
from hwgen.isa.fields import Region
from hwgen.layout import BlockedLayout, PackedLayout
from hwgen.schedule.homes import home_of, homes, host_tensors
from hwgen.schedule.memory import Home
from hwgen.schedule.segments import plan, traffic


def _planned(words, seeds=range(40), outputs=lambda graph: graph):
    for seed in seeds:
        load = random_workload(seed, small("4x8", activation_words=words), graph=outputs(random_graph(seed, nodes=6)))
        try:
            yield load, plan(load), *host_tensors(load.graph, load.layouts)
        except CapacityError:
            continue


def test_host_tensors_follow_each_other():
    several = 0
    for load, _, inputs, outputs in _planned(1024):
        for region, tensors, wanted in ((Region.INPUT, inputs, load.graph.inputs), (Region.OUTPUT, outputs, load.graph.outputs)):
            assert [(t.name, t.value, t.region) for t in tensors] == [(t.name, t.value, region) for t in wanted]
            assert [t.offset for t in tensors] == [0, *itertools.accumulate(t.size_bytes for t in tensors)][: len(tensors)]
        several += len(outputs) > 1
    assert several > 0


def test_a_home_is_where_the_layout_packs_a_pixel():
    layout = BlockedLayout(height=3, width=5, lanes=4, positions=tuple(range(12)), blocks=3, fill=0)
    home = home_of(layout, Region.ARENA, 64)
    value = np.zeros((1, 3, 5, 12), np.int8)
    value[0, 2, 3, 9] = 1  # block 2, lane 1
    (byte,) = np.flatnonzero(layout.pack(value)[0])
    assert home.offset + 2 * home.block_bytes + 2 * home.row_bytes + 3 * 4 + 1 == 64 + byte
    packed = PackedLayout(height=3, width=5, channels=3, lanes=8, left_bytes=3, row_words=4, fill=0)
    value = np.zeros((1, 3, 5, 3), np.int8)
    value[0, 2] = 1
    assert np.flatnonzero(packed.pack(value)[0])[0] == 2 * home_of(packed, Region.INPUT, 0).row_bytes + 3


def test_what_is_still_read_is_not_overwritten():
    """Bytes of the arena, segment by segment: everything between its first store and its last load."""
    shared = crossing = 0
    for load, found, inputs, outputs in _planned(128):
        places = homes(load, found, (inputs, outputs))
        moved = [traffic(load, segment.first, segment.end) for segment in found]
        stored, loaded = {}, {}
        for index, crossed in enumerate(moved):
            for leaf in crossed.stores:
                stored.setdefault(load.origin[leaf].root, index)
            for leaf in crossed.loads:
                loaded[load.origin[leaf].root] = index
        assert all(root in places.of for root in loaded)
        arena = [root for root in loaded if places.of[root].region is Region.ARENA]
        size = {root: load.layouts[root].size_bytes for root in arena}
        for index in range(len(found)):
            alive = [root for root in arena if stored[root] <= index <= loaded[root]]
            taken = [byte for root in alive for byte in range(places.of[root].offset, places.of[root].offset + size[root])]
            assert len(taken) == len(set(taken)) and max(taken, default=-1) < places.arena_bytes
        shared += places.arena_bytes < sum(size.values())
        crossing += bool(arena)
    assert crossing > 10 and shared > 3


def test_inputs_and_outputs_have_their_homes_where_the_host_sees_them():
    kept = 0
    for load, found, inputs, outputs in _planned(128, outputs=with_all_outputs):
        places = homes(load, found, (inputs, outputs))
        assert all(places.of[t.value] == home_of(t.layout, Region.INPUT, t.offset) for t in inputs)
        assert [(value, home.offset) for value, home in places.outputs] == [(t.value, t.offset) for t in outputs]
        computed = {t.value for t in outputs if load.origin[t.value].root == t.value} - {t.value for t in inputs}
        kept += sum(home.region is Region.OUTPUT for root, home in places.of.items() if root in computed)
        assert all(home.region is Region.OUTPUT for root, home in places.of.items() if root in computed)
    assert kept > 0


@pytest.mark.parametrize("bus_bits", [32, 64])
def test_what_fits_on_chip_needs_no_arena(bus_bits):
    for seed in range(5):
        load = random_workload(seed, small("4x8", activation_words=1 << 14, bus_bits=bus_bits))
        assert homes(load, plan(load), host_tensors(load.graph, load.layouts)).arena_bytes == 0


@given(*[st.tuples(st.sampled_from([Region.ARENA, Region.OUTPUT]), st.integers(0, 9), st.integers(1, 3), st.integers(1, 2), st.integers(1, 3))] * 2)
def test_homes_overlap_where_they_share_a_byte(first, second):
    def home(region, offset, rows, row_bytes, blocks):
        bytes_there = {(region, offset + k) for k in range(rows * row_bytes * blocks)}
        return Home(region=region, offset=offset, row_bytes=row_bytes, block_bytes=rows * row_bytes, blocks=blocks), bytes_there

    (a, own), (b, other) = home(*first), home(*second)
    assert a.overlaps(b) == b.overlaps(a) == bool(own & other)
