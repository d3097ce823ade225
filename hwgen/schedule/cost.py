"""Cycles of a CONV command in the array, exact by the hardware's timing contract (docs/accelerator.md)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import PASS_CYCLES
from hwgen.layout import Int64Array
from hwgen.schedule.jobs import tile_channels


def pixel_tiles(command: Conv) -> Iterator[slice]:
    """Pixel tiles in raster order."""
    pixels = command.output_rows * command.output_columns
    for first in range(0, pixels, command.pixels_per_tile):
        yield slice(first, min(first + command.pixels_per_tile, pixels))


def slices_per_pixel(command: Conv, config: HardwareConfig) -> int:
    """Cycles per pixel of a last pass: requantization beats of a tile."""
    return tile_channels(command, config) // config.requantize_lanes


def conflicts(command: Conv, config: HardwareConfig, tile: int) -> npt.NDArray[np.bool_]:
    """(pixels,) where the last pass reads its operands and the residual's first word at one port."""
    y, x = np.divmod(np.arange(command.output_rows * command.output_columns, dtype=np.int64), command.output_columns)
    if not command.residual or command.keep:
        return np.zeros(len(y), np.bool_)
    block = tile * tile_channels(command, config) // config.in_lanes
    residual = command.residual_address + block * command.residual_block_stride + y * command.residual_row_stride + x
    hit = np.zeros(len(y), np.bool_)
    for inside, word in _last_pass_words(command, config, block, y, x):
        hit |= inside & (_port(word, config) == _port(residual, config))
    return hit & (block < command.output_blocks)


def _port(words: Int64Array, config: HardwareConfig) -> Int64Array:
    """A number for bank and side of each word."""
    side = words % config.activation_words // (config.activation_words // SIDES)
    port: Int64Array = words % BANKS + BANKS * side
    return port


def _last_pass_words(c: Conv, config: HardwareConfig, block: int, y: Int64Array, x: Int64Array) -> Iterator[tuple[npt.NDArray[np.bool_], Int64Array]]:
    """Words that the last pass of each pixel reads: (read at all, address)."""
    row = c.origin_row + y * c.stride_rows + (c.kernel_rows - 1) * c.dilation_rows
    base = c.input_address + y * c.input_row_step + (c.kernel_rows - 1) * c.kernel_row_step
    row_inside = (row >= 0) & (row < c.input_rows)
    if c.mode == Mode.PACKED:
        byte = c.origin_column + x * c.stride_columns + (c.kernel_steps - 1) * config.in_lanes
        yield row_inside, base + byte // config.in_lanes
        yield row_inside & (byte % config.in_lanes != 0), base + byte // config.in_lanes + 1
        return
    first = (c.kernel_steps - 1) * c.taps if c.mode == Mode.DEPTHWISE else c.kernel_steps - 1
    taps = c.kernel_columns - first if c.mode == Mode.DEPTHWISE else 1
    base = base + (block if c.mode == Mode.DEPTHWISE else c.input_blocks - 1) * c.input_block_stride
    for tap in range(taps):
        column = c.origin_column + x * c.stride_columns + (first + tap) * c.dilation_columns
        yield row_inside & (column >= 0) & (column < c.input_columns), base + column


def array_cycles(command: Conv, config: HardwareConfig) -> int:
    """Cycles from the first pixel of the first pass to the last of the last, without gaps.

    A pass lasts as long as its pixels, at least PASS_CYCLES; the very last one only as long as its pixels.
    """
    per_pixel, total, last = slices_per_pixel(command, config), 0, 0
    clashes = [conflicts(command, config, tile) for tile in range(command.output_tiles if command.residual else 1)]
    for pixels in pixel_tiles(command):
        count = pixels.stop - pixels.start
        total += command.output_tiles * (command.passes - 1) * max(count, PASS_CYCLES)
        ends = [count * per_pixel + int(hit[pixels].sum()) for hit in clashes]
        total += sum(max(end, PASS_CYCLES) for end in ends) * (1 if command.residual else command.output_tiles)
        last = ends[-1]
    return total - max(last, PASS_CYCLES) + last
