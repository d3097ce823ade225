"""Two operations larger than the buffer, computed together: what lies between them never leaves the chip.

The second one works channel by channel, as a depthwise convolution behind a pointwise one does: a few channel blocks of a few rows of the
first one's output are enough for as many of its own. Rows that two stripes read are computed twice.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from hwgen.config import SIDES
from hwgen.layout import BlockedLayout
from hwgen.schedule.box import Box
from hwgen.schedule.tiling import COMMAND_CYCLES, Shape, largest, shape_in, shape_of, sizes, together, weight_words, words
from hwgen.schedule.work import Workload


@dataclass(frozen=True, kw_only=True)
class Cascade:
    """Rows of a stripe of the second operation's output, and channel blocks that are computed together. double: two buffers of the input and
    of the output, so that loads, computing and stores overlap.

    Words of one buffer: input, in side 0 of the activation buffer; middle, of which there is one, and output, in side 1.
    """

    rows: int
    blocks: int
    double: bool
    input: Shape
    middle: Shape
    output: Shape
    stripes: int
    groups: int  # of channel blocks
    estimate: int = 0

    @property
    def count(self) -> int:
        """Tiles of the second operation's output."""
        return self.stripes * self.groups

    @property
    def inputs(self) -> int:
        return 2 if self.double and self.stripes > 1 else 1

    @property
    def outputs(self) -> int:
        return 2 if self.double and self.count > 1 else 1

    def fits(self, side: int) -> bool:
        """In two sides of so many words."""
        return max(self.inputs * words(self.input), words(self.middle) + self.outputs * words(self.output)) <= side


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """What is read of the first operation's input, and for each group of channel blocks what is computed of its output and of the second one's."""

    source: Box
    parts: tuple[tuple[Box, Box], ...]


def follows(load: Workload, first: int) -> bool:
    """Operation first + 1 alone reads what operation `first` computes, all of it, and channel by channel."""
    if first + 1 >= len(load.works):
        return False
    above, below = load.works[first].operation, load.works[first + 1]
    name, window = above.output, below.operation.window
    return (
        below.lane_wise
        and below.operation.input == name
        and above.residual is None
        and below.operation.residual is None
        and isinstance(load.layouts[name], BlockedLayout)
        and load.origin[name].root == name
        and load.last_use[name] == first + 1
        and load.extent(name).blocks == load.extent(below.operation.output).blocks
        and window.extent[0] >= window.strides[0]
    )


def stripes(load: Workload, first: int, rows: int, blocks: int) -> Iterator[Stripe]:
    """All of both outputs, from top to bottom, so many rows and blocks at a time."""
    above, below = load.works[first], load.works[first + 1]
    whole, middle = load.extent(below.operation.output), load.extent(above.operation.output)
    for top in range(0, whole.bottom, rows):
        box = replace(whole, top=top, bottom=min(top + rows, whole.bottom))
        needed = load.input_box(below, box)
        needed = replace(
            middle,  # also the columns and the outer rows that nobody reads
            top=needed.top if top else 0,
            bottom=needed.bottom if box.bottom < whole.bottom else middle.bottom,
        )
        groups = [{"first_block": block, "end_block": min(block + blocks, whole.end_block)} for block in range(0, whole.end_block, blocks)]
        parts = tuple((replace(needed, **group), replace(box, **group)) for group in groups)
        yield Stripe(source=load.input_box(above, needed), parts=parts)


def best_cascade(load: Workload, first: int) -> Cascade | None:
    """Of operations `first` and first + 1 the cascade with the smallest estimate; None where they are none, or not even one row fits."""
    if not follows(load, first):
        return None
    config, whole = load.config, load.extent(load.works[first + 1].operation.output)
    heights, side = list(sizes(whole.rows)), config.activation_words // SIDES
    lines: dict[int, list[Stripe]] = {}

    def shaped(blocks: int, double: bool, index: int) -> Cascade:
        rows = heights[index]
        if rows not in lines:
            lines[rows] = list(stripes(load, first, rows, whole.blocks))
        return _shaped(load, first, rows, blocks, double, lines[rows])

    best: Cascade | None = None
    for double in (True, False):
        for blocks in [whole.blocks] if config.out_lanes > config.in_lanes else sizes(whole.blocks):
            found = _tallest(partial(shaped, blocks, double), len(heights), side)
            if found is not None:
                found = replace(found, estimate=_estimate(found, lines[found.rows], load, first))
                best = found if best is None or found.estimate < best.estimate else best
    return best


def _tallest(shaped: Callable[[int], Cascade], count: int, side: int) -> Cascade | None:
    """The first of `count` cascades, in order of falling height, that fits. All rows at once take one buffer of each kind; of several stripes
    the lower ones take less, so that not all need to be tried."""
    if shaped(0).fits(side):
        return shaped(0)
    index = 1 + bisect_left(range(1, count), True, key=lambda k: shaped(k).fits(side))
    return shaped(index) if index < count and shaped(index).fits(side) else None


def _shaped(load: Workload, first: int, rows: int, blocks: int, double: bool, line: list[Stripe]) -> Cascade:
    """`line`: the stripes of so many rows, all blocks together."""
    above, below = load.works[first], load.works[first + 1]

    def some_blocks(box: Box) -> Box:
        return replace(box, end_block=min(blocks, box.end_block))

    return Cascade(
        rows=rows,
        blocks=blocks,
        double=double,
        input=largest(shape_in(stripe.source, above, load) for stripe in line),
        middle=largest(shape_in(some_blocks(stripe.parts[0][0]), below, load) for stripe in line),
        output=largest(shape_of(some_blocks(stripe.parts[0][1])) for stripe in line),
        stripes=len(line),
        groups=-(-load.extent(below.operation.output).blocks // blocks),
    )


def _estimate(cascade: Cascade, line: list[Stripe], load: Workload, first: int) -> int:
    """Cycles, roughly, comparable with that of a `Tiling`."""
    config, above, below = load.config, load.works[first], load.works[first + 1]
    loaded, stored = sum(load.bus_words(stripe.source) for stripe in line), load.bus_words(load.extent(below.operation.output))
    stay = weight_words(above, config) + weight_words(below, config) <= config.weight_words
    weights = (above.weight_bytes + below.weight_bytes) // config.bus_bytes * (1 if stay else cascade.stripes)
    computed = sum(stripe.parts[0][0].rows for stripe in line)
    commands = cascade.count * (len(above.jobs) + len(below.jobs))
    compute = above.cycles * computed // load.extent(above.operation.output).rows + below.cycles + commands * COMMAND_CYCLES
    ends = load.bus_words(line[0].source) + stored // cascade.count
    return together(compute, weights, loaded, stored, ends if cascade.double else None)

