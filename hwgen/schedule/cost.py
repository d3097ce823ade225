"""Cycles of a CONV command in the array, exact by the hardware's timing contract (docs/accelerator.md)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from hwgen.config import BANKS, SIDES, HardwareConfig, Machine
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import PASS_CYCLES
from hwgen.layout import Int64Array
from hwgen.schedule.jobs import tile_channels
from hwgen.schedule.serial import conv_cycles


def slices_per_pixel(command: Conv, config: HardwareConfig) -> int:
    """Cycles per pixel of a last pass: requantization beats of a tile."""
    return tile_channels(command, config) // config.requantize_lanes


def command_cycles(command: Conv, config: HardwareConfig) -> int:
    """Cycles from the first column of the first pixel of the first pass to the last slice of the last pixel, without gaps.

    A pass p walks f columns before its first pixel is complete and takes g cycles from there on; first pixels of two passes are at
    least PASS_CYCLES apart: f(first) + sum of max(PASS_CYCLES, g(p) + f(p + 1)) + g(last). In the serial machine: see `conv_cycles`.
    """
    c = command
    if config.machine is Machine.SERIAL:
        return conv_cycles(c)
    bounds = tuple(_bounds(c).tolist())
    slices = slices_per_pixel(c, config)
    if not c.residual or c.keep:
        return _alike(c.output_tiles, bounds, c.output_columns, slices, c.row_groups, c.input_blocks, _walk(c))
    before, during = _passes(bounds, c.output_columns, slices, c.row_groups, c.input_blocks, _walk(c))
    ends = np.stack([during] * c.output_tiles).reshape(c.output_tiles, len(bounds) - 1, c.passes)
    for tile in range(c.output_tiles):
        ends[tile, :, -1] += conflicts(c, config, tile)
    return _total(np.tile(before, c.output_tiles), ends.reshape(-1), 1)


def _total(before: Int64Array, during: Int64Array, tiles: int) -> int:
    """Of `tiles` output tiles with these passes each: f and g (passes,)."""
    spans = np.maximum(during + np.roll(before, -1), PASS_CYCLES)
    return int(before[0] + tiles * spans.sum() - spans[-1] + during[-1])


@lru_cache(maxsize=1024)
def _alike(tiles: int, bounds: tuple[int, ...], columns: int, slices: int, row_groups: int, input_blocks: int, walk: _Walk) -> int:
    """Of `tiles` output tiles without conflicts."""
    return _total(*_passes(bounds, columns, slices, row_groups, input_blocks, walk), tiles)


def _bounds(c: Conv) -> Int64Array:
    """First pixel of each pixel tile, and the number of pixels."""
    pixels = c.output_rows * c.output_columns
    return np.append(np.arange(0, pixels, c.pixels_per_tile, dtype=np.int64), pixels)


@dataclass(frozen=True)
class _Walk:
    """Columns that a pixel walks: in each kernel step the first of a row; the first of a pixel tile elsewhere; any other."""

    row_start: tuple[int, ...]
    tile_start: int
    other: int


def _walk(c: Conv) -> _Walk:
    if c.mode != Mode.DEPTHWISE or c.taps == 1:
        return _Walk((1,) * c.kernel_steps, 1, 1)
    if c.dilation_columns != 1:
        return _Walk((c.taps,) * c.kernel_steps, c.taps, c.taps)
    least = 2 if c.output_columns == 1 else 1  # in rows of one pixel
    outside = [min(max(-c.origin_column - step * c.taps, 0), c.taps - least) for step in range(c.kernel_steps)]
    return _Walk(tuple(c.taps - skipped for skipped in outside), c.taps, min(c.stride_columns, c.taps))


@lru_cache(maxsize=1024)
def _passes(bounds: tuple[int, ...], columns: int, slices: int, row_groups: int, input_blocks: int, walk: _Walk) -> tuple[Int64Array, Int64Array]:
    """f and g of every pass of an output tile, without conflicts: (pixel tiles * passes,) each."""
    first, end = np.array(bounds[:-1], np.int64)[:, None], np.array(bounds[1:], np.int64)[:, None]
    inside_row = first % columns != 0
    rows = -(-end // columns) - -(-first // columns)
    row_start = np.array(walk.row_start, np.int64)
    walked = rows * row_start + inside_row * walk.tile_start + (end - first - rows - inside_row) * walk.other
    before = np.where(inside_row, walk.tile_start, row_start) - 1
    shape = (len(bounds) - 1, row_groups, len(row_start), input_blocks)
    during = np.broadcast_to((walked - before)[:, None, :, None], shape).reshape(len(first), -1).copy()
    during[:, -1] += (end - first)[:, 0] * (slices - 1)
    result = np.broadcast_to(before[:, None, :, None], shape).reshape(-1).copy(), during.reshape(-1)
    for array in result:
        array.flags.writeable = False  # shared by all callers
    return result


@dataclass(frozen=True)
class _Read:
    """Words that the last pass reads, one per pixel: row, column and word at pixel (0, 0)."""

    row: int
    column: int
    word: int


def conflicts(c: Conv, config: HardwareConfig, tile: int) -> Int64Array:
    """(pixel tiles,) pixels whose last pass reads an operand and the residual's first word at one port."""
    bounds = _bounds(c)
    block = tile * tile_channels(c, config) // config.in_lanes
    if block >= c.output_blocks:
        return np.zeros(len(bounds) - 1, np.int64)
    residual = c.residual_address + block * c.residual_block_stride
    if c.mode == Mode.PACKED:
        return np.diff(np.append(0, np.cumsum(_packed_hits(c, config, residual)))[bounds])
    return sum((_hits(c, config, read, residual, bounds) for read in _last_reads(c, block)), start=np.zeros(len(bounds) - 1, np.int64))


def _last_reads(c: Conv, block: int) -> Iterator[_Read]:
    """Of the last pass, in the cycle in which a pixel is complete."""
    depthwise = c.mode == Mode.DEPTHWISE
    first_row = (c.row_groups - 1) * c.tap_rows
    column = c.origin_column + (c.kernel_steps * c.taps - 1) * c.dilation_columns
    base = c.input_address + (block if depthwise else c.input_blocks - 1) * c.input_block_stride + column
    for row in range(first_row, c.kernel_rows):
        yield _Read(c.origin_row + row * c.dilation_rows, column, base + row * c.kernel_row_step)


def _hits(c: Conv, config: HardwareConfig, read: _Read, residual: int, bounds: Int64Array) -> Int64Array:
    """Pixels per pixel tile at which the read and the residual meet."""
    y, x = np.arange(c.output_rows, dtype=np.int64), np.arange(c.output_columns, dtype=np.int64)
    row, column = read.row + y * c.stride_rows, read.column + x * c.stride_columns
    rows, columns = (row >= 0) & (row < c.input_rows), (column >= 0) & (column < c.input_columns)
    words, others = (read.word + y * c.input_row_step, x * c.stride_columns), (residual + y * c.residual_row_stride, x)
    sides = [_side(first[rows], rest[columns], config) for first, rest in (words, others)]
    if not (rows.any() and columns.any()) or (None not in sides and sides[0] != sides[1]):
        return np.zeros(len(bounds) - 1, np.int64)
    if None in sides:
        operand, other = (_port(first[:, None] + rest, config) for first, rest in (words, others))
        return np.diff(np.append(0, np.cumsum(rows[:, None] & columns & (operand == other)))[bounds])
    distance = words[0][:BANKS, None] - others[0][:BANKS, None] + words[1] - others[1]  # modulo 4 it is the same in every fourth row
    return _periodic(columns & (distance % BANKS == 0), rows, bounds)


def _periodic(pattern: npt.NDArray[np.bool_], rows: npt.NDArray[np.bool_], bounds: Int64Array) -> Int64Array:
    """Pixels between `bounds` that are set in `pattern` (up to BANKS rows, which repeat, columns), in those rows that count."""
    before = np.pad(np.cumsum(pattern, axis=1), ((0, 0), (1, 0)))  # set pixels left of each column
    kind = np.arange(len(rows) + 1) % len(pattern)
    counts = np.append(rows, False)
    above = np.append(0, np.cumsum(np.where(counts, before[kind, -1], 0)))
    at, rest = np.divmod(bounds, pattern.shape[1])
    return np.diff(above[at] + np.where(counts[at], before[kind[at], rest], 0))


def _side(first: Int64Array, rest: Int64Array, config: HardwareConfig) -> int | None:
    """The side in which all words `first` + `rest` (both ascending) lie, or None."""
    if not (first.size and rest.size):
        return None
    half = config.activation_words // SIDES
    low, high = int(first[0] + rest[0]) // half, int(first[-1] + rest[-1]) // half
    return low % SIDES if low == high else None


def _packed_hits(c: Conv, config: HardwareConfig, residual: int) -> npt.NDArray[np.bool_]:
    """(pixels,) where one of two words is the residual's neighbour."""
    y, x = np.divmod(np.arange(c.output_rows * c.output_columns, dtype=np.int64), c.output_columns)
    row = c.origin_row + y * c.stride_rows + (c.kernel_rows - 1) * c.dilation_rows
    byte = c.origin_column + x * c.stride_columns + (c.kernel_steps - 1) * config.in_lanes
    word = c.input_address + y * c.input_row_step + (c.kernel_rows - 1) * c.kernel_row_step + byte // config.in_lanes
    other = _port(residual + y * c.residual_row_stride + x, config)
    met = (_port(word, config) == other) | ((byte % config.in_lanes != 0) & (_port(word + 1, config) == other))
    hit: npt.NDArray[np.bool_] = (row >= 0) & (row < c.input_rows) & met
    return hit


def _port(words: Int64Array, config: HardwareConfig) -> Int64Array:
    """A number for bank and side of each word."""
    side = words % config.activation_words // (config.activation_words // SIDES)
    port: Int64Array = words % BANKS + BANKS * side
    return port
