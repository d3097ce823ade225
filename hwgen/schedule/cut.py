"""Jobs cut into commands whose weights fit the buffers: by output channels, and where one tile of them is too large by input channels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
    if granule == 1 and smallest.command.mode == Mode.DENSE and 2 * smallest.weight_words(config) > config.weight_words and job.command.input_blocks > 1:
        for tile in range(tiles):
            yield from _by_input_blocks(tile_range(job, tile, tile + 1, config), name, config)
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


@dataclass(frozen=True)
class _Blocks:
    first: int
    end: int
    total: int


def _by_input_blocks(job: Job, name: str, config: HardwareConfig) -> Iterator[Job]:
    """One tile of output channels whose weights are cut along the input blocks; partial sums stay in the accumulator memory between the commands."""
    command = job.command
    per_block = command.kernel_rows * command.kernel_steps * config.weight_load_cycles
    count = max(1, min(command.input_blocks, config.weight_words // 4 // per_block))
    parts = -(-command.input_blocks // count)
    limits = [command.input_blocks * k // parts for k in range(parts + 1)]
    for box in _pixel_boxes(command.output_rows, command.output_columns, config.accumulator_depth):
        part = replace(job, command=rectangle(command, box, whole(command.output_rows, command.output_columns, 1), config).altered(pixels_per_tile=box.pixels))
        for first, end in zip(limits, limits[1:], strict=False):
            piece = _block_range(part, _Blocks(first, end, command.input_blocks), config)
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


def _block_range(job: Job, blocks: _Blocks, config: HardwareConfig) -> Job:
    command = job.command
    assert job.weights is not None
    sets = job.weights.reshape(-1, blocks.total, config.out_lanes, config.in_lanes)[:, blocks.first : blocks.end]
    part = command.altered(
        input_blocks=blocks.end - blocks.first,
        input_address=(command.input_address + blocks.first * command.input_block_stride) & ADDRESS_MASK,
        resume=int(blocks.first > 0),
        keep=int(blocks.end < blocks.total),
    )
    return replace(job, command=part, weights=np.ascontiguousarray(sets).reshape(-1, config.out_lanes, config.in_lanes))
