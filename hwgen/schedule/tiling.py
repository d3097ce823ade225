"""One operation larger than the buffer: in which parts its output is computed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.layout import PackedLayout
from hwgen.schedule.box import Box
from hwgen.schedule.box import whole as whole_box
from hwgen.schedule.storage import whole_banks
from hwgen.schedule.work import Work, Workload

Shape = tuple[int, int, int]  # rows, words per row, blocks

COMMAND_CYCLES = 24  # of an additional command, its dispatch and its transfers, beside the work itself


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Size of a tile of the output. double: two buffers of each kind, so that loads, computing and stores overlap.

    Words of one buffer: input, residual, output. Inputs lie in side 0 of the activation buffer, outputs in side 1.
    """

    rows: int
    columns: int
    blocks: int
    double: bool
    input: Shape
    residual: Shape
    output: Shape
    count: int
    estimate: int

    @property
    def buffers(self) -> int:
        return 2 if self.double else 1


def words(shape: Shape) -> int:
    """Of rows x words x blocks, as a multiple of the banks."""
    return whole_banks(shape[0] * shape[1] * shape[2])


def tiles(whole: Box, tiling: Tiling) -> Iterator[Box]:
    """The parts of the output, row by row of tiles; blocks innermost."""
    for top in range(0, whole.bottom, tiling.rows):
        for left in range(0, whole.right, tiling.columns):
            for block in range(0, whole.end_block, tiling.blocks):
                yield Box(
                    top=top,
                    bottom=min(top + tiling.rows, whole.bottom),
                    left=left,
                    right=min(left + tiling.columns, whole.right),
                    first_block=block,
                    end_block=min(block + tiling.blocks, whole.end_block),
                )


def sizes(length: int) -> Iterator[int]:
    """Sizes that cut `length` into 1, 2, 3 ... nearly equal parts."""
    last = 0
    for count in range(1, length + 1):
        size = -(-length // count)
        if size != last:
            yield size
        last = size


def _row_words(columns: int, pitch: int) -> int:
    """Words from row to row of a part that leave neighbouring rows in the banks in which `pitch` words leave them."""
    return columns + (pitch - columns) % BANKS


def shape_in(box: Box, work: Work, load: Workload) -> Shape:
    """Of the input: rows lie apart only where a command reads several in one cycle."""
    banked = any(job.command.tap_rows > 1 for job in work.jobs)
    return box.rows, _row_words(box.columns, load.pitch[load.origin[work.operation.input].root]) if banked else box.columns, box.blocks


def shape_of(box: Box) -> Shape:
    return box.rows, box.columns, box.blocks


def largest(shapes: Iterable[Shape]) -> Shape:
    """The most rows, words and blocks of any."""
    result = (0, 0, 0)
    for shape in shapes:
        result = (max(result[0], shape[0]), max(result[1], shape[1]), max(result[2], shape[2]))
    return result


def _fitted(work: Work, load: Workload, size: Shape, double: bool) -> Tiling | None:
    """The tiling of rows x columns x blocks, None where it does not fit."""
    operation, whole = work.operation, load.extent(work.operation.output)
    tiling = Tiling(rows=size[0], columns=size[1], blocks=size[2], double=double, input=(0, 0, 0), residual=(0, 0, 0), output=(0, 0, 0), count=0, estimate=0)
    first = next(tiles(whole, tiling))  # as large as any; of the input it may read less than those that padding does not cut
    output, residual = shape_of(first), shape_of(first) if operation.residual is not None else (0, 0, 0)
    buffers, side = 2 if double and first != whole else 1, load.config.activation_words // SIDES

    def fits(source: Shape) -> bool:
        return max(buffers * (words(source) + words(residual)), buffers * words(output)) <= side

    if not fits(shape_in(load.input_box(work, first), work, load)):
        return None
    lines = _lines(whole, first, tiling)
    sources = [[load.input_box(work, box) for box in line] for line in lines]
    shapes = [largest(shape_in(source, work, load) for source in line) for line in sources]
    source = shapes[0][0], shapes[1][1], shapes[2][2]
    if not fits(source):
        return None
    count = len(lines[0]) * len(lines[1]) * len(lines[2])
    tiling = replace(tiling, double=buffers == 2, input=source, residual=residual, output=output, count=count)
    read = whole_box(sum(box.rows for box in sources[0]), sum(box.columns for box in sources[1]), sum(box.blocks for box in sources[2]))
    return replace(tiling, estimate=_estimate(tiling, first, read, work, load))


def _lines(whole: Box, first: Box, tiling: Tiling) -> tuple[list[Box], ...]:
    """The tiles below the first one, beside it and behind it (in other blocks), itself included. All others are combinations of these: which
    rows a tile reads depends on its rows alone, and likewise columns and blocks. A network may fall into a hundred thousand tiles."""
    below = replace(whole, right=first.right, end_block=first.end_block)
    beside = replace(whole, bottom=first.bottom, end_block=first.end_block)
    behind = replace(whole, bottom=first.bottom, right=first.right)
    return tuple(list(tiles(part, tiling)) for part in (below, beside, behind))


def _estimate(tiling: Tiling, first: Box, read: Box, work: Work, load: Workload) -> int:
    """Cycles, roughly: what decides between tilings. `first` tile; `read`: as much as all tiles read together."""
    config, output = load.config, load.extent(work.operation.output)
    begin, loaded, stored = load.bus_words(load.input_box(work, first)), load.bus_words(read), load.bus_words(output)
    if work.operation.residual is not None:
        begin, loaded = begin + load.bus_words(first), loaded + stored
    spatial = max(1, tiling.count // -(-output.blocks // tiling.blocks))
    weights = work.weight_bytes // config.bus_bytes * (1 if weights_fit(work, config) else spatial)
    compute = work.cycles + tiling.count * COMMAND_CYCLES * len(work.jobs)
    return together(compute, weights, loaded, stored, begin + stored // tiling.count if tiling.double else None)


def together(compute: int, weights: int, loaded: int, stored: int, ends: int | None) -> int:
    """Cycles of computing and of the bus words of all tiles. `ends`: of the first one's loads and the last one's stores, where all others overlap with
    computing; None where there is one buffer of each kind, and only weights do."""
    if ends is None:
        return max(compute, weights) + loaded + stored
    return max(compute, loaded + weights, stored) + ends


def weight_words(work: Work, config: HardwareConfig) -> int:
    """Of the weight buffer, for all weights of an operation."""
    return sum(job.weight_words(config) for job in work.jobs)


def weights_fit(work: Work, config: HardwareConfig) -> bool:
    """All weights of an operation fit their buffer at once."""
    return weight_words(work, config) <= config.weight_words


def best_tiling(work: Work, load: Workload) -> Tiling | None:
    """The tiling with the smallest estimate; None where not even one pixel of one block fits."""
    whole, packed = load.extent(work.operation.output), isinstance(load.layouts[work.operation.input], PackedLayout)
    best: Tiling | None = None
    block_sizes = list(sizes(whole.blocks)) if work.lane_wise else [whole.blocks]
    for double in (True, False):
        for blocks in block_sizes:
            for columns in [whole.columns] if packed else _halves(whole.columns):
                fitted = next((t for rows in sizes(whole.rows) if (t := _fitted(work, load, (rows, columns, blocks), double)) is not None), None)
                if fitted is not None and (best is None or fitted.estimate < best.estimate):
                    best = fitted
                if fitted is not None:
                    break  # narrower tiles only cost more
    return best


@lru_cache
def _halves(length: int) -> tuple[int, ...]:
    sizes = [length]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // 2))
    return tuple(sizes)
