"""Segments -> steps of a program: transfers and commands in the order that the network means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise, product

from hwgen.config import SIDES
from hwgen.schedule.box import Box
from hwgen.schedule.cascade import Cascade, stripes
from hwgen.schedule.cut import cut
from hwgen.schedule.homes import Homes
from hwgen.schedule.jobs import Job
from hwgen.schedule.memory import loads, stores
from hwgen.schedule.place import Views, cut_to, move, output_box
from hwgen.schedule.segments import Segment, traffic
from hwgen.schedule.storage import View, between, view_of_part
from hwgen.schedule.stream import Streamer
from hwgen.schedule.tiling import Shape, Tiling, tiles, weights_fit, words
from hwgen.schedule.work import Work, Workload

_CHUNK_COST = 12  # cycles that a further CONV command costs


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the `conv`-th CONV command computes: `box` of layer `layer`'s value, lying at `view` (address of pixel (0, 0) of block 0, modulo 2**24);
    `view` is None where its sums go on to the next command."""

    conv: int
    layer: int
    box: Box
    view: View | None


def _growing(rows: int, first: int, growth: float) -> list[int]:
    """Limits of parts of 0..rows, each `growth` times as long as the one before it."""
    limits, size = [0], float(first)
    while limits[-1] + size < rows:
        limits.append(limits[-1] + int(size))
        size *= growth
    return [*limits, rows]


def _parts(whole: Box, words: int) -> Iterator[Box]:
    """`whole` in parts of at most so many words: rows of all blocks, or stretches of a row of some blocks."""
    rows = max(1, words // (whole.columns * whole.blocks))
    columns = min(whole.columns, words)
    blocks = words // columns
    for top, left, block in product(range(0, whole.rows, rows), range(0, whole.columns, columns), range(0, whole.blocks, blocks)):
        box = Box(top=top, bottom=top + rows, left=left, right=left + columns, first_block=block, end_block=block + blocks)
        yield box.intersect(whole)


@dataclass
class Emitter:
    """Emits segments into a streamer, and notes what every command writes."""

    load: Workload
    homes: Homes
    streamer: Streamer
    share: int
    written: list[Written] = field(default_factory=list)

    def emit(self, segment: Segment) -> None:
        if segment.tiling is not None:
            self._tiled(segment.first, segment.tiling)
        elif segment.cascade is not None:
            self._cascaded(segment.first, segment.cascade)
        else:
            self._run(segment)

    def copy_inputs(self) -> None:
        """Network outputs that are network inputs: through the activation buffer, which nothing else uses yet."""
        inputs = {i.value for i in self.load.graph.inputs}
        for value, home in self.homes.outputs:
            if value in inputs:
                for box in _parts(self.load.extent(value), self.load.config.activation_words // SIDES):
                    view = view_of_part(box, 0, (box.rows, box.columns), box.blocks)
                    self._bring(value, box, view)
                    for store in stores(box, home, view, self.load.config.in_lanes):
                        self.streamer.store(store, home, (box.top, box.bottom))

    def _transfer_out(self, leaf: str, box: Box, view: View) -> None:
        """A part of a leaf to wherever it is wanted; `view` is the leaf's."""
        load, lanes = self.load, self.load.config.in_lanes
        targets = [(value, home) for value, home in self.homes.outputs if leaf in load.leaves[value]]
        root = load.origin[leaf].root
        if root in self.homes.of and self.homes.of[root] not in [home for _, home in targets]:
            targets.append((root, self.homes.of[root]))
        for value, home in targets:
            inner = between(load.origin[leaf], load.origin[value])
            rows = (inner.row + box.top * inner.row_step, inner.row + (box.bottom - 1) * inner.row_step + 1)
            for command in stores(box, home.inner(inner, lanes), view, lanes):
                self.streamer.store(command, home, rows)

    def _pieces(self, layer: int, box: Box) -> Iterator[Job]:
        """The jobs of an operation as far as they compute `box`, cut as the weight buffer asks."""
        work, config = self.load.works[layer], self.load.config
        for job, own in zip(work.jobs, work.boxes, strict=True):
            part = own.intersect(box)
            if not part.empty:
                yield from cut(cut_to(job, part, own, config), work.operation.nodes[0].name, config, self.share)

    def _compute(self, layer: int, piece: Job, views: Views) -> None:
        """A command on nominal views, on `views`."""
        work = self.load.works[layer]
        box = output_box(piece.command, work.nominal.output, self.load.config)
        self.written.append(Written(conv=len(self.written), layer=layer, box=box, view=None if piece.command.keep else views.output))
        self.streamer.compute(replace(piece, command=move(piece.command, work.nominal, views)))

    def _run(self, segment: Segment) -> None:
        """What lies on chip from the first operation that needs it to the last one."""
        load = self.load
        assert segment.addresses is not None
        moved = traffic(load, segment.first, segment.end)
        views = {root: load.view_at(root, address) for root, address in segment.addresses.items()}
        there: set[str] = set()
        for layer in range(segment.first, segment.end):
            operation = load.works[layer].operation
            places = self._places(load.works[layer], views)
            leaves = dict.fromkeys(leaf for name in operation.reads for leaf in load.leaves[name])
            fresh = [leaf for leaf in leaves if leaf in moved.loads and leaf not in there]
            there.update(fresh)
            if fresh and segment.chunked and layer == segment.first:
                self._chunked(layer, places)
            else:
                for leaf in fresh:
                    self._bring(leaf, load.extent(leaf), load.view_in_root(leaf, views[load.origin[leaf].root]))
                self._compute_box(layer, load.extent(operation.output), places)
            if operation.output in moved.stores:
                self._transfer_out(operation.output, load.extent(operation.output), places.output)

    def _chunked(self, layer: int, places: Views) -> None:
        """An operation that begins before all of its input is there."""
        work, name = self.load.works[layer], self.load.works[layer].operation.input
        source, loaded = self.load.extent(name), 0
        chunks = self._chunks(work)
        for box in chunks:
            needed = source.bottom if box is chunks[-1] else self.load.input_box(work, box).bottom
            if needed > loaded:
                self._bring(name, replace(source, top=loaded, bottom=needed), places.input)
                loaded = needed
            self._compute_box(layer, box, places)

    def _compute_box(self, layer: int, box: Box, views: Views) -> None:
        for piece in self._pieces(layer, box):
            self._compute(layer, piece, views)

    def _places(self, work: Work, views: dict[str, View]) -> Views:
        def at(name: str) -> View:
            return self.load.view_in_root(name, views[self.load.origin[name].root])

        operation = work.operation
        return Views(input=at(operation.input), output=at(operation.output), residual=None if operation.residual is None else at(operation.residual))

    def _chunks(self, work: Work) -> list[Box]:
        """Row ranges of the output, so that the first begins early and each loads while the one before it is computed; few, because commands cost cycles."""
        load, whole = self.load, self.load.extent(work.operation.output)
        source = load.extent(work.operation.input)
        cycles = load.bus_words(source)
        if not weights_fit(work, load.config):
            return [whole]  # each part would load them again
        growth = max(1.0, 0.9 * work.cycles / cycles)
        candidates = [_growing(whole.rows, first, growth) for first in range(1, whole.rows + 1)]
        limits = min(candidates, key=lambda c: _CHUNK_COST * len(c) + cycles * c[1] // whole.rows)
        return [replace(whole, top=top, bottom=bottom) for top, bottom in pairwise(limits)]

    def _tiled(self, layer: int, tiling: Tiling) -> None:
        """Tile by tile, the input of the next one in the other buffer: the machine overlaps what need not wait."""
        load = self.load
        work = load.works[layer]
        operation = work.operation
        boxes = list(tiles(load.extent(operation.output), tiling))
        brought: dict[int, Box] = {}  # what lies in each input buffer

        def bring(index: int) -> Views:
            buffer = index % tiling.buffers
            views, box = self._buffers(work, tiling, boxes[index], buffer)
            if brought.get(buffer) != box:
                self._bring(operation.input, box, views.input)
                brought[buffer] = box
            if operation.residual is not None:
                assert views.residual is not None
                self._bring(operation.residual, boxes[index], views.residual)
            return views

        upcoming = bring(0)
        for index, box in enumerate(boxes):
            views, last = upcoming, index + 1 == len(boxes)
            for number, piece in enumerate(self._pieces(layer, box)):
                self._compute(layer, piece, views)
                if tiling.double and not last and number == 0:  # behind the weights of this tile's first command, in front of the others'
                    upcoming = bring(index + 1)
            self._transfer_out(operation.output, box, views.output)
            if not tiling.double and not last:
                upcoming = bring(index + 1)

    def _cascaded(self, first: int, cascade: Cascade) -> None:
        """Stripe by stripe, and in each so many channel blocks of both operations at a time; the input of the next stripe meanwhile."""
        load, side = self.load, self.load.config.activation_words // SIDES
        above, below = load.works[first].operation, load.works[first + 1].operation
        found = list(stripes(load, first, cascade.rows, cascade.blocks))

        def bring(index: int) -> View:
            source = found[index].source
            view = self._part(above.input, source, index % cascade.inputs * words(cascade.input), cascade.input)
            self._bring(above.input, source, view)
            return view

        upcoming, tile = bring(0), 0
        for index, stripe in enumerate(found):
            source, last = upcoming, index + 1 == len(found)
            for middle, box in stripe.parts:
                between = self._part(above.output, middle, side, cascade.middle)
                target = self._part(below.output, box, side + words(cascade.middle) + tile % cascade.outputs * words(cascade.output), cascade.output)
                for number, piece in enumerate(self._pieces(first, middle)):
                    self._compute(first, piece, Views(input=source, output=between, residual=None))
                    if cascade.double and not last and number == 0 and box.first_block == 0:  # as in `_tiled`
                        upcoming = bring(index + 1)
                self._compute_box(first + 1, box, Views(input=between, output=target, residual=None))
                self._transfer_out(below.output, box, target)
                tile += 1
            if not cascade.double and not last:
                upcoming = bring(index + 1)

    def _part(self, value: str, box: Box, base: int, shape: Shape) -> View:
        """A part of a value from word `base` on, in a buffer of such a shape."""
        return view_of_part(box, base, shape[:2], self.load.extent(value).blocks)

    def _bring(self, value: str, box: Box, view: View) -> None:
        """A part of a value (in its own coordinates, as `view` is) from its root's home."""
        if box.empty:  # a window in padding only
            return
        load, lanes = self.load, self.load.config.in_lanes
        origin, rows = load.origin[value], load.root_box(value, box)
        home = self.homes.of[origin.root]
        for command in loads(box, home.inner(origin, lanes), view, lanes):
            self.streamer.load(command, home, (rows.top, rows.bottom))

    def _buffers(self, work: Work, tiling: Tiling, box: Box, buffer: int) -> tuple[Views, Box]:
        """Views of a tile in buffer 0 or 1 of each kind, and the part of the input that it needs."""
        source = self.load.input_box(work, box)
        side = self.load.config.activation_words // SIDES
        inputs, residuals = words(tiling.input), words(tiling.residual)

        operation = work.operation
        residual = None
        if operation.residual is not None:
            residual = self._part(operation.residual, box, tiling.buffers * inputs + buffer * residuals, tiling.residual)
        output = self._part(operation.output, box, side + buffer * words(tiling.output), tiling.output)
        return Views(input=self._part(operation.input, source, buffer * inputs, tiling.input), output=output, residual=residual), source
