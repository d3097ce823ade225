"""From words to operands: padding, windows, unaligned bytes."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.rtl.fetch import route_layout
from hwgen.rtl.parameter_set import pick

_LOWEST = 0x80  # -128 in a byte


class Route(wiring.Component):
    """Makes the operands of a pixel out of the words that its read brought.

    Members: `words` of the ports with `route` and `valid` in one cycle; `mode`, `maximum`, `tap_rows`, `pad_value` are constants of the
    command. `low`: per row the operands of its first T = window_taps lanes; `high`: those of the other lanes, the same for all rows.
    In depthwise mode `low` is the window itself: one chain of T bytes per row of the array, two of T / 2 or four of T / 4 for up to as
    many kernel rows (maximum: always four), into which each column shifts one byte; `high` keeps what it held.
    Timing: operands follow ROUTE_CYCLES cycles after the words, and stay until the next.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        c = config
        super().__init__(
            {
                "words": In(8 * c.in_lanes).array(SIDES * BANKS),
                "valid": In(1),
                "route": In(route_layout(c)),
                "mode": In(2),
                "maximum": In(1),
                "tap_rows": In(3),
                "pad_value": In(8),
                "low": Out(8 * c.window_taps).array(c.out_lanes),
                "high": Out(8 * (c.in_lanes - c.window_taps)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        words = [Signal(8 * c.in_lanes, name=f"word_{k}", reset_less=True) for k in range(BANKS)]
        second, route = Signal(), Signal(route_layout(c), reset_less=True)
        m.d.sync += second.eq(self.valid)
        banks = [pick(list(self.words[b::BANKS]), self.route.side[b]) for b in range(BANKS)]
        with m.If(self.valid):
            m.d.sync += route.eq(self.route)
            for k, word in enumerate(words):
                outside = Mux(self.route.counts[k], self.pad_value, Mux(self.maximum, Const(_LOWEST, 8), 0))
                m.d.sync += word.eq(Mux(self.route.inside[k], pick(banks, self.route.bank[k]), outside.replicate(c.in_lanes)))

        line, window = Signal(8 * c.in_lanes), Signal()
        m.d.comb += [line.eq(self._unaligned(words, route.offset)), window.eq(self.mode == Mode.DEPTHWISE)]
        low = self._low(m, window, line, words, route)
        with m.If(second):
            m.d.sync += [self.low[r].eq(low[r]) for r in range(c.out_lanes)]
            with m.If(~window):
                m.d.sync += self.high.eq(line[8 * c.window_taps :])
        return m

    def _low(self, m: Module, window: Value, line: Value, words: list[Signal], route: data.View) -> list[Value]:
        """The next operands of each row: the line, or padding where a window begins; else a new byte in each chain, the others move on."""
        c, quarter = self.config, self.config.window_taps // BANKS
        four, two = Signal(reset_less=True), Signal(reset_less=True)  # chains; registers, because they select the operands of every row
        together = Signal(8 * c.window_taps)
        next_four, next_two = self.maximum | (self.tap_rows > 2), self.tap_rows == 2
        m.d.sync += [four.eq(next_four), two.eq(next_two)]
        m.d.comb += [
            together.eq(Mux(window, self._padding(route.counts, four), line[: 8 * c.window_taps])),
        ]
        columns = [Signal(8 * c.depthwise_lanes, name=f"column_{k}") for k in range(BANKS)]
        m.d.comb += [column.eq(self._part(word, route.chunk)) for column, word in zip(columns, words, strict=True)]
        sources = {0: columns[0], quarter: columns[1], 2 * quarter: Signal(8 * c.depthwise_lanes, name="column_middle"), 3 * quarter: columns[3]}
        m.d.comb += sources[2 * quarter].eq(Mux(four, columns[2], columns[1]))
        heads = {0: Const(1, 1), quarter: four, 2 * quarter: four | two, 3 * quarter: four}  # where chains may begin
        next_heads = {0: Const(1, 1), quarter: next_four, 2 * quarter: next_four | next_two, 3 * quarter: next_four}
        lanes: list[list[Value]] = [[] for _ in range(c.out_lanes)]
        for lane in range(c.window_taps):
            whole, head = Signal(name=f"whole_{lane}", reset_less=True), heads.get(lane, Const(0, 1))
            with m.If(self.valid):
                m.d.sync += whole.eq(~window | (self.route.preset & ~next_heads.get(lane, Const(0, 1))))
            at = slice(8 * lane, 8 * lane + 8)
            for r, row in enumerate(lanes):
                first = 8 * (r % c.depthwise_lanes)
                new = sources[lane][first : first + 8] if lane in sources else Const(0, 8)
                before = self.low[r][8 * lane - 8 : 8 * lane] if lane else Const(0, 8)
                row.append(Mux(whole, together[at], Mux(head, new, before)))
        return [Cat(row) for row in lanes]

    def _padding(self, counts: Value, four: Value) -> Value:
        """What lies left of the image, in each lane: pad_value, in chains of rows that do not count 0."""
        half = self.config.window_taps // 2
        counted = [Mux(four, counts[2 * lane // half], counts[lane // half]) for lane in range(2 * half)]
        return Cat(Mux(count | (self.tap_rows == 1), self.pad_value, 0) for count in counted)

    def _unaligned(self, words: list[Signal], offset: Value) -> Value:
        """N bytes from byte `offset` of the first two words; the other modes begin at byte 0."""
        line: Value = Cat(words[0], words[1])
        start = Mux(self.mode == Mode.PACKED, offset, 0)
        for k in reversed(range(len(start))):  # halving steps keep only the bytes that can still be needed
            step, rest = 8 << k, 8 * (self.config.in_lanes + (1 << k) - 1)
            line = Mux(start[k], line[step : step + rest], line[:rest])
        return line

    def _part(self, word: Signal, chunk: Value) -> Value:
        """The bytes of a depthwise tile in a word."""
        size = 8 * self.config.depthwise_lanes
        parts = [word[size * k : size * (k + 1)] for k in range(self.config.tiles_per_word)]
        return pick(parts, chunk)
