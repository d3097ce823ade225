"""Depthwise mode: how many kernel rows and columns a pass takes, and in which lanes their weights lie."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from hwgen.config import BANKS, HardwareConfig
from hwgen.ir.types import IntArray
from hwgen.isa.fields import Mode, Reduce
from hwgen.isa.instructions import Conv, chain_lanes, in_different_banks, tap_lane
from hwgen.layout import Int8Array
from hwgen.schedule.cost import command_cycles
from hwgen.schedule.jobs import pixels_per_tile


def as_window(command: Conv, config: HardwareConfig) -> Conv:
    """The fastest depthwise command of a kernel of `kernel_rows` x `kernel_steps` taps.

    With `weights_held` all passes take equally many columns; rows that the last one lacks count as zero.
    """
    columns = command.kernel_steps
    tiles = command.output_blocks * config.in_lanes // config.depthwise_lanes
    command = replace(command, mode=Mode.DEPTHWISE, output_tiles=tiles)
    candidates = []
    for rows in range(1, min(BANKS, command.kernel_rows) + 1):
        if not in_different_banks(rows, command.kernel_row_step):
            continue
        longest = 1 if command.reduce == Reduce.MAX else min(chain_lanes(rows, config.window_taps), columns)
        for taps in range(1, longest + 1):
            if columns % taps == 0 or not command.weights_held:
                split = replace(command, tap_rows=rows, taps=taps, kernel_steps=-(-columns // taps))
                candidates.append(replace(split, pixels_per_tile=pixels_per_tile(split, config)))
    return min(candidates, key=lambda c: (command_cycles(c, config), c.passes))


def window_sets(weight: IntArray, command: Conv, config: HardwareConfig) -> IntArray:
    """Weight sets (sets, M, N) of a depthwise command from (channels, kernel rows, kernel columns)."""
    channels, groups, steps = config.depthwise_lanes, command.row_groups, command.kernel_steps
    rows, taps = command.tap_rows, command.taps
    padded = np.zeros((command.output_tiles * channels, groups * rows, steps * taps), weight.dtype)
    padded[:, : weight.shape[1], : weight.shape[2]] = weight
    split = padded.reshape(command.output_tiles, channels, groups, rows, steps, taps).transpose(0, 2, 4, 1, 3, 5)
    sets = np.zeros((command.output_tiles, groups, steps, config.out_lanes, config.in_lanes), weight.dtype)
    for row, column in itertools.product(range(rows), range(taps)):
        sets[..., :channels, tap_lane(command, row, column, config.window_taps)] = split[..., row, column]
    return sets.reshape(-1, config.out_lanes, config.in_lanes)


def held_ones(command: Conv, config: HardwareConfig) -> Int8Array:
    """The one weight set (1, M, N) of a command that adds its taps."""
    weights = np.zeros((1, config.out_lanes, config.in_lanes), np.int8)
    for row, column in itertools.product(range(command.tap_rows), range(command.taps)):
        weights[..., tap_lane(command, row, column, config.window_taps)] = 1
    return weights
