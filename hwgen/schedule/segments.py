"""Which operations run together on chip, and which are cut into tiles: the cheapest division by estimate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hwgen.config import SIDES
from hwgen.errors import CapacityError
from hwgen.layout import PackedLayout
from hwgen.schedule.box import Box
from hwgen.schedule.cascade import Cascade, best_cascade
from hwgen.schedule.share import Report, silent
from hwgen.schedule.storage import Span, allocate, needed_words
from hwgen.schedule.tiling import Tiling, best_tiling, words
from hwgen.schedule.work import Workload

MOST_TILES = 100_000  # of a network: 13 MB of program, a minute of compiling
_NEVER = 1 << 62
_LONGEST_RUN = 96  # operations in a run, where a network does not fit as a whole: bounds the time that planning takes


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Operations first..end-1. Either all their tensors lie in the buffer at `addresses` (of roots), or it is one operation in tiles, or two
    in a cascade."""

    first: int
    end: int
    addresses: Mapping[str, int] | None = None
    tiling: Tiling | None = None
    cascade: Cascade | None = None
    chunked: bool = False  # the first operation's input lies in side 0, its output in side 1: it may begin before all of it is there

    @property
    def division(self) -> Tiling | Cascade | None:
        """How its tensors are divided that do not lie in the buffer as a whole."""
        return self.tiling or self.cascade


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """Values that a run of operations needs from memory, and that must go there."""

    loads: tuple[str, ...]
    stores: tuple[str, ...]


def traffic(load: Workload, first: int, end: int) -> Traffic:
    """Leaves only."""
    loads: dict[str, None] = {}
    for work in load.works[first:end]:
        for name in work.operation.reads:
            loads |= dict.fromkeys(leaf for leaf in load.leaves[name] if not first <= load.produced_at.get(leaf, -1) < end)
    stores = [work.operation.output for work in load.works[first:end] if load.last_use[work.operation.output] >= end]
    return Traffic(loads=tuple(loads), stores=tuple(stores))


def _sizes(load: Workload, first: int, end: int) -> dict[str, tuple[int, Span]]:
    """Words and lifetimes of the roots that operations first..end-1 touch."""
    spans: dict[str, Span] = {}
    for index in range(first, end):
        operation = load.works[index].operation
        for name in (*operation.reads, operation.output):
            root = load.origin[name].root
            spans[root] = (min(spans.get(root, (index, 0))[0], index), index)
    if first == 0 and end == len(load.works):
        for output in load.graph.outputs:
            root = load.origin[output.value].root
            spans[root] = (spans.get(root, (0, 0))[0], end)
    return {root: (load.root_words[root], span) for root, span in spans.items()}


def _apart(load: Workload, first: int, sizes: Mapping[str, tuple[int, Span]]) -> dict[str, int] | None:
    """Addresses with the first operation's input alone in side 0 and its output alone in side 1 while it runs; None where that cannot be."""
    operation, side = load.works[first].operation, load.config.activation_words // SIDES
    source, target = (load.origin[name].root for name in (operation.input, operation.output))
    if operation.residual is not None or source == target or load.leaves[operation.input] != (operation.input,):
        return None
    if sizes[source][0] > side or sizes[target][0] > side:
        return None
    for address in (side, load.config.activation_words - sizes[target][0]):  # what is left of side 1 lies behind it, or in front of it
        placed = allocate(sizes, {source: 0, target: address})
        if needed_words(sizes, placed) <= load.config.activation_words:
            return placed
    return None


def run(load: Workload, first: int, end: int) -> Segment | None:
    """Operations first..end-1 on chip; None where their tensors do not fit."""
    sizes = _sizes(load, first, end)
    apart = _apart(load, first, sizes) if first < end else None
    if apart is not None:
        return Segment(first=first, end=end, addresses=apart, chunked=True)
    addresses = allocate(sizes)
    return Segment(first=first, end=end, addresses=addresses) if needed_words(sizes, addresses) <= load.config.activation_words else None


def plan(load: Workload, report: Report = silent) -> tuple[Segment, ...]:
    """All operations on chip where they fit, else the cheapest division. Raises CapacityError where one operation fits in no way."""
    count = len(load.works)
    whole = run(load, 0, count)
    if whole is not None:
        return (whole,)
    divided: list[list[Segment]] = []
    for index in range(count):
        divided.append(list(_divided(load, index)))
        report((index + 1) / count)
    segments = tuple(_cheapest(load, divided))
    tiles = sum(division.count for segment in segments if (division := segment.division) is not None)
    if tiles > MOST_TILES:
        raise CapacityError(
            f"activation buffer: the network falls into {tiles} tiles, more than the {MOST_TILES} that are sensible; the hardware {load.config.name!r} has "
            f"{load.config.activation_words} words; set activation_words to {4 * load.config.activation_words} or more"
        )
    return segments


def _divided(load: Workload, first: int) -> Iterator[Segment]:
    """Operation `first` in tiles, and in a cascade with the next one."""
    tiling, cascade = best_tiling(load.works[first], load), best_cascade(load, first)
    if tiling is not None:
        yield Segment(first=first, end=first + 1, tiling=tiling)
    if cascade is not None:
        yield Segment(first=first, end=first + 2, cascade=cascade)


def _cheapest(load: Workload, divided: list[list[Segment]]) -> list[Segment]:
    """By dynamic programming over the boundaries between operations. `divided`: those that begin at each operation and do not run on chip."""
    count = len(load.works)
    best: list[tuple[int, Segment | None]] = [(0, None), *((_NEVER, None) for _ in range(count))]
    for first in range(count):
        base = best[first][0]
        if base == _NEVER:
            break
        for segment in divided[first]:
            assert segment.division is not None
            if base + segment.division.estimate < best[segment.end][0]:
                best[segment.end] = (base + segment.division.estimate, segment)
        for end in range(first + 1, min(count, first + _LONGEST_RUN) + 1):
            if _peak(_sizes(load, first, end)) > load.config.activation_words:
                break
            cost = base + _run_estimate(load, first, end)
            if cost < best[end][0] and (on_chip := run(load, first, end)) is not None:
                best[end] = (cost, on_chip)
    segments: list[Segment] = []
    at = count
    while at > 0:
        chosen = best[at][1]
        if chosen is None:
            raise CapacityError(_too_small(load, max(k for k in range(count) if k == 0 or best[k][1] is not None)))
        segments.append(chosen)
        at = chosen.first
    return segments[::-1]


def _peak(sizes: Mapping[str, tuple[int, Span]]) -> int:
    """Most words that are alive at one time."""
    changes: dict[int, int] = {}
    for amount, (first, last) in sizes.values():
        changes[first] = changes.get(first, 0) + amount
        changes[last + 1] = changes.get(last + 1, 0) - amount
    peak = now = 0
    for step in sorted(changes):
        now += changes[step]
        peak = max(peak, now)
    return peak


def _run_estimate(load: Workload, first: int, end: int) -> int:
    config = load.config
    moved = traffic(load, first, end)
    works = load.works[first:end]
    compute = sum(work.cycles for work in works) + 16 * len(works)
    weights = sum(work.weight_bytes for work in works) // config.bus_bytes
    return max(compute, weights) + sum(load.bus_words(load.extent(name)) for name in (*moved.loads, *moved.stores))


def _too_small(load: Workload, index: int) -> str:
    """Of the operation that fits in no way: what its smallest tile needs."""
    config, work = load.config, load.works[index]
    box = Box(top=0, bottom=1, left=0, right=1, first_block=0, end_block=1 if work.lane_wise else load.extent(work.operation.output).blocks)
    if isinstance(load.layouts[work.operation.input], PackedLayout):
        box = Box(top=0, bottom=1, left=0, right=load.extent(work.operation.output).right, first_block=0, end_block=box.end_block)
    source = load.input_box(work, box)
    residual = words((box.rows, box.columns, box.blocks)) if work.operation.residual is not None else 0
    needed = SIDES * max(words((source.rows, source.columns, source.blocks)) + residual, words((box.rows, box.columns, box.blocks)))
    kib = config.in_lanes / 1024
    return (
        f"activation buffer: layer {work.operation.nodes[0].name!r} needs at least {needed} words of {config.in_lanes} bytes ({needed * kib:.1f} KiB) even "
        f"in its smallest tile, the hardware {config.name!r} has {config.activation_words} ({config.activation_words * kib:.1f} KiB): "
        f"{max(needed - config.activation_words, 1)} words too few; set activation_words to {max(2 * config.activation_words, 1 << (needed - 1).bit_length())}"
    )
