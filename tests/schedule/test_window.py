"""Windows: the split of a kernel into passes, its weights' lanes, pixel tiles."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest

from hwgen.config import PRESETS
from hwgen.isa.fields import Mode, Reduce
from hwgen.isa.instructions import Conv, in_different_banks
from hwgen.schedule.cost import command_cycles
from hwgen.schedule.jobs import pixels_per_tile
from hwgen.schedule.window import as_window, held_ones, window_sets

CONFIG = PRESETS["16x16"]


def image(kernel, size, pitch=None, stride=1, pad=0, **changes):
    """A kernel over an image with rows of `pitch` words; the output has as many pixels as fit."""
    pitch, out = pitch or size | 1, (size + 2 * pad - kernel) // stride + 1
    base = Conv(
        input_rows=size, input_columns=size, input_row_step=stride * pitch, kernel_row_step=pitch, input_block_stride=pitch * size, stride_rows=stride,
        stride_columns=stride, kernel_rows=kernel, kernel_steps=kernel, origin_row=-pad, origin_column=-pad, output_rows=out, output_columns=out,
    )  # fmt: skip
    return replace(base, **changes)


@pytest.mark.parametrize(
    ("command", "config", "split", "cycles"),
    [
        (image(3, 48, pad=1), CONFIG, (3, 3, 1), 48 * 49),  # one cycle per pixel, one more per row
        (image(3, 48, stride=2, pad=1), CONFIG, (3, 3, 1), 24 * 48),  # two per pixel
        (image(3, 48, pitch=48, pad=1), CONFIG, (1, 3, 1), 3 * 48 * 49),  # rows that begin in one bank
        (image(3, 46, pitch=46, pad=1), CONFIG, (2, 3, 1), 2 * 46 * 47),  # in two
        (image(3, 8, pad=1), PRESETS["4x4"], (3, 1, 3), 3 * 64),  # four chains of one tap each
        (image(3, 8, pad=1), PRESETS["8x8"], (3, 2, 2), 8 * 8 + 8 * 9),  # four chains of two: of the first two columns one lies left of the image
        (image(5, 16, pad=2), CONFIG, (2, 5, 1), 3 * 16 * 18),
        (image(2, 16, stride=2, reduce=Reduce.MAX), CONFIG, (2, 1, 2), 2 * 64),
        (image(1, 16, reduce=Reduce.MAX), CONFIG, (1, 1, 1), 256),
        (image(4, 4, weights_held=1), CONFIG, (4, 4, 1), 4),  # global pooling: a column per cycle
        (image(7, 7, weights_held=1), CONFIG, (2, 7, 1), 28),
        (image(8, 8, weights_held=1), CONFIG, (4, 4, 2), 16),
    ],
)
def test_the_fastest_split_of_a_kernel(command, config, split, cycles):
    found = as_window(command, config)
    assert (found.tap_rows, found.taps, found.kernel_steps) == split
    assert command_cycles(found, config) == cycles * found.output_tiles


def test_weights_lie_where_their_taps_arrive():
    """3x5 taps as two groups of 2 rows, two steps of 3 columns: the newest column first, rows half of the window apart."""
    command = Conv(mode=Mode.DEPTHWISE, tap_rows=2, taps=3, kernel_rows=3, kernel_steps=2, kernel_row_step=1, output_tiles=2)
    weight = np.arange(32 * 15).reshape(32, 3, 5).astype(np.int8)
    sets = window_sets(weight, command, CONFIG).reshape(2, 2, 2, 16, 16)
    for tile, group, step, channel in itertools.product(range(2), range(2), range(2), range(16)):
        expected = np.zeros(16, np.int8)
        for row, column in itertools.product(range(2), range(3)):
            y, x = 2 * group + row, 3 * step + column
            if y < 3 and x < 5:
                expected[8 * row + 2 - column] = weight[16 * tile + channel, y, x]
        np.testing.assert_array_equal(sets[tile, group, step, channel], expected)
    assert held_ones(command, CONFIG)[0, 0].tolist() == [1, 1, 1, 0, 0, 0, 0, 0] * 2


@pytest.mark.parametrize("seed", range(40))
def test_every_split_is_legal_and_none_is_faster(seed):
    r = random.Random(seed)
    kernel = r.randint(1, 9)
    command = image(kernel, r.randint(kernel, 14), pitch=r.randint(14, 20), stride=r.randint(1, 3), pad=r.randint(0, kernel - 1), weights_held=r.randint(0, 1))
    config = PRESETS[r.choice(["4x4", "8x8", "16x16"])]
    found = as_window(command, config)
    assert found.kernel_steps * found.taps >= kernel and in_different_banks(found.tap_rows, found.kernel_row_step)
    assert not found.weights_held or found.kernel_steps * found.taps == kernel
    slowest = replace(command, mode=Mode.DEPTHWISE, output_tiles=found.output_tiles)
    assert command_cycles(found, config) <= command_cycles(replace(slowest, pixels_per_tile=pixels_per_tile(slowest, config)), config)


@pytest.mark.parametrize(
    ("changes", "pixels"),
    [
        ({}, 1000),  # one pass: no sums are kept between passes
        ({"kernel_rows": 2}, 125),  # equal parts of at most 128
        ({"kernel_rows": 2, "mode": Mode.DEPTHWISE}, 120),  # whole rows
        ({"kernel_rows": 2, "mode": Mode.DEPTHWISE, "output_rows": 5, "output_columns": 200}, 125),  # rows that are too long
        ({"output_rows": 300, "output_columns": 300}, 45000),  # of a 16-bit field
    ],
)
def test_pixel_tiles(changes, pixels):
    assert pixels_per_tile(replace(Conv(output_rows=25, output_columns=40), **changes), CONFIG) == pixels
