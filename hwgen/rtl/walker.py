"""The order of a CONV command: output tiles, pixel tiles, passes, pixels, as running sums without a multiplier."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, WINDOW_TAPS, HardwareConfig
from hwgen.isa.fields import Mode, Reduce
from hwgen.isa.latency import WALK_CYCLES
from hwgen.rtl.activation_buffer import address_bits
from hwgen.rtl.command import conv_layout
from hwgen.rtl.delay import delay

POSITION_BITS = 20  # image rows and columns (packed: bytes), signed, padding and dilated kernels included
_COLUMN_BITS = ceil_log2(WINDOW_TAPS[-1])  # columns that a pixel sees
_STEP_BITS = _COLUMN_BITS + 9  # their distances
_FILL_CYCLES = 2  # registers between the kernel position that is stepped and the one that pixels see
_DIGITS = WALK_CYCLES - _FILL_CYCLES  # of the number of output rows, by which the columns are multiplied
_DIGIT_BITS = -(-16 // _DIGITS)


def pixel_layout(config: HardwareConfig) -> data.StructLayout:
    """One image column that a pixel of one pass needs.

    row, column, address: image position (depthwise: of the first row) and the word of column 0. rows: which rows count (depthwise).
    preset: the column is the first that the pixel sees, those before it are padding. beat: the column is the last, the pixel is complete.
    index: a number of the pixel, different for all pixels of its pixel tile, but the same in every pass and command.
    output, residual, block: the word of the tile's first channel, and that word's channel block. chunk: which part of a word the tile is,
    where M < N.
    begin, final: first and last column of the command. pass_start: the first pixel of a pass is complete. first, last: pass of the
    pixel tile.
    new_weights, new_bias, new_rescale: from this pixel on, the array uses the next set.
    next_weights, rewind_weights, next_tile: which weights to load during this pass; next_parameters: likewise.
    """
    a = address_bits(config)
    numbers = {
        "row": signed(POSITION_BITS),
        "column": signed(POSITION_BITS),
        "address": a,
        "rows": BANKS,
        "index": ceil_log2(config.accumulator_depth),
        "output": a,
        "residual": a,
        "block": 16,
        "chunk": ceil_log2(config.tiles_per_word),
    }
    flags = ("preset", "beat", "begin", "final", "pass_start", "first", "last", "new_weights", "new_bias", "new_rescale")
    loads = ("next_weights", "rewind_weights", "next_tile", "next_parameters")
    return data.StructLayout({**numbers, **dict.fromkeys((*flags, *loads), 1)})


def distances_layout(config: HardwareConfig) -> data.StructLayout:
    """From the first word of a column to the one beside it (packed: the next, else that of the next kernel row) and to the third after
    it; from its row to the third kernel row after it."""
    a = address_bits(config)
    return data.StructLayout({"words": a, "three_words": a, "three_rows": 10})


def _place_layout(config: HardwareConfig) -> data.StructLayout:
    """Where a pixel lies, kernel and column of the window apart: output and residual are of the row's first pixel."""
    a = address_bits(config)
    numbers = {"row": signed(POSITION_BITS), "column": signed(POSITION_BITS), "x": 16, "address": a, "output": a, "residual": a}
    return data.StructLayout({**numbers, **({"output_x": a} if config.output_gaps else {}), "block": 16, "chunk": ceil_log2(config.tiles_per_word)})


def _tile_layout(config: HardwareConfig) -> data.StructLayout:
    a = address_bits(config)
    return data.StructLayout({"address": a, "output": a, "residual": a, "block": 16, "chunk": ceil_log2(config.tiles_per_word)})


def _steps_layout(config: HardwareConfig) -> data.StructLayout:
    a = address_bits(config)
    counts = {"rows_left": 8, "steps_left": 8, "blocks_left": 16}
    return data.StructLayout({**counts, "row": signed(POSITION_BITS), "row_address": a, "block_address": a, "column": signed(POSITION_BITS)})


def _kernel_layout(config: HardwareConfig) -> data.StructLayout:
    """What a pass adds to the place of each pixel. rows: which count; column: the first that a pixel sees, at the left edge 0 with `clip`,
    -1 with `lone` too; more: columns that the first pixel of a row sees after its first; single: none; last: of the pixel tile."""
    numbers = {"row": signed(POSITION_BITS), "address": address_bits(config), "column": signed(POSITION_BITS), "rows": BANKS}
    return data.StructLayout({**numbers, "clip": 1, "lone": 1, "more": _COLUMN_BITS, "single": 1, "last": 1})


class Walker(wiring.Component):
    """Walks through a command, one column of one pixel of one pass per cycle.

    Members: `take` with `taken` is the handshake of a command, `command` its copy from the next cycle on. `pixel` is valid with
    `valid` and goes on with `advance`, which is up while no pixel is valid. `distances` are constant in a command.
    Columns: a pixel sees `taps` columns; the first of a row walks those inside the image (2 at least in rows of one pixel), if
    dilation_columns is 1, the first of a pixel tile elsewhere all. Others see those that the pixel before them did not see, if dilation_columns is 1, else all.
    Timing: the first pixel is valid WALK_CYCLES + 1 cycles after `take`; then one per cycle, whatever begins or ends. What a step decides
    is known before: the last of a kind is a register, the next pass, pixel tile and output tile lie ready. Setup fills them by the same steps.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "take": In(1),
                "taken": In(conv_layout(config)),
                "command": In(conv_layout(config)),
                "advance": In(1),
                "valid": Out(1),
                "pixel": Out(pixel_layout(config)),
                "distances": Out(distances_layout(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.place = Signal(_place_layout(self.config), reset_less=True)
        self.complete, self.row_end = Signal(), Signal(reset_less=True)  # the column is the pixel's last, the pixel its row's
        self.leading, self.pass_end = Signal(reset_less=True), Signal(reset_less=True)  # first and last pixel of a pass
        self.pass_over = Signal()  # the same as pass_end, for the many bits of a place
        self.first_pass, self.last_pass = Signal(reset_less=True), Signal(reset_less=True)  # of a pixel tile
        self.first_span, self.last_span = Signal(reset_less=True), Signal(reset_less=True)  # pixel tile of an output tile
        self.tile_end, self.span_end = Signal(reset_less=True), Signal(reset_less=True)  # last pass of the last, of another pixel tile
        self.first_tile, self.last_tile = Signal(reset_less=True), Signal(reset_less=True)
        self.begin = Signal(reset_less=True)  # the command's first pixel

        # In the last cycles of the setup three output tiles end that there are not; no pixel waits then, so `advance` is up.
        cycles = delay(m, self.take, WALK_CYCLES, "setup")
        self.prepare, self.load, self.fill, self.first = cycles[-4:]
        ends = self.complete & self.pass_end
        self.step, self.enter, self.new_span, self.new_tile = (Signal(name=name) for name in ("step", "enter", "new_span", "new_tile"))
        m.d.comb += [
            self.step.eq(self.advance & self.complete),  # to the next pixel
            self.enter.eq(self.advance & ends),  # to another pass
            self.new_span.eq(self.advance & (ends & self.last_pass)),  # to another pixel tile
            self.new_tile.eq(self.advance & (ends & self.tile_end)),
        ]
        with m.If(self.new_tile):
            m.d.sync += self.valid.eq((self.first | self.valid) & ~self.last_tile)
        self._constants(m, cycles)
        self._spans(m)
        self._kernels(m)
        self._tiles(m)
        self._places(m)
        self._columns(m)
        self._pixel(m)
        with m.If(self.prepare | self.load | self.fill):
            m.d.sync += [flag.eq(1) for flag in (self.complete, self.pass_end, self.pass_over, self.last_pass, self.last_span, self.tile_end)]
            m.d.sync += [flag.eq(0) for flag in (self.span_end, self.last_tile)]
        with m.Elif(self.new_tile & self.last_tile):
            m.d.sync += self.complete.eq(0)  # nothing steps until the next command
        return m

    def _constants(self, m: Module, cycles: list[Value]) -> None:
        """What steps move, and limits; all constant from the first step on."""
        c, a = self.command, address_bits(self.config)
        self.before_last_x, self.one_column = Signal(16, reset_less=True), Signal(reset_less=True)
        self.longest = Signal(16, reset_less=True)  # pixels of a full pixel tile minus 1
        self.single, self.single_first = Signal(reset_less=True), Signal(reset_less=True)  # a full pixel tile, the first one has one pixel
        self.last_column, self.single_column = Signal(_COLUMN_BITS, reset_less=True), Signal(reset_less=True)
        self.unseen, self.single_unseen = Signal(_COLUMN_BITS, reset_less=True), Signal(reset_less=True)  # by the pixel before it, minus 1; it is 0
        self.seen = Signal(_COLUMN_BITS, reset_less=True)
        self.onward, self.overlaps = Signal(8, reset_less=True), Signal(reset_less=True)
        self.step_columns = Signal(_STEP_BITS, reset_less=True)
        self.group_rows, self.group_words = Signal(10, reset_less=True), Signal(a, reset_less=True)
        packed, d = c.mode == Mode.PACKED, self.distances
        m.d.sync += [
            self.before_last_x.eq(c.output_columns - 2),
            self.one_column.eq(c.output_columns == 1),
            self.longest.eq(c.pixels_per_tile - 1),
            self.single.eq(c.pixels_per_tile == 1),
            self.single_first.eq(self.single | (self.one_column & (c.output_rows == 1))),
            self.last_column.eq(c.taps - 1),
            self.single_column.eq(c.taps == 1),
            self.unseen.eq(self.last_column - self.seen),
            self.single_unseen.eq(self.last_column == self.seen),
            self.onward.eq(Mux(packed, self.config.in_lanes, c.dilation_columns)),
            self.overlaps.eq(c.dilation_columns == 1),
            self.seen.eq(Mux((c.dilation_columns == 1) & (c.taps > c.stride_columns), c.taps - c.stride_columns, 0)),
            d.words.eq(Mux(packed, 1, c.kernel_row_step)),
            d.three_words.eq(d.words + (d.words << 1)),
            d.three_rows.eq(c.dilation_rows + (c.dilation_rows << 1)),
        ]
        for step, one, three in ((self.group_rows, c.dilation_rows, d.three_rows), (self.group_words, c.kernel_row_step, d.three_words)):
            m.d.sync += step.eq(Mux(c.tap_rows == 3, three, Mux(c.tap_rows[2], one << 2, Mux(c.tap_rows[1], one << 1, one))))
        # taps * onward, from the highest bit of taps on; `onward` is a cycle behind the command
        digit = Cat(cycles[2 + k] & c.taps[-1 - k] for k in range(len(c.taps))).any()
        with m.If(self.take):
            m.d.sync += self.step_columns.eq(0)
        with m.Elif(Cat(cycles[2 : 2 + len(c.taps)]).any()):
            m.d.sync += self.step_columns.eq((self.step_columns << 1) + Mux(digit, self.onward, 0))

    def _spans(self, m: Module) -> None:
        """Pixel tiles: how many pixels each has. `behind` counts the pixels behind the next one, if that is full, minus 1."""
        c = self.command
        bits = 1 + max(16, address_bits(self.config) + 1)  # no buffer holds more words than 2 ** address_bits
        behind, behind_first, behind_second = Signal(signed(bits)), Signal(signed(bits)), Signal(signed(bits), reset_less=True)
        last_index, number, is_single = Signal(16, reset_less=True), Signal(16, reset_less=True), Signal(reset_less=True)
        is_last, next_is_single = behind[-1], Signal()
        self.next_span_is_last, self.index = is_last, number[: ceil_log2(self.config.accumulator_depth)]
        m.d.comb += [
            behind_first.eq(self._count_pixels(m)[:bits]),
            behind.eq(Mux(self.last_span, behind_first, behind_second)),
            next_is_single.eq(Mux(self.last_span, self.single_first, Mux(behind_second[-1], ~behind_second[:16] == self.longest, self.single))),
        ]
        with m.If(self.new_span):
            m.d.sync += [last_index.eq(Mux(is_last, behind[:16] + c.pixels_per_tile, self.longest)), is_single.eq(next_is_single)]
            m.d.sync += [self.last_span.eq(is_last), self.first_span.eq(self.last_span), behind_second.eq(behind - c.pixels_per_tile)]
        with m.If(self.step):
            m.d.sync += [self.begin.eq(self.first), self.leading.eq(self.pass_end), number.eq(Mux(self.pass_end, 1, number + 1))]
            for copy in (self.pass_end, self.pass_over):
                m.d.sync += copy.eq(Mux(self.pass_end, Mux(self.last_pass, next_is_single, is_single), number == last_index))

    def _count_pixels(self, m: Module) -> Value:
        """Output rows times columns, minus 1 and the pixels of a full pixel tile; known when `first` is up."""
        c = self.command
        low, high = Signal(_DIGITS * _DIGIT_BITS, reset_less=True), Signal(signed(18), reset_less=True)
        product, total = Signal(16 + _DIGIT_BITS, reset_less=True), Signal(signed(18 + _DIGIT_BITS))
        count, adds = Signal(range(_DIGITS + 1)), Signal()
        m.d.comb += total.eq(high + product)
        m.d.sync += [product.eq(sum(Mux(low[k], c.output_columns << k, 0) for k in range(_DIGIT_BITS))), adds.eq(count != 0)]
        with m.If(self.take):
            m.d.sync += [count.eq(_DIGITS), low.eq(self.taken.output_rows), high.eq(~Cat(self.taken.pixels_per_tile, Const(0, 2)).as_signed())]
        with m.Else():
            m.d.sync += count.eq(Mux(count == 0, 0, count - 1))
            with m.If(adds):
                m.d.sync += high.eq(total >> _DIGIT_BITS)
            with m.If(adds | (count != 0)):
                m.d.sync += low.eq(Cat(low[_DIGIT_BITS:], total[:_DIGIT_BITS]))
        return Cat(low, high)

    def _kernels(self, m: Module) -> None:
        """Kernel row, step and input block: stepped in `ahead`, made ready in `following`, added to every pixel of a pass in `kernel`."""
        c, layout = self.command, _kernel_layout(self.config)
        ahead, self.following = Signal(_steps_layout(self.config), reset_less=True), Signal(layout, reset_less=True)
        self.kernel, self.seen_column = Signal(layout, reset_less=True), Signal(signed(POSITION_BITS), reset_less=True)
        # of a kernel step, of a group of kernel rows, of the pixel tile: whether the pass is its last
        ends_step, ends_group, ends_all = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        last_step, last_row = Signal(reset_less=True), Signal(reset_less=True)
        one_block, one_step, one_group = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        m.d.sync += [one_block.eq(c.input_blocks == 1), one_step.eq(c.kernel_steps == 1), one_group.eq(c.kernel_rows <= c.tap_rows)]
        next_block = Mux(ends_step, one_block, ahead.blocks_left == 2)
        next_step = Mux(ends_step, Mux(ends_group, one_step, ahead.steps_left == 2), last_step)
        next_row = Mux(ends_group, Mux(ends_all, one_group, ahead.rows_left <= c.tap_rows << 1), last_row)
        with m.If(self.enter):
            self._make_ready(m, ahead, ends_all)
            m.d.sync += [self.kernel.eq(self.following), self.seen_column.eq(self.following.column + self.seen)]
            m.d.sync += [self.first_pass.eq(self.last_pass), self.last_pass.eq(self.following.last)]
            m.d.sync += [last_step.eq(next_step), last_row.eq(next_row)]
            m.d.sync += [ends_step.eq(next_block), ends_group.eq(next_block & next_step), ends_all.eq(next_block & next_step & next_row)]
            m.d.sync += ahead.blocks_left.eq(Mux(ends_step, c.input_blocks, ahead.blocks_left - 1))
            m.d.sync += ahead.block_address.eq(Mux(ends_step, 0, ahead.block_address + c.input_block_stride))
        with m.If(self.enter & ends_step):
            m.d.sync += ahead.steps_left.eq(Mux(ends_group, c.kernel_steps, ahead.steps_left - 1))
            m.d.sync += ahead.column.eq(Mux(ends_group, c.origin_column, ahead.column + self.step_columns))
        with m.If(self.enter & ends_group):
            m.d.sync += ahead.rows_left.eq(Mux(ends_all, c.kernel_rows, ahead.rows_left - c.tap_rows))
            m.d.sync += ahead.row.eq(Mux(ends_all, 0, ahead.row + self.group_rows))
            m.d.sync += ahead.row_address.eq(Mux(ends_all, 0, ahead.row_address + self.group_words))
        with m.If(self.prepare):
            m.d.sync += [ends_step.eq(1), ends_group.eq(1), ends_all.eq(1)]

    def _make_ready(self, m: Module, ahead: data.View, last: Value) -> None:
        """`following` from `ahead`. The first pixel of a row walks columns inside the image; in rows of one pixel two: its sums need the time."""
        c, now = self.command, self.following
        left_of_image = self.overlaps & ahead.column[-1]
        inside = (ahead.column[:_COLUMN_BITS] + self.last_column)[: _COLUMN_BITS + 1]  # columns inside minus 1, where the top bit is set
        reaches = inside[-1] & ahead.column[_COLUMN_BITS:15].all()  # negative columns come from a field of 16 bits
        many = reaches & inside[:_COLUMN_BITS].any()
        two = ~many & self.one_column & ~self.single_column
        m.d.sync += [
            now.row.eq(ahead.row),
            now.address.eq(ahead.row_address + ahead.block_address),
            now.column.eq(ahead.column),
            now.rows.eq(Cat((ahead.rows_left > row) & (c.tap_rows > row) for row in range(BANKS))),
            *(now.clip.eq(left_of_image & reaches), now.lone.eq(two)),
            now.more.eq(Mux(left_of_image, Mux(many, inside[:_COLUMN_BITS], two), self.last_column)),
            now.single.eq(Mux(left_of_image, ~many & ~two, self.single_column)),
            now.last.eq(last),
        ]

    def _tiles(self, m: Module) -> None:
        """Bases of the tile after the next: M < N, N / M tiles share a word; M > N, a dense tile is M / N blocks."""
        c, cfg = self.command, self.config
        self.tile = tile = Signal(_tile_layout(cfg), reset_less=True)
        left = Signal(16, reset_less=True)
        depthwise = c.mode == Mode.DEPTHWISE
        log_blocks = ceil_log2(max(1, cfg.out_lanes // cfg.in_lanes))

        def moved(stride: Value) -> Value:
            return Mux(depthwise, stride, stride << log_blocks)

        # `start` gets the next tile with the last pass of the tile before it, which begins nowhere else again
        self.next_tile, in_last_span = Signal(), Mux(self.last_pass, self.next_span_is_last, self.last_span)
        m.d.comb += self.next_tile.eq(self.load | self.fill | (self.following.last & in_last_span))
        with m.If(self.enter):
            m.d.sync += [self.tile_end.eq(self.following.last & in_last_span), self.span_end.eq(self.following.last & ~in_last_span)]
        with m.If(self.enter & self.next_tile):
            m.d.sync += tile.chunk.eq(tile.chunk + 1)
        with m.If(self.enter & (self.next_tile & (self.load | (tile.chunk == cfg.tiles_per_word - 1)))):
            m.d.sync += [
                tile.block.eq(tile.block + moved(Const(1, 1))),
                tile.output.eq(Mux(self.load, c.output_address, tile.output + moved(c.output_block_stride))),
                tile.residual.eq(Mux(self.load, c.residual_address, tile.residual + moved(c.residual_block_stride))),
                tile.address.eq(Mux(self.load, c.input_address, tile.address + Mux(depthwise, c.input_block_stride, 0))),
            ]
        with m.If(self.new_tile):
            m.d.sync += [left.eq(Mux(self.fill, c.output_tiles, left - 1)), self.first_tile.eq(self.first), self.last_tile.eq(left == 1)]
        with m.If(self.load):
            m.d.sync += [tile.block.eq(0), tile.chunk.eq(0)]

    def _places(self, m: Module) -> None:
        """The next pixel in raster order, or a step back to `start`, where the pixel tile began or the next tile begins."""
        c, place, start = self.command, self.place, Signal(_place_layout(self.config), reset_less=True, name="start")
        back, stay, turn, row_start, row_end = Signal(), Signal(), Signal(), Signal(), Signal()
        start_row_start, start_row_end, begun = Signal(reset_less=True), Signal(reset_less=True), Signal(reset_less=True)
        m.d.comb += [
            back.eq(self.pass_over & ~self.span_end),
            stay.eq(self.pass_over & ~self.last_pass & self.leading),  # another pass over the same pixel; `start` may not hold it yet
            turn.eq((back | self.row_end) & ~stay),
            row_start.eq(Mux(self.pass_end, Mux(self.span_end, self.row_end, start_row_start), self.row_end)),
            row_end.eq(Mux(back, start_row_end, Mux(self.row_end, self.one_column, place.x == self.before_last_x))),
        ]
        self.next_row_start = row_start
        gaps = [(place.output_x, start.output_x, c.output_column_gap + 1)] if self.config.output_gaps else []
        columns = [(place.column, start.column, c.stride_columns), (place.x, start.x, 1), *gaps]
        rows = [(place.row, start.row, c.stride_rows), (place.address, start.address, c.input_row_step)]
        rows += [(place.output, start.output, c.output_row_stride), (place.residual, start.residual, c.residual_row_stride)]
        with m.If(self.step):
            m.d.sync += self.row_end.eq(row_end)
        with m.If(self.advance & (self.complete & ~stay)):
            m.d.sync += [number.eq(Mux(back, first, Mux(self.row_end, 0, number + onward))) for number, first, onward in columns]
        with m.If(self.advance & (self.complete & turn)):
            m.d.sync += [number.eq(Mux(back, first, number + onward)) for number, first, onward in rows]
        with m.If(self.new_tile):
            m.d.sync += [place.block.eq(start.block), place.chunk.eq(start.chunk)]

        m.d.sync += begun.eq(self.new_span & ~self.next_tile)  # the first cycle of a pixel tile; if it is the last, its place is needed no more
        tile = self.tile
        pairs = ((start.row, c.origin_row, place.row), (start.column, 0, place.column), (start.x, 0, place.x))
        pairs += tuple((first, 0, now) for now, first, _ in gaps)
        pairs += ((start.address, tile.address, place.address), (start.output, tile.output, place.output), (start.residual, tile.residual, place.residual))
        with m.If(Mux(self.enter, self.next_tile, begun)):
            m.d.sync += [number.eq(Mux(self.enter, new, now)) for number, new, now in pairs]
        with m.If(self.new_span):
            m.d.sync += [start_row_start.eq(row_start), start_row_end.eq(row_end)]
        with m.If(self.enter & self.next_tile):
            m.d.sync += [start_row_start.eq(1), start_row_end.eq(self.one_column), start.block.eq(tile.block), start.chunk.eq(tile.chunk)]

    def _columns(self, m: Module) -> None:
        """Which of its columns the pixel sees: `column` is its distance from the pixel's place, `more` the number of those after it."""
        kernel, following, row_start = self.kernel, self.following, self.next_row_start
        self.column, self.preset = Signal(signed(POSITION_BITS), reset_less=True), Signal(reset_less=True)
        self.fresh = Signal(reset_less=True)  # the pixel's first column
        more = Signal(_COLUMN_BITS, reset_less=True)
        clip, lone, row_more, first = Signal(), Signal(), Signal(_COLUMN_BITS + 1), Signal(signed(POSITION_BITS))
        m.d.comb += [
            clip.eq(row_start & Mux(self.pass_end, following.clip, kernel.clip)),
            lone.eq(Mux(self.pass_end, following.lone, kernel.lone)),
            row_more.eq(Mux(self.pass_end, Cat(following.more, following.single), Cat(kernel.more, kernel.single))),
            first.eq(Mux(self.pass_end, following.column, Mux(self.row_end, kernel.column, self.seen_column))),
        ]
        with m.If(self.advance):
            m.d.sync += [self.fresh.eq(self.complete), self.column.eq(Mux(self.complete, first, self.column + self.onward))]
            m.d.sync += [more.eq(more - 1), self.complete.eq(self.valid & (more == 1)), self.preset.eq(0)]
        with m.If(self.step):
            next_more = Mux(row_start, row_more, Mux(self.pass_end, Cat(self.last_column, self.single_column), Cat(self.unseen, self.single_unseen)))
            m.d.sync += [Cat(more, self.complete).eq(next_more), self.preset.eq(row_start | self.pass_end)]
        with m.If(self.step & clip):
            m.d.sync += self.column.eq(lone.replicate(POSITION_BITS).as_signed())

    def _pixel(self, m: Module) -> None:
        c, p, place, kernel = self.command, self.pixel, self.place, self.kernel
        pass_start = self.complete & self.leading
        new_set = self.first_pass & self.first_span
        loads_weights = pass_start & (c.reduce == Reduce.SUM)
        next_rescale = pass_start & self.last_pass & self.first_span
        last = self.tile_end & self.last_tile
        m.d.comb += [
            p.row.eq(place.row + kernel.row),
            p.column.eq(place.column + self.column),
            p.address.eq(place.address + kernel.address),
            p.rows.eq(kernel.rows),
            p.preset.eq(self.preset),
            p.beat.eq(self.complete),
            p.index.eq(self.index),
            p.output.eq(place.output + (place.output_x if self.config.output_gaps else place.x)),
            p.residual.eq(place.residual + place.x),
            p.block.eq(place.block),
            p.chunk.eq(place.chunk),
            p.begin.eq(self.begin & self.fresh),
            p.final.eq(self.complete & self.pass_end & last),
            p.pass_start.eq(pass_start),
            p.first.eq(self.first_pass & ~c.resume),
            p.last.eq(self.last_pass),
            p.new_weights.eq(loads_weights & (~c.weights_held | self.begin)),
            p.next_weights.eq(loads_weights & ~c.weights_held & ~last),
            p.rewind_weights.eq(self.span_end),
            p.next_tile.eq(self.tile_end),
            p.new_bias.eq(pass_start & new_set & (~c.parameters_held | self.first_tile)),
            p.new_rescale.eq(next_rescale & (~c.parameters_held | self.first_tile)),
            p.next_parameters.eq(next_rescale & ~c.parameters_held & ~self.last_tile),
        ]
