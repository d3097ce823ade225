"""From pixels to bank reads: addresses, padding, and the cycles that the last pass of a pixel takes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.latency import PASS_CYCLES
from hwgen.rtl.activation_buffer import BANK_BITS, PORT_BITS, SIDE_BITS, address_bits, port_of, port_reads_layout, row_of
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.walker import CONV_LAYOUT, POSITION_BITS, pixel_layout


def route_layout(config: HardwareConfig) -> data.StructLayout:
    """How the words of a read become operands: of which `side` each bank's word is; per word its bank, whether it is inside the image,
    whether its row counts (depthwise); `offset`: first byte (packed); `chunk`: part of the word that a depthwise tile takes; `preset`:
    what a depthwise window held before is padding."""
    words = {"side": data.ArrayLayout(SIDE_BITS, BANKS), "bank": data.ArrayLayout(BANK_BITS, BANKS), "inside": BANKS, "counts": BANKS, "preset": 1}
    return data.StructLayout({**words, "offset": ceil_log2(config.in_lanes), "chunk": ceil_log2(config.tiles_per_word)})


def beat_layout(config: HardwareConfig) -> data.StructLayout:
    """One pixel entering the array, apart from its route."""
    flags = dict.fromkeys(("first", "last", "new_weights", "new_bias", "new_rescale"), 1)
    return data.StructLayout({"index": ceil_log2(config.accumulator_depth), **flags})


def result_layout(config: HardwareConfig) -> data.StructLayout:
    """Where Q results go: `group` counts slices inside the word `address`. write: the word lies inside the output."""
    return data.StructLayout({"address": address_bits(config), "group": ceil_log2(config.in_lanes // config.requantize_lanes), "write": 1, "final": 1})


def _located_layout(config: HardwareConfig) -> data.StructLayout:
    """A column with the addresses of its words: word 0 and 1 (packed) or one word per kernel row."""
    words = {"words": data.ArrayLayout(address_bits(config), BANKS), "used": BANKS, "route": route_layout(config)}
    return data.StructLayout({"pixel": pixel_layout(config), **words})


def _read_layout(config: HardwareConfig) -> data.StructLayout:
    banks = data.StructLayout({"enable": BANKS, "address": data.ArrayLayout(address_bits(config) - BANK_BITS, BANKS)})
    return data.StructLayout({"pixel": pixel_layout(config), "banks": banks, "route": route_layout(config), "group": result_layout(config)["group"].shape})


class Fetch(wiring.Component):
    """Three registers behind the walker, the last of which holds a pixel until all its cycles are over.

    Members: `command` and `three_rows` are constant while `valid`; `go` allows the first column of a command (the one before has
    drained), which `begins` reports. In one cycle, `reads`; with `walk`, a column's `route`; with `enter`, a complete pixel's `beat`;
    with `emitting`, one slice of Q sums: its number `slice`, the `residual_port` that is read for it, and where its `result` goes.
    `pass_start` with `current` tells the weight loader; `finished` is the cycle of the command's last slice. `lost`: in a cycle without
    `enter`, why.
    Timing: a column takes one cycle; in the last pass a pixel's last column takes `slices` cycles (depthwise: depthwise_lanes /
    requantize_lanes), and one more when its words are read at the port at which the residual word of its first slice lies. From a pass's
    first complete pixel to the next pass's at least PASS_CYCLES go by.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(CONV_LAYOUT),
                "valid": In(1),
                "pixel": In(pixel_layout(config)),
                "advance": Out(1),
                "three_rows": In(data.StructLayout({"rows": 10, "words": address_bits(config)})),
                "go": In(1),
                "begins": Out(1),
                "reads": Out(port_reads_layout(config)),
                "walk": Out(1),
                "enter": Out(1),
                "beat": Out(beat_layout(config)),
                "route": Out(route_layout(config)),
                "emitting": Out(1),
                "slice": Out(ceil_log2(config.slices)),
                "residual_port": Out(PORT_BITS),
                "result": Out(result_layout(config)),
                "pass_start": Out(1),
                "current": Out(pixel_layout(config)),
                "finished": Out(1),
                "lost": Out(LOST_LAYOUT),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        valid = [Signal(name=f"valid_{k}") for k in (1, 2, 3)]
        pixel = Signal(pixel_layout(c), reset_less=True)
        located = Signal(_located_layout(c), reset_less=True)
        self.held = Signal(_read_layout(c), reset_less=True)
        next_located, next_held = self._locate(m, pixel), self._bank(m, located)
        with m.If(self.advance):
            m.d.sync += [valid[0].eq(self.valid), valid[1].eq(valid[0]), valid[2].eq(valid[1])]
            m.d.sync += [pixel.eq(self.pixel), located.eq(next_located), self.held.eq(next_held)]
        self._slots(m, valid[2])
        return m

    def _locate(self, m: Module, pixel: data.View) -> data.View:
        """Addresses of the words and what lies inside the image."""
        c, n = self.command, self.config.in_lanes
        out = Signal(_located_layout(self.config), name="next_located")
        word_column = Mux(c.mode == Mode.PACKED, pixel.column >> ceil_log2(n), pixel.column)
        first_word = Signal(address_bits(self.config))
        column_inside = (pixel.column >= 0) & (pixel.column < c.input_columns)
        row_distances: list[ValueLike] = [0, c.dilation_rows, c.dilation_rows << 1, self.three_rows.rows]
        word_distances: list[ValueLike] = [0, c.kernel_row_step, c.kernel_row_step << 1, self.three_rows.words]
        m.d.comb += [
            first_word.eq(pixel.address + word_column),
            out.pixel.eq(pixel),
            out.route.offset.eq(pixel.column[: ceil_log2(n)]),
            out.route.chunk.eq(pixel.chunk),
            out.route.preset.eq(pixel.preset),
        ]
        for k in range(BANKS):
            row = Signal(signed(POSITION_BITS), name=f"row_{k}")
            row_inside = (row >= 0) & (row < c.input_rows)
            word = Signal(address_bits(self.config), name=f"word_{k}")
            m.d.comb += [row.eq(pixel.row + row_distances[k]), word.eq(first_word + word_distances[k])]
            m.d.comb += [out.words[k].eq(word), out.route.bank[k].eq(word[:BANK_BITS])]
            with m.Switch(c.mode):
                with m.Case(Mode.DEPTHWISE):
                    inside = row_inside & column_inside & pixel.rows[k]
                    m.d.comb += [out.route.inside[k].eq(inside), out.route.counts[k].eq(pixel.rows[k]), out.used[k].eq(inside)]
                with m.Case(Mode.PACKED):
                    used = 1 if k == 0 else pixel.column[: ceil_log2(n)].any() if k == 1 else 0
                    m.d.comb += [row.eq(pixel.row), word.eq(first_word + k), out.route.counts[k].eq(1)]
                    m.d.comb += [out.route.inside[k].eq(row_inside), out.used[k].eq(row_inside & used)]
                with m.Default():
                    inside = row_inside & column_inside
                    m.d.comb += [out.route.counts[k].eq(1), out.route.inside[k].eq(inside), out.used[k].eq(inside if k == 0 else 0)]
        return out

    def _bank(self, m: Module, located: data.View) -> data.View:
        """Sort the words by bank: those that are read lie in different ones."""
        c = self.config
        out = Signal(_read_layout(c), name="next_held")
        m.d.comb += [out.pixel.eq(located.pixel), out.route.eq(located.route), out.group.eq(located.pixel.chunk * c.slices if c.tiles_per_word > 1 else 0)]
        for b in range(BANKS):
            here = [located.used[k] & (located.words[k][:BANK_BITS] == b) for k in range(BANKS)]
            address = located.words[0][BANK_BITS:]
            for k in range(1, BANKS):
                address = Mux(here[k], located.words[k][BANK_BITS:], address)
            m.d.comb += [out.banks.enable[b].eq(Cat(here).any()), out.banks.address[b].eq(address), out.route.side[b].eq(address[-SIDE_BITS:])]
        return out

    def _slots(self, m: Module, valid: Value) -> None:
        """One cycle of the column in the last register: walk on, and with a complete pixel enter the array, emit a slice, or both."""
        c, pixel = self.command, self.held.pixel
        walked, gap = Signal(), Signal(range(PASS_CYCLES))
        slice_index = self.slice
        may = Signal()
        m.d.comb += may.eq(valid & (walked | ((~pixel.pass_start | (gap == 0)) & (~pixel.begin | self.go))))
        write = ~c.keep & (pixel.block < c.output_blocks)
        reads_residual = Signal()
        port = Signal(PORT_BITS)
        conflict = Signal()
        done = Signal()
        last_slice = Mux(c.mode == Mode.DEPTHWISE, self.config.depthwise_lanes // self.config.requantize_lanes - 1, self.config.slices - 1)
        m.d.comb += [
            reads_residual.eq(c.residual & write),
            port.eq(port_of(pixel.residual)),
            conflict.eq(reads_residual & Cat(self._used(port) for port in range(SIDES * BANKS)).bit_select(port, 1)),
            self.walk.eq(may & ~walked),
            self.begins.eq(self.walk & pixel.begin),
            self.enter.eq(self.walk & pixel.beat),
            self.emitting.eq(may & pixel.beat & pixel.last & (walked | ~conflict)),
            done.eq(Mux(pixel.beat & pixel.last, self.emitting & (slice_index == last_slice), may)),
            self.advance.eq(~valid | done),
            self.pass_start.eq(self.enter & pixel.pass_start),
            self.current.eq(pixel),
            self.finished.eq(done & pixel.final),
        ]
        with m.If(self.pass_start):
            m.d.sync += gap.eq(PASS_CYCLES - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(self.walk):
            m.d.sync += walked.eq(1)
        with m.If(self.emitting & ~done):
            m.d.sync += slice_index.eq(slice_index + 1)
            self._next_slice(m)
        with m.If(self.advance):
            m.d.sync += [walked.eq(0), slice_index.eq(0)]
        self._lost(m, valid, walked, gap != 0)
        self._outputs(m, write, reads_residual, port, done)

    def _lost(self, m: Module, valid: Value, walked: Value, gap: Value) -> None:
        pixel = self.held.pixel
        with m.If(~valid):
            m.d.comb += self.lost.setup.eq(1)
        with m.Elif(walked):
            m.d.comb += self.lost.output.eq(1)
        with m.Elif(pixel.begin & ~self.go):
            m.d.comb += self.lost.drain.eq(1)
        with m.Elif(~pixel.beat):
            m.d.comb += self.lost.window.eq(1)
        with m.Elif(pixel.pass_start & gap):
            m.d.comb += self.lost.short_pass.eq(1)

    def _next_slice(self, m: Module) -> None:
        """The place of the next slice; crosses to the next block at the end of a word."""
        c, held = self.command, self.held
        m.d.sync += held.group.eq(held.group + 1)
        with m.If(held.group == self.config.in_lanes // self.config.requantize_lanes - 1):
            m.d.sync += [
                held.group.eq(0),
                held.pixel.block.eq(held.pixel.block + 1),
                held.pixel.output.eq(held.pixel.output + c.output_block_stride),
                held.pixel.residual.eq(held.pixel.residual + c.residual_block_stride),
            ]

    def _used(self, port: int) -> Value:
        """Whether an operand of the pixel is read at `port`."""
        side, bank = divmod(port, BANKS)
        return self.held.banks.enable[bank] & (self.held.route.side[bank] == side)

    def _outputs(self, m: Module, write: Value, reads_residual: Value, residual_port: Value, done: Value) -> None:
        held, pixel, result = self.held, self.held.pixel, self.result
        m.d.comb += [
            self.beat.index.eq(pixel.index),
            self.route.eq(held.route),
            *(self.beat[name].eq(pixel[name]) for name in ("first", "new_weights", "new_bias", "new_rescale")),
            self.beat.last.eq(pixel.last & ~self.command.keep),
            self.residual_port.eq(residual_port),
            result.address.eq(pixel.output),
            result.group.eq(held.group),
            result.write.eq(write),
            result.final.eq(done & pixel.final),
        ]
        for port in range(SIDES * BANKS):
            residual_here = self.emitting & reads_residual & (residual_port == port)
            fetch_here = self.walk & self._used(port)
            m.d.comb += [
                self.reads.enable[port].eq(fetch_here | residual_here),
                self.reads.address[port].eq(Mux(fetch_here, held.banks.address[port % BANKS][:-SIDE_BITS], row_of(pixel.residual))),
            ]
