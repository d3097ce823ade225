"""Jobs cut into commands whose weights fit the buffers: by output channels, and where one tile of them is too large by input channels.

Sums that one command begins another can go on with, so weights beyond int8 run as one command for each int8 array that they are a sum of.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError
from hwgen.isa.fields import Mode
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.schedule.box import Box, whole
from hwgen.schedule.jobs import Job, tile_channels, tile_range
from hwgen.schedule.place import rectangle


def cut(job: Job, name: str, config: HardwareConfig, share: int) -> Iterator[Job]:
    """Commands in order; each takes at most 1/share of each buffer where it can, so that loading and computing overlap.

    Raises CapacityError naming layer and buffer where even the smallest piece does not fit.
    """
    tiles, granule = job.command.output_tiles, max(1, config.in_lanes // tile_channels(job.command, config))
    smallest = tile_range(job, 0, min(granule, tiles), config)
    too_large = smallest.command.mode == Mode.DENSE and 2 * smallest.weight_words(config) > config.weight_words and job.command.input_blocks > 1
    if granule > 1 and job.runs > 1:
        raise CapacityError(
            f"layer {name!r}: weights that need 9 bits (8-bit codes less a zero point beyond int8) run on arrays with as many rows as input lanes or more, "
            f"the hardware {config.name!r} has {tile_channels(job.command, config)} and {config.in_lanes}; set out_lanes to {config.in_lanes}"
        )
    if granule == 1 and (too_large or job.runs > 1):
        for tile in range(tiles):
            yield from _summed(tile_range(job, tile, tile + 1, config), name, config)
        return
    _check_fits(smallest, name, config)
    count = tiles
    while count > granule and not _fits(tile_range(job, 0, count, config), config, share):
        count = -(-count // 2 // granule) * granule
    for first in range(0, tiles, count):
        yield tile_range(job, first, min(first + count, tiles), config)


def _fits(job: Job, config: HardwareConfig, share: int) -> bool:
    return share * job.weight_words(config) <= config.weight_words and share * job.parameter_words(config) <= config.parameter_words


def _check_fits(job: Job, name: str, config: HardwareConfig) -> None:
    for buffer, words, limit in (
        ("weight", job.weight_words(config), config.weight_words),
        ("parameter", job.parameter_words(config), config.parameter_words),
    ):
        if words > limit:
            raise CapacityError(
                f"{buffer} buffer: layer {name!r} needs {words} words for its smallest group of output channels, the hardware {config.name!r} has {limit}: "
                f"{words - limit} words too few; set {buffer}_words to {1 << (words - 1).bit_length()} or more"
            )


def _summed(job: Job, name: str, config: HardwareConfig) -> Iterator[Job]:
    """One tile of output channels as commands that add to each other's sums, which stay in the accumulator memory: one for each part of the
    weights, and where these are too large for each range of input blocks."""
    command = job.command
    limits = [0, command.input_blocks]
    if command.input_blocks > 1:
        per_block = command.kernel_rows * command.kernel_steps * config.weight_load_cycles
        count = max(1, min(command.input_blocks, config.weight_words // 4 // per_block))
        pieces = -(-command.input_blocks // count)
        limits = [command.input_blocks * k // pieces for k in range(pieces + 1)]
    addends = [(weights, first, end) for first, end in zip(limits, limits[1:], strict=False) for weights in job.parts]
    for box in _pixel_boxes(command.output_rows, command.output_columns, config.accumulator_depth):
        part = rectangle(command, box, whole(command.output_rows, command.output_columns, 1), config).altered(pixels_per_tile=box.pixels)
        for index, (weights, first, end) in enumerate(addends):
            linked = part.altered(resume=int(index > 0), keep=int(index < len(addends) - 1))
            piece = _block_range(replace(job, command=linked, weights=weights), first, end, config)
            _check_fits(piece, name, config)
            yield piece


def _pixel_boxes(rows: int, columns: int, depth: int) -> Iterator[Box]:
    """Rectangles of at most `depth` pixels, nearly equal, in raster order."""
    across = -(-columns // depth)
    width = -(-columns // across)
    height = max(1, depth // width)
    height = -(-rows // -(-rows // height))
    for top in range(0, rows, height):
        for left in range(0, columns, width):
            yield Box(top=top, bottom=min(top + height, rows), left=left, right=min(left + width, columns), first_block=0, end_block=1)


def _block_range(job: Job, first: int, end: int, config: HardwareConfig) -> Job:
    """The part that sums the input blocks first..end-1."""
    command = job.command
    assert job.weights is not None
    if end - first == command.input_blocks:
        return job
    sets = job.weights.reshape(-1, command.input_blocks, config.out_lanes, config.in_lanes)[:, first:end]
    part = command.altered(input_blocks=end - first, input_address=(command.input_address + first * command.input_block_stride) & ADDRESS_MASK)
    return replace(job, command=part, weights=np.ascontiguousarray(sets).reshape(-1, config.out_lanes, config.in_lanes))
