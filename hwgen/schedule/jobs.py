"""A CONV command together with the weights and parameters that it reads, before these have addresses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwgen.config import TABLE_ENTRIES, TABLE_LANES, HardwareConfig
from hwgen.ir.types import IntArray
from hwgen.isa.execute import longest_pixel_tile
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.layout import Int8Array, Int64Array, packed_format
from hwgen.ops.integer import weight_parts


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """`weights` (sets, M, N), none for maximum; `parameters` arrays (sets, M). Sets in the order in which the command uses them.
    `table`: (256,) output codes by the code before them + 128, where the command looks its results up.

    Weights beyond int8 are a sum of int8 `parts`; hwgen.schedule.cut makes one command of each.
    """

    command: Conv
    weights: IntArray | None
    parameters: dict[str, Int64Array]
    table: Int8Array | None = None

    @cached_property
    def parts(self) -> tuple[Int8Array, ...]:
        return () if self.weights is None else weight_parts(self.weights)

    @property
    def runs(self) -> int:
        """Commands that it takes to use all parts."""
        return max(1, len(self.parts))

    def weight_words(self, config: HardwareConfig) -> int:
        """Of the weight buffer."""
        return sum(packed_format(part, config)[1] for part in self.parts)

    def stored_bytes(self, config: HardwareConfig) -> int:
        """Bytes of memory of weights and parameters."""
        formats = [packed_format(part, config) for part in self.parts]
        weights = sum(words * config.weight_word_bytes // kind.digits for kind, words in formats)
        return weights + self.parameter_words(config) * config.parameter_word_bytes

    def parameter_words(self, config: HardwareConfig) -> int:
        return len(self.parameters["bias"]) * config.weight_load_cycles

    @property
    def table_words(self) -> int:
        return 0 if self.table is None else TABLE_ENTRIES // TABLE_LANES


def tile_channels(command: Conv, config: HardwareConfig) -> int:
    return config.depthwise_lanes if command.mode == Mode.DEPTHWISE else config.out_lanes


def pixels_per_tile(command: Conv, config: HardwareConfig) -> int:
    """Equal pixel tiles, as few as the accumulator memory allows; in depthwise mode whole rows, because windows begin anew in each tile."""
    longest, columns = longest_pixel_tile(command, config), command.output_columns
    if command.mode == Mode.DEPTHWISE and columns <= longest:
        return columns * _equal_parts(command.output_rows, longest // columns)
    return _equal_parts(command.output_rows * columns, longest)


def _equal_parts(count: int, longest: int) -> int:
    parts = -(-count // longest)
    return -(-count // parts)


def parameter_sets(columns: dict[str, Int64Array], channels_per_tile: int, config: HardwareConfig) -> dict[str, Int64Array]:
    """Per-channel arrays (physical channels,) -> sets (tiles, M); rows without a channel hold zero (multiplier and shift of a legal record)."""
    sets = {}
    for name, column in columns.items():
        tiles = -(-len(column) // channels_per_tile)
        padded = np.zeros(tiles * channels_per_tile, np.int64)
        padded[: len(column)] = column
        rows = np.zeros((tiles, config.out_lanes), np.int64)
        rows[:, :channels_per_tile] = padded.reshape(tiles, channels_per_tile)
        sets[name] = rows
    return sets


def tile_range(job: Job, first: int, end: int, config: HardwareConfig) -> Job:
    """The part of a job that computes tiles first..end-1; `first` must lie at a block boundary of the output."""
    command = job.command
    channels = tile_channels(command, config)
    block, rest = divmod(first * channels, config.in_lanes)
    assert rest == 0, "tile ranges begin at block boundaries"
    moved_input = block * command.input_block_stride if command.mode == Mode.DEPTHWISE else 0
    part = command.altered(
        output_tiles=end - first,
        output_blocks=command.output_blocks - block,
        output_address=command.output_address + block * command.output_block_stride,
        residual_address=command.residual_address + block * command.residual_block_stride,
        input_address=(command.input_address + moved_input) & ADDRESS_MASK,
    )
    weights = job.weights if command.weights_held or job.weights is None else job.weights[first * command.passes : end * command.passes]
    parameters = job.parameters if command.parameters_held else {name: sets[first:end] for name, sets in job.parameters.items()}
    return replace(job, command=part, weights=weights, parameters=parameters)
