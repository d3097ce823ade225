"""Footprints against what commands really read and write: words outside are changed, and nobody may notice."""

import random
from dataclasses import replace

import numpy as np
import pytest
from compute_support import clear_unused_lanes, random_conv, random_memories, tiny
from hypothesis import given
from hypothesis import strategies as st
from schedule_support import intervals_of, memory_bytes

from hwgen.isa.execute import run_conv, run_load, run_store
from hwgen.isa.fields import Buffer, Mode, Region
from hwgen.isa.instructions import Conv, Load, Store
from hwgen.isa.machine import Memories
from hwgen.schedule.footprint import buffer_words, conv_reads, conv_writes, merged, sides

SHAPES = {"4x4": tiny(4, 4), "8x4": tiny(8, 4), "4x8": tiny(4, 8), "8x16": tiny(8, 16)}


def _copy(memories):
    other = Memories(config=memories.config)
    for name in ("activation", "weight", "parameter", "accumulator"):
        getattr(other, name)[...] = getattr(memories, name)
    other.kept_pixels = memories.kept_pixels
    return other


def _inside(intervals, words):
    found = np.zeros(words, bool)
    for first, end in intervals:
        assert 0 <= first < end <= words
        found[first:end] = True
    return found


def _probed(config, rng):
    """A command, its memories before and after, and after it ran with every word that it does not read changed."""
    half = config.activation_words // 2
    command = random_conv(config, rng, (0, half))
    before = random_memories(config, rng)
    clear_unused_lanes(config, before, command)
    poisoned = _copy(before)
    unread = ~_inside(conv_reads(command, config), config.activation_words)
    poisoned.activation[unread] ^= np.int8(0x55)
    after, other = _copy(before), _copy(poisoned)
    run_conv(command, after)
    run_conv(command, other)
    return command, before, after, poisoned, other


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_a_command_reads_and_writes_inside_its_footprint(config):
    rng = random.Random(5)
    modes, residuals, written_words = set(), 0, 0
    for _ in range(150):
        command, before, after, poisoned, other = _probed(config, rng)
        writes = _inside(conv_writes(command, config), config.activation_words)
        changed, also = (after.activation != before.activation), (other.activation != poisoned.activation)
        assert not changed[~writes].any() and not also[~writes].any()
        results = changed | also  # lanes that the command writes, where that shows
        assert (after.activation[results] == other.activation[results]).all(), command
        modes.add(command.mode)
        residuals += command.residual
        written_words += int(results.any(axis=1).sum())
    assert modes == set(Mode) and residuals > 20 and written_words > 1000


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_a_footprint_holds_no_more_than_the_tensors(config):
    """random_conv reads the lower half and writes the upper one, and its tensors have so many rows and blocks."""
    rng, half = random.Random(6), config.activation_words // 2
    for _ in range(300):
        c = random_conv(config, rng, (0, half))
        assert sides(conv_writes(c, config), half) == (1,)
        reads = conv_reads(replace(c, residual=0), config)
        assert sides(reads, half) in ((), (0,))  # none: a window that lies in padding only
        assert sum(end - first for first, end in reads) <= half
        blocks = min(c.output_blocks, -(-c.output_tiles * (config.depthwise_lanes if c.mode == Mode.DEPTHWISE else config.out_lanes) // config.in_lanes))
        most = blocks * ((c.output_rows - 1) * c.output_row_stride + c.output_columns) + (blocks - 1) * c.output_row_stride
        assert c.output_rows * c.output_columns <= sum(end - first for first, end in conv_writes(c, config)) <= most + c.output_block_stride * blocks


def test_exact_words_of_a_window_that_reaches_into_padding():
    config = tiny(4, 4)
    # A 4x5 image at word 100, rows 6 words apart, two blocks 40 apart; 3x3 window, pads 1: outputs of rows 0-1, columns 2-3 read rows 0-2, columns 1-4.
    c = Conv(
        mode=Mode.DENSE, input_address=100 - 6, input_rows=4, input_columns=5, input_row_step=6, kernel_row_step=6, input_block_stride=40, input_blocks=2,
        kernel_rows=3, kernel_steps=3, origin_row=-1, origin_column=1, output_address=600, output_rows=2, output_columns=2, output_row_stride=2,
        output_block_stride=8, output_tiles=1, pixels_per_tile=4,
    )  # fmt: skip
    assert conv_reads(c, config) == ((101, 101 + 2 * 6 + 4), (141, 141 + 2 * 6 + 4))
    assert conv_writes(c, config) == ((600, 604),)
    assert conv_writes(replace(c, keep=1), config) == ()
    assert conv_reads(replace(c, residual=1, residual_address=700, residual_row_stride=9), config)[-1] == (700, 711)


def test_many_blocks_are_one_stretch_that_holds_them_all():
    config = tiny(4, 4, activation_words=4096)
    c = Conv(mode=Mode.DENSE, input_address=8, input_rows=2, input_columns=3, input_row_step=4, kernel_row_step=4, input_block_stride=20, input_blocks=70,
             output_address=2048, output_rows=2, output_columns=3, output_row_stride=3, output_block_stride=9, output_blocks=70, output_tiles=70,
             pixels_per_tile=6)  # fmt: skip
    assert conv_reads(c, config) == ((8, 8 + 69 * 20 + 7),)
    assert conv_writes(c, config) == ((2048, 2048 + 69 * 9 + 6),)
    assert len(conv_reads(replace(c, input_blocks=60), config)) == 60


def test_many_rows_are_one_stretch_that_holds_them_all():
    load = Load(buffer_address=5, row_bytes=8, rows=70, buffer_row_stride=9)
    assert buffer_words(load, 4) == ((5, 5 + 69 * 9 + 2),)
    assert len(buffer_words(replace(load, rows=60), 4)) == 60


transfers = st.fixed_dictionaries(
    {
        "memory_offset": st.integers(0, 8).map(lambda k: 4 * k),
        "buffer_address": st.integers(0, 20),
        "row_bytes": st.integers(1, 9).map(lambda k: 4 * k),
        "rows": st.integers(1, 5),
        "memory_row_stride": st.integers(0, 12).map(lambda k: 4 * k),
        "buffer_row_stride": st.integers(0, 9),
    }
)


@given(transfers, st.sampled_from([Buffer.ACTIVATION, Buffer.WEIGHT, Buffer.PARAMETER]))
def test_a_load_touches_its_words_and_only_these(fields, buffer):
    config = tiny(4, 8, bus_bits=32)
    memories = Memories(config=config)
    memories.regions[Region.ARENA] = np.full(1024, 0xFF, np.uint8)
    command = Load(destination=buffer, **fields)
    run_load(command, 0, memories)
    target = {Buffer.ACTIVATION: memories.activation, Buffer.WEIGHT: memories.weight, Buffer.PARAMETER: memories.parameter}[buffer]
    changed = set(np.flatnonzero(target.any(axis=1)).tolist())
    assert set(buffer_words(command, target.shape[1])) == intervals_of(changed)


@given(transfers)
def test_a_store_touches_its_bytes_and_only_these(fields):
    memories = Memories(config=tiny(4, 8, bus_bits=32))
    memories.activation[...] = -1
    memories.regions[Region.ARENA] = np.zeros(1024, np.uint8)
    command = Store(**fields)
    run_store(command, 0, memories)
    assert set(memory_bytes(command)) == intervals_of(set(np.flatnonzero(memories.regions[Region.ARENA]).tolist()))


intervals = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)).map(lambda p: (p[0], p[0] + p[1])), max_size=8)


@given(intervals)
def test_merged_intervals_hold_the_same_numbers(found):
    assert set(merged(found)) == intervals_of({n for first, end in found for n in range(first, end)})
    assert list(merged(found)) == sorted(merged(found))


@given(intervals, st.integers(1, 5))
def test_merging_over_gaps_fills_no_longer_ones(found, gap):
    inside = {n for first, end in found for n in range(first, end)}
    filled = {n for first, end in merged(found, gap) for n in range(first, end)}
    assert inside <= filled
    assert all(end - first <= gap for first, end in intervals_of(filled - inside))
    assert all(b - a > gap for (_, a), (b, _) in zip(merged(found, gap), merged(found, gap)[1:], strict=False))


@given(intervals)
def test_sides_are_those_of_every_word(found):
    assert set(sides(found, 16)) == {n // 16 for first, end in found for n in range(first, end)}
