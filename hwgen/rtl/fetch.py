"""From pixels to bank reads: addresses, padding, and the cycles that the last pass of a pixel takes."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.latency import PASS_CYCLES
from hwgen.rtl.activation_buffer import BANK_BITS, PORT_BITS, SIDE_BITS, address_bits, port_of, port_reads_layout, row_of
from hwgen.rtl.walker import CONV_LAYOUT, POSITION_BITS, pixel_layout


def route_layout(config: HardwareConfig) -> data.StructLayout:
    """How the words of a read become operands: of which `side` each bank's word is; per tap its bank, whether it is inside the image,
    whether it counts; `offset`: first byte (packed); `chunk`: part of the word that a depthwise tile takes."""
    t = config.taps
    words = {"side": data.ArrayLayout(SIDE_BITS, BANKS), "bank": data.ArrayLayout(BANK_BITS, t), "inside": t, "counts": t}
    return data.StructLayout({**words, "offset": ceil_log2(config.in_lanes), "chunk": ceil_log2(config.tiles_per_word)})


def beat_layout(config: HardwareConfig) -> data.StructLayout:
    """One pixel entering the array, apart from its route."""
    flags = dict.fromkeys(("first", "last", "new_weights", "new_bias", "new_rescale"), 1)
    return data.StructLayout({"index": ceil_log2(config.accumulator_depth), **flags})


def result_layout(config: HardwareConfig) -> data.StructLayout:
    """Where Q results go: `group` counts slices inside the word `address`. write: the word lies inside the output."""
    return data.StructLayout({"address": address_bits(config), "group": ceil_log2(config.in_lanes // config.requantize_lanes), "write": 1, "final": 1})


def _located_layout(config: HardwareConfig) -> data.StructLayout:
    """A pixel with the addresses of its words: word 0 and 1 (packed) or one word per tap."""
    words = {"words": data.ArrayLayout(address_bits(config), config.taps), "used": config.taps, "route": route_layout(config)}
    return data.StructLayout({"pixel": pixel_layout(config), **words})


def _read_layout(config: HardwareConfig) -> data.StructLayout:
    banks = data.StructLayout({"enable": BANKS, "address": data.ArrayLayout(address_bits(config) - BANK_BITS, BANKS)})
    return data.StructLayout({"pixel": pixel_layout(config), "banks": banks, "route": route_layout(config), "group": result_layout(config)["group"].shape})


class Fetch(wiring.Component):
    """Three registers behind the walker, the last of which holds a pixel until all its cycles are over.

    Members: `command` is constant while `valid`; `go` allows the first pixel of a command (the one before has drained). In one cycle,
    `reads`; with `enter`, a pixel's `beat` and `route`; with `emitting`, one slice of Q sums: its number `slice`, the `residual_port`
    that is read for it, and where its `result` goes. `pass_start` with `current` tells the weight loader; `finished` is the cycle of
    the command's last slice.
    Timing: a pixel takes one cycle; in the last pass it takes `slices` cycles (depthwise: depthwise_lanes / requantize_lanes), and
    one more when its fetch reads at the port at which the residual word of its first slice lies. A pass takes at least PASS_CYCLES.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "command": In(CONV_LAYOUT),
                "valid": In(1),
                "pixel": In(pixel_layout(config)),
                "advance": Out(1),
                "go": In(1),
                "reads": Out(port_reads_layout(config)),
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
        row_inside = (pixel.row >= 0) & (pixel.row < c.input_rows)
        word_column = pixel.column >> ceil_log2(n)
        m.d.comb += [out.pixel.eq(pixel), out.route.offset.eq(pixel.column[: ceil_log2(n)]), out.route.chunk.eq(pixel.chunk)]
        for t in range(self.config.taps):
            column = Signal(signed(POSITION_BITS), name=f"column_{t}")
            inside = row_inside & (column >= 0) & (column < c.input_columns)
            m.d.comb += [
                column.eq(pixel.column + self._tap_offset(m, t)),
                out.route.bank[t].eq(out.words[t][:BANK_BITS]),
                out.words[t].eq(pixel.address + column),
            ]
            with m.Switch(c.mode):
                with m.Case(Mode.DEPTHWISE):
                    m.d.comb += [out.route.inside[t].eq(inside), out.route.counts[t].eq(pixel.taps[t]), out.used[t].eq(inside & pixel.taps[t])]
                with m.Case(Mode.PACKED):
                    used = 1 if t == 0 else pixel.column[: ceil_log2(n)].any() if t == 1 else 0
                    m.d.comb += [out.route.inside[t].eq(row_inside), out.words[t].eq(pixel.address + word_column + t), out.used[t].eq(row_inside & used)]
                with m.Default():
                    m.d.comb += [out.route.inside[t].eq(inside), out.used[t].eq(inside if t == 0 else 0)]
        return out

    def _tap_offset(self, m: Module, tap: int) -> Value:
        """Columns from tap 0 to `tap`; constant during a command."""
        offset = Signal(8 + 2, name=f"tap_offset_{tap}", reset_less=True)
        distance = self.command.dilation_columns
        m.d.sync += offset.eq(sum((distance << k for k in range(2) if tap >> k & 1), start=Const(0)))  # a product would become a multiplier
        return offset

    def _bank(self, m: Module, located: data.View) -> data.View:
        """Sort the words by bank: those that are read lie in different ones."""
        c = self.config
        out = Signal(_read_layout(c), name="next_held")
        m.d.comb += [out.pixel.eq(located.pixel), out.route.eq(located.route), out.group.eq(located.pixel.chunk * c.slices if c.tiles_per_word > 1 else 0)]
        for b in range(BANKS):
            here = [located.used[t] & (located.words[t][:BANK_BITS] == b) for t in range(c.taps)]
            address = located.words[0][BANK_BITS:]
            for t in range(1, c.taps):
                address = Mux(here[t], located.words[t][BANK_BITS:], address)
            m.d.comb += [out.banks.enable[b].eq(Cat(here).any()), out.banks.address[b].eq(address), out.route.side[b].eq(address[-SIDE_BITS:])]
        return out

    def _slots(self, m: Module, valid: Value) -> None:
        """One cycle of the pixel in the last register: enter the array, emit a slice, or both."""
        c, pixel = self.command, self.held.pixel
        entered, gap = Signal(), Signal(range(PASS_CYCLES))
        slice_index = self.slice
        may = Signal()
        m.d.comb += may.eq(valid & (entered | ~pixel.pass_start | ((gap == 0) & (self.go | ~pixel.begin))))
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
            self.enter.eq(may & ~entered),
            self.emitting.eq(may & pixel.last & (entered | ~conflict)),
            done.eq(Mux(pixel.last, self.emitting & (slice_index == last_slice), may)),
            self.advance.eq(~valid | done),
            self.pass_start.eq(self.enter & pixel.pass_start),
            self.current.eq(pixel),
            self.finished.eq(done & pixel.final),
        ]
        with m.If(self.pass_start):
            m.d.sync += gap.eq(PASS_CYCLES - 1)
        with m.Elif(gap != 0):
            m.d.sync += gap.eq(gap - 1)
        with m.If(self.enter):
            m.d.sync += entered.eq(1)
        with m.If(self.emitting & ~done):
            m.d.sync += slice_index.eq(slice_index + 1)
            self._next_slice(m)
        with m.If(self.advance):
            m.d.sync += [entered.eq(0), slice_index.eq(0)]
        self._outputs(m, write, reads_residual, port, done)

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
            fetch_here = self.enter & self._used(port)
            m.d.comb += [
                self.reads.enable[port].eq(fetch_here | residual_here),
                self.reads.address[port].eq(Mux(fetch_here, held.banks.address[port % BANKS][:-SIDE_BITS], row_of(pixel.residual))),
            ]
