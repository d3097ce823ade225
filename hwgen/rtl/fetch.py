"""From pixels to bank reads: addresses, padding, and the cycles that the last pass of a pixel takes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.latency import PASS_CYCLES
from hwgen.rtl.activation_buffer import BANK_BITS, PORT_BITS, PORTS, SIDE_BITS, address_bits, port_of, port_reads_layout, row_of
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.command import conv_layout
from hwgen.rtl.walker import POSITION_BITS, distances_layout, pixel_layout


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
    """A column with its words: word 0 and 1 (packed) or one word per kernel row. counts: they are needed, if they lie inside; row: that of
    each word; column_inside: all of them lie between the image's left and right edge."""
    words = {"words": data.ArrayLayout(address_bits(config), BANKS), "rows": data.ArrayLayout(signed(POSITION_BITS), BANKS)}
    return data.StructLayout({"pixel": pixel_layout(config), **words, "counts": BANKS, "column_inside": 1, "route": route_layout(config)})


def _read_layout(config: HardwareConfig) -> data.StructLayout:
    """operand, residual: the ports at which the column's words, until it walks on, and the residual word of the next slice, are read (none
    where there is no column); conflict: both at one. write: the slice's block lies in the output. slices: the pixel's sums are complete."""
    ports = {"operand": PORTS, "address": data.ArrayLayout(address_bits(config) - PORT_BITS, BANKS), "residual": PORTS}
    flags = {"conflict": 1, "write": 1, "slices": 1}
    return data.StructLayout({"pixel": pixel_layout(config), **ports, **flags, "route": route_layout(config), "group": result_layout(config)["group"].shape})


class Fetch(wiring.Component):
    """Three registers behind the walker, the last of which holds a pixel until all its cycles are over.

    Members: `command` and `distances` are constant while `valid`; `go` allows the first column of a command (the one before has
    drained), which `begins` reports. In one cycle, `reads` (also of a column that waits); with `walk`, its `route`; with `enter`, a complete pixel's `beat`;
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
                "command": In(conv_layout(config)),
                "valid": In(1),
                "pixel": In(pixel_layout(config)),
                "advance": Out(1),
                "distances": In(distances_layout(config)),
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
        next_located, next_held = self._locate(m, pixel), self._bank(m, located, valid[1])
        with m.If(self.walk):
            m.d.sync += self.held.operand.eq(0)
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
        row_distances: list[ValueLike] = [0, c.dilation_rows, c.dilation_rows << 1, self.distances.three_rows]
        word_distances: list[ValueLike] = [0, self.distances.words, self.distances.words << 1, self.distances.three_words]
        m.d.comb += [
            first_word.eq(pixel.address + word_column),
            out.pixel.eq(pixel),
            out.route.offset.eq(pixel.column[: ceil_log2(n)]),
            out.route.chunk.eq(pixel.chunk),
            out.route.preset.eq(pixel.preset),
        ]
        for k in range(BANKS):
            m.d.comb += [out.words[k].eq(first_word + word_distances[k]), out.route.bank[k].eq(out.words[k][:BANK_BITS])]
            m.d.comb += out.rows[k].eq(pixel.row + Mux(c.mode == Mode.PACKED, 0, row_distances[k]))
        with m.Switch(c.mode):
            with m.Case(Mode.DEPTHWISE):
                m.d.comb += [out.counts.eq(pixel.rows), out.route.counts.eq(pixel.rows), out.column_inside.eq(column_inside)]
            with m.Case(Mode.PACKED):
                m.d.comb += [out.counts.eq(Cat(1, pixel.column[: ceil_log2(n)].any())), out.route.counts.eq(-1), out.column_inside.eq(1)]
            with m.Default():
                m.d.comb += [out.counts.eq(1), out.route.counts.eq(-1), out.column_inside.eq(column_inside)]
        return out

    def _bank(self, m: Module, located: data.View, valid: Value) -> data.View:
        """Sort the words by bank: those that count lie in different ones."""
        c, command, pixel = self.config, self.command, located.pixel
        out = Signal(_read_layout(c), name="next_held")
        m.d.comb += [out.pixel.eq(pixel), out.route.eq(located.route), out.group.eq(pixel.chunk * c.slices if c.tiles_per_word > 1 else 0)]
        inside = [Signal(name=f"inside_{k}") for k in range(BANKS)]
        for k, word in enumerate(inside):
            row = located.rows[k]
            m.d.comb += [word.eq(located.column_inside & ~row[-1] & (row[:-1] < command.input_rows)), out.route.inside[k].eq(word & located.route.counts[k])]
        for b in range(BANKS):
            here = [located.counts[k] & (located.words[k][:BANK_BITS] == b) for k in range(BANKS)]
            address = located.words[0][BANK_BITS:]
            for k in range(1, BANKS):
                address = Mux(here[k], located.words[k][BANK_BITS:], address)
            m.d.comb += [out.address[b].eq(address), out.route.side[b].eq(address[-SIDE_BITS:])]
        used = [Signal(PORTS, name=f"used_{k}") for k in range(BANKS)]
        for k, ports in enumerate(used):
            m.d.comb += ports.eq(Mux(located.counts[k], 1 << port_of(located.words[k]), 0))
        residual = Signal(PORTS, name="next_residual")
        write = ~command.keep & (pixel.block < command.output_blocks)
        m.d.comb += [
            residual.eq(Mux(command.residual, 1 << port_of(pixel.residual), 0)),
            out.residual.eq(Mux(valid & write & pixel.beat & pixel.last, residual, 0)),
            out.operand.eq(Cat(valid & Cat(used[k][p] & inside[k] for k in range(BANKS)).any() for p in range(PORTS))),
            out.conflict.eq(write & Cat((used[k] & residual).any() & inside[k] for k in range(BANKS)).any()),
            out.write.eq(write),
            out.slices.eq(pixel.beat & pixel.last),
        ]
        return out

    def _slots(self, m: Module, valid: Value) -> None:
        """One cycle of the column in the last register: walk on, and with a complete pixel enter the array, emit a slice, or both."""
        c, held, pixel = self.command, self.held, self.held.pixel
        walked, gap, spaced = Signal(), Signal(range(PASS_CYCLES)), Signal(init=1)  # the last pass began PASS_CYCLES ago
        slice_index, last_slice = self.slice, Signal()
        may, done, finishes, ready = Signal(), Signal(), Signal(), Signal()
        depthwise, slices = self.config.depthwise_lanes // self.config.requantize_lanes, self.config.slices
        m.d.comb += [
            last_slice.eq(slice_index == Mux(c.mode == Mode.DEPTHWISE, depthwise - 1, slices - 1)),
            ready.eq((~pixel.pass_start | spaced) & (~pixel.begin | self.go)),
            may.eq(valid & (walked | ready)),
            finishes.eq(~held.slices | (last_slice & (walked | ~held.conflict))),
            self.walk.eq(valid & ready & ~walked),
            self.begins.eq(self.walk & pixel.begin),
            self.enter.eq(self.walk & pixel.beat),
            self.emitting.eq(may & (held.slices & (walked | ~held.conflict))),
            done.eq(may & finishes),
            self.advance.eq(~valid | ((walked | ready) & finishes)),
            self.pass_start.eq(self.walk & (pixel.beat & pixel.pass_start)),
            self.current.eq(pixel),
            self.finished.eq(done & pixel.final),
        ]
        m.d.sync += [gap.eq(Mux(self.pass_start, PASS_CYCLES - 1, gap - ~spaced)), spaced.eq(~self.pass_start & (spaced | (gap == 1)))]
        with m.If(self.walk):
            m.d.sync += walked.eq(1)
        with m.If(self.emitting & ~done):
            m.d.sync += slice_index.eq(slice_index + 1)
            self._next_slice(m)
        with m.If(self.advance):
            m.d.sync += [walked.eq(0), slice_index.eq(0)]
        self._lost(m, valid, walked, ~spaced)
        self._outputs(m, done)

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
        residual, block = Signal(address_bits(self.config), name="further_residual"), Signal(17, name="further_block")
        m.d.comb += [residual.eq(held.pixel.residual + c.residual_block_stride), block.eq(held.pixel.block + 1)]
        write = ~c.keep & (block < c.output_blocks)
        m.d.sync += held.group.eq(held.group + 1)
        with m.If(held.group == self.config.in_lanes // self.config.requantize_lanes - 1):
            m.d.sync += [
                held.group.eq(0),
                held.pixel.block.eq(block),
                held.write.eq(write),
                held.pixel.output.eq(held.pixel.output + c.output_block_stride),
                held.pixel.residual.eq(residual),
                held.residual.eq(Mux(c.residual & write, 1 << port_of(residual), 0)),
            ]

    def _outputs(self, m: Module, done: Value) -> None:
        held, pixel, result = self.held, self.held.pixel, self.result
        m.d.comb += [
            self.beat.index.eq(pixel.index),
            self.route.eq(held.route),
            *(self.beat[name].eq(pixel[name]) for name in ("first", "new_weights", "new_bias", "new_rescale")),
            self.beat.last.eq(pixel.last & ~self.command.keep),
            self.residual_port.eq(port_of(pixel.residual)),
            result.address.eq(pixel.output),
            result.group.eq(held.group),
            result.write.eq(held.write),
            result.final.eq(done & pixel.final),
        ]
        for port in range(SIDES * BANKS):
            m.d.comb += [
                self.reads.enable[port].eq(held.operand[port] | held.residual[port]),
                self.reads.address[port].eq(Mux(held.operand[port], held.address[port % BANKS], row_of(pixel.residual))),
            ]
