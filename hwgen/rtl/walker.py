"""The order of a CONV command: output tiles, pixel tiles, passes, pixels, as running sums without a multiplier."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, WINDOW_TAPS, HardwareConfig
from hwgen.isa.fields import Mode, Reduce
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import WALK_CYCLES
from hwgen.rtl.activation_buffer import address_bits
from hwgen.rtl.command import command_layout

CONV_LAYOUT = command_layout(Conv)
POSITION_BITS = 20  # image rows and columns (packed: bytes), signed, padding and dilated kernels included
PIXEL_COUNT_BITS = 24  # output pixels: no buffer holds more words
_COLUMN_BITS = ceil_log2(WINDOW_TAPS[-1])  # columns that a pixel sees
_OFFSET_BITS = _COLUMN_BITS + 8  # their distances
_DIGIT_BITS = 16 // WALK_CYCLES  # the pixel count is multiplied digit by digit, from the handshake on


def pixel_layout(config: HardwareConfig) -> data.StructLayout:
    """One image column that a pixel of one pass needs.

    row, column, address: image position (depthwise: of the first row) and the word of column 0. rows: which rows count (depthwise).
    preset: the column is the first that the pixel sees, those before it are padding. beat: the column is the last, the pixel is complete.
    index: pixel in its pixel tile. output, residual, block: the word of the tile's first channel, and that word's channel block.
    chunk: which part of a word the tile is, where M < N.
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


def _place_layout(config: HardwareConfig) -> data.StructLayout:
    a = address_bits(config)
    numbers = {"row": signed(POSITION_BITS), "column": signed(POSITION_BITS), "x": 16, "address": a, "output": a, "residual": a}
    return data.StructLayout({**numbers, "row_start": 1})


def _kernel_layout(config: HardwareConfig) -> data.StructLayout:
    a = address_bits(config)
    counts = {"rows_left": 8, "steps_left": 8, "blocks_left": 16}
    return data.StructLayout(
        {**counts, "row": signed(POSITION_BITS), "row_address": a, "block_address": a, "column": signed(POSITION_BITS), "skipped": _COLUMN_BITS}
    )


def _tile_layout(config: HardwareConfig) -> data.StructLayout:
    a = address_bits(config)
    return data.StructLayout({"left": 16, "input": a, "output": a, "residual": a, "block": 16, "chunk": ceil_log2(config.tiles_per_word), "fresh": 1})


class Walker(wiring.Component):
    """Walks through a command, one column of one pixel of one pass per cycle.

    Members: `take` with `taken` is the handshake of a command, `command` its copy from the next cycle on. `pixel` is valid with
    `valid` and goes on with `advance`. `three_rows`: rows and words from a kernel row to the third after it, constant in a command.
    Columns: a pixel sees `taps` columns; the first of a row begins with the first inside the image, if dilation_columns is 1, the first
    of a pixel tile elsewhere with all. Others see those that the pixel before them did not see, if dilation_columns is 1, else all.
    Timing: the first pixel is valid WALK_CYCLES + 1 cycles after `take`; then one per cycle, whatever begins or ends.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "take": In(1),
                "taken": In(CONV_LAYOUT),
                "command": In(CONV_LAYOUT),
                "advance": In(1),
                "valid": Out(1),
                "pixel": Out(pixel_layout(config)),
                "three_rows": Out(data.StructLayout({"rows": 10, "words": address_bits(config)})),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        cfg = self.config
        self.place = Signal(_place_layout(cfg), reset_less=True)
        self.start = Signal(_place_layout(cfg), reset_less=True)  # of the pixel tile
        self.kernel = Signal(_kernel_layout(cfg), reset_less=True)
        self.tile = Signal(_tile_layout(cfg), reset_less=True)
        self.index = Signal(16, reset_less=True)
        self.leading = Signal(reset_less=True)  # index is 0; a flag, because much follows from it
        self.first_pass = Signal(reset_less=True)
        self.first_span = Signal(reset_less=True)  # first pixel tile of the output tile
        self.begin = Signal(reset_less=True)  # the command's first pixel
        self.fresh = Signal(reset_less=True)  # the pixel's first column
        self.column, self.offset = Signal(_COLUMN_BITS, reset_less=True), Signal(_OFFSET_BITS, reset_less=True)

        setup = self._count_pixels(m)
        self._steps(m)
        column, offset = self._column()
        complete = column == self.last_column
        stepped, kernel, tile = self._stepped(m), self._next_kernel(m), self._next_tile(m)
        pass_end = self.index == self.last_index
        last_pass = (self.kernel.rows_left <= self.command.tap_rows) & (self.kernel.steps_left == 1) & (self.kernel.blocks_left == 1)
        self._pixel(m, pass_end, last_pass)
        self._window(m, offset, complete)

        with m.If(self.valid & self.advance):
            m.d.sync += [self.fresh.eq(complete), self.column.eq(column + 1), self.offset.eq(offset + self.command.dilation_columns)]
        with m.If(self.valid & self.advance & complete):
            m.d.sync += [self.begin.eq(0), self.index.eq(self.index + 1), self.leading.eq(0), self.place.eq(stepped)]
            with m.If(pass_end):
                m.d.sync += [self.index.eq(0), self.leading.eq(1), self.first_pass.eq(last_pass), self.kernel.eq(kernel)]
                with m.If(~last_pass):
                    m.d.sync += self.place.eq(self.start)
                with m.Elif(~self.span_is_last):
                    m.d.sync += [self.start.eq(stepped), self.first_span.eq(0)]
                with m.Else():
                    self._begin_tile(m, tile)
                    m.d.sync += self.valid.eq(self.tile.left != 1)
        with m.If(setup | (self.valid & self.advance & complete & pass_end & last_pass)):
            self._enter_span(m, setup | self.span_is_last)
        with m.If(setup):
            m.d.sync += [self.begin.eq(1), self.fresh.eq(1), self.valid.eq(1), self.index.eq(0), self.leading.eq(1), self.first_pass.eq(1)]
            m.d.sync += self.kernel.eq(self._first_kernel(m))
            self._begin_tile(m, self._first_tile(m))
        return m

    def _count_pixels(self, m: Module) -> Value:
        """Multiply rows by columns while the command arrives; returns the pulse after which walking begins.

        `rest` is the number of pixels after the current pixel tile, minus 1."""
        digits, addend = Signal(16, reset_less=True), Signal(PIXEL_COUNT_BITS, reset_less=True)
        self.last_pixel = Signal(PIXEL_COUNT_BITS, reset_less=True)  # pixels of the output minus 1
        cycle = Signal(range(WALK_CYCLES + 1))

        def product(digit: Value, value: Value) -> Value:
            return Mux(digit[0], value, 0) + Mux(digit[1], value << 1, 0)

        with m.If(self.take):
            rows, columns = self.taken.output_rows, self.taken.output_columns
            m.d.sync += [
                self.last_pixel.eq(product(rows, columns) - 1),
                digits.eq(rows >> _DIGIT_BITS),
                addend.eq(columns << _DIGIT_BITS),
                cycle.eq(WALK_CYCLES),
            ]
        with m.Elif(cycle != 0):
            m.d.sync += [
                self.last_pixel.eq(self.last_pixel + product(digits, addend)),
                digits.eq(digits >> _DIGIT_BITS),
                addend.eq(addend << _DIGIT_BITS),
                cycle.eq(cycle - 1),
            ]

        self.rest = Signal(PIXEL_COUNT_BITS, reset_less=True)
        self.last_index = Signal(16, reset_less=True)
        self.span_is_last = Signal(reset_less=True)
        return cycle == 1

    def _enter_span(self, m: Module, begins_tile: Value) -> None:
        """The pixel tile that begins now: the next of its output tile, or the first of an output tile."""
        left = Mux(begins_tile, self.last_pixel, self.rest)  # pixels to go, minus 1
        is_last = left <= self.longest
        m.d.sync += [
            self.last_index.eq(Mux(is_last, left, self.longest)),
            self.span_is_last.eq(is_last),
            self.rest.eq(left - self.command.pixels_per_tile),
        ]

    def _steps(self, m: Module) -> None:
        """What steps move, and limits minus 1; all constant during a command."""
        c = self.command
        self.last_x, self.longest, self.last_column = Signal(16, reset_less=True), Signal(16, reset_less=True), Signal(_COLUMN_BITS, reset_less=True)
        self.step_columns, self.reach = Signal(_OFFSET_BITS + 1, reset_less=True), Signal(_OFFSET_BITS + 1, reset_less=True)
        self.origin_skipped = Signal(_COLUMN_BITS, reset_less=True)
        self.overlaps, self.seen = Signal(reset_less=True), Signal(_COLUMN_BITS, reset_less=True)
        self.group_rows, self.group_words = Signal(10, reset_less=True), Signal(address_bits(self.config), reset_less=True)
        onward = Mux(c.mode == Mode.PACKED, self.config.in_lanes, c.dilation_columns)  # behind the last of the columns that a pixel sees
        m.d.sync += [
            self.last_x.eq(c.output_columns - 1),
            self.longest.eq(c.pixels_per_tile - 1),
            self.last_column.eq(c.taps - 1),
            self.step_columns.eq(sum((Mux(self.last_column[k], c.dilation_columns << k, 0) for k in range(_COLUMN_BITS)), start=onward)),
            self.reach.eq(self.step_columns + self.last_column),
            self.origin_skipped.eq(self._skipped(c.origin_column, c.origin_column + self.last_column)),
            self.overlaps.eq(c.dilation_columns == 1),
            self.seen.eq(Mux((c.dilation_columns == 1) & (c.taps > c.stride_columns), c.taps - c.stride_columns, 0)),
            self.three_rows.rows.eq(c.dilation_rows + (c.dilation_rows << 1)),
            self.three_rows.words.eq(c.kernel_row_step + (c.kernel_row_step << 1)),
        ]
        for step, one, three in (
            (self.group_rows, c.dilation_rows, self.three_rows.rows),
            (self.group_words, c.kernel_row_step, self.three_rows.words),
        ):
            m.d.sync += step.eq(Mux(c.tap_rows == 3, three, Mux(c.tap_rows[2], one << 2, Mux(c.tap_rows[1], one << 1, one))))

    def _skipped(self, column: Value, last: Value) -> Value:
        """Columns left of the image that the first pixel of a row does not look at; it sees `column` first and `last` last."""
        begins, ends = column < 0, last < 0
        return Mux(self.overlaps & begins, Mux(ends, self.last_column, (-column)[:_COLUMN_BITS]), 0)

    def _column(self) -> tuple[Value, Value]:
        """Which of its columns the pixel sees, and its distance from the first one."""
        begin = Mux(self.place.row_start, self.kernel.skipped, Mux(self.leading, 0, self.seen))
        return Mux(self.fresh, begin, self.column), Mux(self.fresh, begin, self.offset)

    def _window(self, m: Module, offset: Value, complete: Value) -> None:
        p, c = self.pixel, self.command
        m.d.comb += [
            p.column.eq(self.place.column + (self.kernel.column + offset)),
            p.rows.eq(Cat((self.kernel.rows_left > row) & (c.tap_rows > row) for row in range(BANKS))),
            p.preset.eq(self.fresh & (self.place.row_start | self.leading)),
            p.beat.eq(complete),
            p.begin.eq(self.begin & self.fresh),
        ]

    def _stepped(self, m: Module) -> data.View:
        """The place of the next pixel in raster order."""
        c, place = self.command, self.place
        stepped = Signal(_place_layout(self.config))
        with m.If(place.x == self.last_x):
            m.d.comb += [
                stepped.row.eq(place.row + c.stride_rows),
                stepped.x.eq(0),
                stepped.row_start.eq(1),
                stepped.address.eq(place.address + c.input_row_step),
                stepped.output.eq(place.output + c.output_row_stride),
                stepped.residual.eq(place.residual + c.residual_row_stride),
            ]
        with m.Else():
            m.d.comb += [stepped.eq(place), stepped.column.eq(place.column + c.stride_columns), stepped.x.eq(place.x + 1), stepped.row_start.eq(0)]
        return stepped

    def _first_kernel(self, m: Module) -> data.View:
        c = self.command
        first = Signal(_kernel_layout(self.config), name="first_kernel")
        m.d.comb += [
            first.rows_left.eq(c.kernel_rows),
            first.steps_left.eq(c.kernel_steps),
            first.blocks_left.eq(c.input_blocks),
            first.column.eq(c.origin_column),
            first.skipped.eq(self.origin_skipped),
        ]
        return first

    def _next_kernel(self, m: Module) -> data.View:
        """Kernel row, step and input block of the next pass."""
        c, now = self.command, self.kernel
        column, last = Signal(signed(POSITION_BITS), name="next_column"), Signal(signed(POSITION_BITS), name="next_last_column")
        m.d.comb += [column.eq(now.column + self.step_columns), last.eq(now.column + self.reach)]
        after = Signal(_kernel_layout(self.config), name="next_kernel")
        m.d.comb += after.eq(now)
        with m.If(now.blocks_left != 1):
            m.d.comb += [after.blocks_left.eq(now.blocks_left - 1), after.block_address.eq(now.block_address + c.input_block_stride)]
        with m.Else():
            m.d.comb += [after.blocks_left.eq(c.input_blocks), after.block_address.eq(0)]
            with m.If(now.steps_left != 1):
                m.d.comb += [after.steps_left.eq(now.steps_left - 1), after.column.eq(column), after.skipped.eq(self._skipped(column, last))]
            with m.Else():
                m.d.comb += [after.steps_left.eq(c.kernel_steps), after.column.eq(c.origin_column), after.skipped.eq(self.origin_skipped)]
                m.d.comb += [
                    after.rows_left.eq(now.rows_left - c.tap_rows),
                    after.row.eq(now.row + self.group_rows),
                    after.row_address.eq(now.row_address + self.group_words),
                ]
                with m.If(now.rows_left <= c.tap_rows):
                    m.d.comb += [after.rows_left.eq(c.kernel_rows), after.row.eq(0), after.row_address.eq(0)]
        return after

    def _first_tile(self, m: Module) -> data.View:
        c = self.command
        first = Signal(_tile_layout(self.config), name="first_tile")
        m.d.comb += [
            first.left.eq(c.output_tiles),
            first.fresh.eq(1),
            first.input.eq(c.input_address),
            first.output.eq(c.output_address),
            first.residual.eq(c.residual_address),
        ]
        return first

    def _next_tile(self, m: Module) -> data.View:
        """Bases of the next output tile: M < N, N / M tiles share a word; M > N, a dense tile is M / N blocks."""
        c, now, cfg = self.command, self.tile, self.config
        after = Signal(_tile_layout(cfg), name="next_tile")
        depthwise = c.mode == Mode.DEPTHWISE
        log_blocks = ceil_log2(max(1, cfg.out_lanes // cfg.in_lanes))

        def moved(stride: Value) -> Value:
            return Mux(depthwise, stride, stride << log_blocks)

        m.d.comb += [after.eq(now), after.left.eq(now.left - 1), after.fresh.eq(0), after.chunk.eq(now.chunk + 1)]
        with m.If(now.chunk == cfg.tiles_per_word - 1):
            m.d.comb += [
                after.chunk.eq(0),
                after.block.eq(now.block + moved(Const(1, 1))),
                after.output.eq(now.output + moved(c.output_block_stride)),
                after.residual.eq(now.residual + moved(c.residual_block_stride)),
                after.input.eq(now.input + Mux(depthwise, c.input_block_stride, 0)),
            ]
        return after

    def _begin_tile(self, m: Module, tile: data.View) -> None:
        origin = Signal(_place_layout(self.config), name=f"origin_{tile.as_value().name}")
        m.d.comb += [
            origin.row.eq(self.command.origin_row),
            origin.row_start.eq(1),
            origin.address.eq(tile.input),
            origin.output.eq(tile.output),
            origin.residual.eq(tile.residual),
        ]
        m.d.sync += [self.tile.eq(tile), self.place.eq(origin), self.start.eq(origin), self.first_span.eq(1)]

    def _pixel(self, m: Module, pass_end: Value, last_pass: Value) -> None:
        c, p, place, kernel, tile = self.command, self.pixel, self.place, self.kernel, self.tile
        pass_start, last_tile = p.beat & self.leading, tile.left == 1
        new_set = self.first_pass & self.first_span
        loads_weights = pass_start & (c.reduce == Reduce.SUM)
        next_rescale = pass_start & last_pass & self.first_span
        m.d.comb += [
            p.row.eq(place.row + kernel.row),
            p.address.eq(place.address + (kernel.row_address + kernel.block_address)),
            p.index.eq(self.index),
            p.output.eq(place.output + place.x),
            p.residual.eq(place.residual + place.x),
            p.block.eq(tile.block),
            p.chunk.eq(tile.chunk),
            p.final.eq(p.beat & pass_end & last_pass & self.span_is_last & last_tile),
            p.pass_start.eq(pass_start),
            p.first.eq(self.first_pass & ~c.resume),
            p.last.eq(last_pass),
            p.new_weights.eq(loads_weights & (~c.weights_held | self.begin)),
            p.next_weights.eq(loads_weights & ~c.weights_held & ~(last_pass & self.span_is_last & last_tile)),
            p.rewind_weights.eq(last_pass & ~self.span_is_last),
            p.next_tile.eq(last_pass & self.span_is_last),
            p.new_bias.eq(pass_start & new_set & (~c.parameters_held | tile.fresh)),
            p.new_rescale.eq(next_rescale & (~c.parameters_held | tile.fresh)),
            p.next_parameters.eq(next_rescale & ~c.parameters_held & ~last_tile),
        ]
