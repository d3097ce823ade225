"""Which words a command reads and writes: what the order of commands must respect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv, Load, Store
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.schedule.jobs import tile_channels

Interval = tuple[int, int]  # [first, end)
MOST_INTERVALS = 64  # of one image; more only slow the compiler down


@dataclass(frozen=True, kw_only=True)
class _Image:
    """Rows of equal length, block after block: word of row 0, words from row to row, from block to block."""

    address: int
    rows: int
    columns: int
    row_stride: int
    block_stride: int
    blocks: int


def merged(intervals: Iterable[Interval], gap: int = 0) -> tuple[Interval, ...]:
    """Sorted, without overlaps; those at most `gap` apart become one."""
    result: list[Interval] = []
    for first, end in sorted(intervals):
        if result and first <= result[-1][1] + gap:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((first, end))
    return tuple(result)


def _intervals(image: _Image, words: int) -> tuple[Interval, ...]:
    """One interval per block, from its first word to its last; many blocks, and blocks that follow each other closely, as one."""
    length = (image.rows - 1) * image.row_stride + image.columns
    if image.blocks > MOST_INTERVALS:
        start = (image.address & ADDRESS_MASK) % words
        return ((start, start + (image.blocks - 1) * image.block_stride + length),)
    starts = [(image.address + block * image.block_stride & ADDRESS_MASK) % words for block in range(image.blocks)]
    return merged(((start, start + length) for start in starts), image.row_stride)


def _clipped(first: int, last: int, length: int) -> tuple[int, int]:
    """First position and number of positions of first..last inside 0..length-1."""
    low, high = max(first, 0), min(last, length - 1)
    return low, max(high - low + 1, 0)


def _operands(c: Conv, config: HardwareConfig) -> _Image:
    row_words = c.input_row_step // c.stride_rows
    low, rows = _clipped(c.origin_row, c.origin_row + (c.output_rows - 1) * c.stride_rows + (c.kernel_rows - 1) * c.dilation_rows, c.input_rows)
    last = c.origin_column + (c.output_columns - 1) * c.stride_columns
    if c.mode == Mode.PACKED:
        column, columns = c.origin_column // config.in_lanes, (last + c.kernel_steps * config.in_lanes - 1) // config.in_lanes + 1
        columns -= column
    else:
        taps = c.kernel_steps * c.taps
        column, columns = _clipped(c.origin_column, last + (taps - 1) * c.dilation_columns, c.input_columns)
    blocks = blocks_written(c, config) if c.mode == Mode.DEPTHWISE else c.input_blocks
    address = c.input_address + (low - c.origin_row) * row_words + column
    return _Image(
        address=address, rows=rows, columns=columns, row_stride=row_words, block_stride=c.input_block_stride, blocks=blocks if rows and columns else 0
    )


def blocks_written(command: Conv, config: HardwareConfig) -> int:
    """Channel blocks of the output that the command's tiles reach."""
    return min(command.output_blocks, -(-command.output_tiles * tile_channels(command, config) // config.in_lanes))


def conv_reads(command: Conv, config: HardwareConfig) -> tuple[Interval, ...]:
    """Activation words that the command may read."""
    found = list(_intervals(_operands(command, config), config.activation_words))
    if command.residual:
        found += _intervals(
            _results(command, config, command.residual_address, command.residual_row_stride, command.residual_block_stride), config.activation_words
        )
    return merged(found)


def _results(c: Conv, config: HardwareConfig, address: int, row_stride: int, block_stride: int, gap: int = 0) -> _Image:
    columns = (c.output_columns - 1) * (gap + 1) + 1
    return _Image(
        address=address, rows=c.output_rows, columns=columns, row_stride=row_stride, block_stride=block_stride, blocks=blocks_written(c, config)
    )


def conv_writes(command: Conv, config: HardwareConfig) -> tuple[Interval, ...]:
    """Activation words that the command may write."""
    if command.keep:
        return ()
    c = command
    return _intervals(_results(c, config, c.output_address, c.output_row_stride, c.output_block_stride, c.output_column_gap), config.activation_words)


def buffer_words(command: Load | Store, word_bytes: int) -> tuple[Interval, ...]:
    """Words of the buffer that a transfer touches."""
    length = -(-command.unpacked_bytes // word_bytes)
    stride, first = command.buffer_row_stride, command.buffer_address
    if command.rows > MOST_INTERVALS or stride <= length:
        return ((first, first + (command.rows - 1) * stride + length),)
    return merged((first + row * stride, first + row * stride + length) for row in range(command.rows))


def sides(intervals: Sequence[Interval], side_words: int) -> tuple[int, ...]:
    """The sides of the activation buffer that the intervals touch."""
    return tuple(sorted({side for first, end in intervals for side in range(first // side_words, (end - 1) // side_words + 1)}))
