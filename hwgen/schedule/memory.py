"""Where values lie in system memory, and the transfers between there and the activation buffer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from hwgen.isa.fields import Region
from hwgen.isa.instructions import Load, Store
from hwgen.schedule.box import Box
from hwgen.schedule.storage import Origin, View

MOST_ROWS = 65535  # of one transfer


@dataclass(frozen=True, kw_only=True)
class Home:
    """[block][row][column] words of a value in a region, from byte `offset`: bytes from row to row, from block to block; words from column
    to column."""

    region: Region
    offset: int
    row_bytes: int
    block_bytes: int
    blocks: int
    column_step: int = 1

    def inner(self, origin: Origin, lanes: int) -> Home:
        """Where a value lies that lies inside this one."""
        offset = self.offset + origin.block * self.block_bytes + origin.row * self.row_bytes + origin.column * lanes
        return replace(self, offset=offset, row_bytes=self.row_bytes * origin.row_step, column_step=origin.column_step)

    def overlaps(self, other: Home) -> bool:
        """Whether they share bytes."""
        ends = [home.offset + home.blocks * home.block_bytes for home in (self, other)]
        return self.region is other.region and self.offset < ends[1] and other.offset < ends[0]


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """`count` equal pieces in both memories."""

    memory_offset: int
    buffer_address: int
    row_bytes: int
    count: int
    memory_stride: int
    buffer_stride: int


def _rows(box: Box, home: Home, view: View, lanes: int) -> Iterator[_Rows]:
    """As few transfers as will do: whole rows together, else row by row of each block or block by block of each row; pixel by pixel where
    these do not lie side by side."""

    def piece(row: int, block: int, count: int, strides: tuple[int, int], length: int) -> _Rows:
        return _Rows(
            memory_offset=home.offset + block * home.block_bytes + row * home.row_bytes + box.left * home.column_step * lanes,
            buffer_address=view.address + block * view.block_stride + row * view.row_stride + box.left * view.column_stride,
            row_bytes=length * lanes,
            count=count,
            memory_stride=strides[0],
            buffer_stride=strides[1],
        )

    by_block, by_row = (home.block_bytes, view.block_stride), (home.row_bytes, view.row_stride)
    if home.column_step > 1 or view.column_stride > 1:
        for block, row in product(range(box.first_block, box.end_block), range(box.top, box.bottom)):
            yield piece(row, block, box.columns, (home.column_step * lanes, view.column_stride), 1)
    elif box.rows == 1 or (box.columns * lanes == home.row_bytes and box.columns == view.row_stride):
        yield piece(box.top, box.first_block, box.blocks, by_block, box.columns * box.rows)
    elif box.blocks <= box.rows:
        for block in range(box.first_block, box.end_block):
            yield piece(box.top, block, box.rows, by_row, box.columns)
    else:
        for row in range(box.top, box.bottom):
            yield piece(row, box.first_block, box.blocks, by_block, box.columns)


def _split(rows: _Rows, lanes: int) -> Iterator[dict[str, int]]:
    """Fields of the transfers. Pieces that follow each other without a gap in both memories are one."""
    if rows.count > 1 and rows.memory_stride == rows.row_bytes and rows.buffer_stride * lanes == rows.row_bytes:
        rows = replace(rows, row_bytes=rows.count * rows.row_bytes, count=1)
    for first in range(0, rows.count, MOST_ROWS):
        count = min(MOST_ROWS, rows.count - first)
        strides = {"memory_row_stride": rows.memory_stride, "buffer_row_stride": rows.buffer_stride} if count > 1 else {}
        yield {
            "memory_offset": rows.memory_offset + first * rows.memory_stride,
            "buffer_address": rows.buffer_address + first * rows.buffer_stride,
            "row_bytes": rows.row_bytes,
            "rows": count,
            **strides,
        }


def loads(box: Box, home: Home, view: View, lanes: int) -> Iterator[Load]:
    """Memory to buffer."""
    for rows in _rows(box, home, view, lanes):
        for fields in _split(rows, lanes):
            yield Load(region=home.region, **fields)


def stores(box: Box, home: Home, view: View, lanes: int) -> Iterator[Store]:
    """Buffer to memory."""
    for rows in _rows(box, home, view, lanes):
        for fields in _split(rows, lanes):
            yield Store(region=home.region, **fields)
