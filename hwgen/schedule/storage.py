"""Values in storage: which lie inside others (concatenations), how their rows are spaced in the activation buffer, where they go."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from hwgen.config import BANKS
from hwgen.ir.graph import Graph, Node
from hwgen.layout import BlockedLayout, Layout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Operator, Window
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.interleave import Interleave
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.slice import Slice
from hwgen.schedule.box import Box, whole
from hwgen.schedule.prepare import CHANNELS, is_lane_wise

POINT = Window(kernel=(1, 1))


def whole_banks(words: int) -> int:
    """So many words or a few more: a multiple of the banks."""
    return -(-words // BANKS) * BANKS


@dataclass(frozen=True, kw_only=True)
class View:
    """A value in the buffer, in words: pixel (y, x) of block b lies at address + b * block_stride + y * row_stride + x.

    For a packed value x counts words of a row, and there is one block. Of an interleaved value columns lie `column_stride` words apart.
    """

    address: int
    row_stride: int
    block_stride: int
    blocks: int
    column_stride: int = 1

    def inner(self, origin: Origin, blocks: int) -> View:
        """The view of a value of so many blocks that lies inside this one."""
        return View(
            address=self.address + origin.row * self.row_stride + origin.column + origin.block * self.block_stride,
            row_stride=self.row_stride * origin.row_step,
            block_stride=self.block_stride,
            blocks=blocks,
            column_stride=origin.column_step,
        )

    def place_of(self, address: int) -> tuple[int, int, int]:
        """Block, row and column of the word at `address`, where blocks do not overlap."""
        block, rest = divmod(address - self.address, self.block_stride)
        row, column = divmod(rest, self.row_stride)
        return block, row, column // self.column_stride


def view_of_part(part: Box, base: int, pitch: tuple[int, int], blocks: int) -> View:
    """A value of so many blocks of which only `part` lies in the buffer, from word `base` on; `pitch`: rows from block to block, words from row to row."""
    row_stride, block_stride = pitch[1], pitch[0] * pitch[1]
    address = base - part.top * row_stride - part.left - part.first_block * block_stride
    return View(address=address, row_stride=row_stride, block_stride=block_stride, blocks=blocks)


def window_of(op: Operator | None) -> Window:
    """What an operation reads around each output pixel; None is an addition that stands alone."""
    if isinstance(op, Conv | MaxPool | AveragePool | Slice):
        return op.window
    return Window(kernel=(1, 1), pads=op.pads) if isinstance(op, Pad) else POINT


@dataclass(frozen=True, kw_only=True)
class Origin:
    """A value lies inside `root`, beginning at this row, column and channel block, each row and column so many of the root's apart."""

    root: str
    row: int = 0
    column: int = 0
    block: int = 0
    row_step: int = 1
    column_step: int = 1


def between(inner: Origin, outer: Origin) -> Origin:
    """Where `inner` lies inside `outer`, both of one root."""
    return Origin(
        root=outer.root,
        row=(inner.row - outer.row) // outer.row_step,
        column=(inner.column - outer.column) // outer.column_step,
        block=inner.block - outer.block,
        row_step=inner.row_step // outer.row_step,
        column_step=inner.column_step // outer.column_step,
    )


def origins(graph: Graph, layouts: Mapping[str, Layout]) -> dict[str, Origin]:
    """For every value the value whose storage it lies in: itself, or the outermost concatenation or interleaving."""
    found = {name: Origin(root=name) for name in graph.values}
    for node in reversed(graph.nodes):
        if isinstance(node.op, Concat):
            outer = found[node.output]
            rows = columns = blocks = 0
            for name in node.inputs:
                inner = layouts[name]
                assert isinstance(inner, BlockedLayout)
                row, column = outer.row + rows * outer.row_step, outer.column + columns * outer.column_step
                found[name] = replace(outer, row=row, column=column, block=outer.block + blocks)
                rows += inner.height if node.op.axis == 0 else 0
                columns += inner.width if node.op.axis == 1 else 0
                blocks += inner.blocks if node.op.axis == CHANNELS else 0
        elif isinstance(node.op, Interleave):
            outer, (rows, columns) = found[node.output], node.op.factors
            for k, name in enumerate(node.inputs):
                row, column = outer.row + k // columns * outer.row_step, outer.column + k % columns * outer.column_step
                found[name] = replace(outer, row=row, column=column, row_step=outer.row_step * rows, column_step=outer.column_step * columns)
    return found


def extent(layout: Layout) -> Box:
    """Rows, columns (packed: words of a row) and blocks of a value."""
    if isinstance(layout, BlockedLayout):
        return whole(layout.height, layout.width, layout.blocks)
    return whole(layout.rows, layout.row_words, 1)


def _rows_at_once(node: Node) -> tuple[int, int]:
    """Kernel rows that depthwise mode likes to read in one cycle, and how many image rows they are apart."""
    window = window_of(node.op)
    return (min(window.kernel[0], BANKS), window.dilations[0]) if is_lane_wise(node) else (1, 1)


def pitch(columns: int, rows_at_once: Collection[tuple[int, int]]) -> int:
    """Words from row to row: as few as let neighbouring kernel rows lie in different banks."""
    for words in range(columns, columns + BANKS):
        if all(len({row * dilation * words % BANKS for row in range(rows)}) == rows for rows, dilation in rows_at_once):
            return words
    return columns


def pitches(graph: Graph, layouts: Mapping[str, Layout], origin: Mapping[str, Origin]) -> dict[str, int]:
    """Words from row to row of every root."""
    wishes: dict[str, set[tuple[int, int]]] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if isinstance(layouts[name], BlockedLayout):
                wishes.setdefault(origin[name].root, set()).add(_rows_at_once(node))
    return {root: pitch(extent(layouts[root]).columns, wishes.get(root, ())) for root in {o.root for o in origin.values()}}


Span = tuple[int, int]  # first and last step at which something is alive


def allocate(sizes: Mapping[str, tuple[int, Span]], fixed: Mapping[str, int] | None = None) -> dict[str, int]:
    """Addresses for things of so many words that are alive in such spans: largest first, each at the lowest free place, around those that are `fixed`."""
    placed: dict[str, int] = dict(fixed or {})
    for name in sorted(sizes.keys() - placed.keys(), key=lambda n: (-sizes[n][0], sizes[n][1], n)):
        words, (first, last) = sizes[name]
        address = 0
        others = sorted((placed[o], placed[o] + sizes[o][0]) for o in placed if sizes[o][1][0] <= last and first <= sizes[o][1][1])
        for begin, end in others:
            if address + words > begin:
                address = max(address, whole_banks(end))
        placed[name] = address
    return placed


def needed_words(sizes: Mapping[str, tuple[int, Span]], placed: Mapping[str, int]) -> int:
    return max((placed[name] + sizes[name][0] for name in placed), default=0)
