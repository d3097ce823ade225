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
        second, third, route = Signal(), Signal(), Signal(route_layout(c), reset_less=True)
        m.d.sync += [second.eq(self.valid), third.eq(second)]
        banks = [pick(list(self.words[b::BANKS]), self.route.side[b]) for b in range(BANKS)]
        with m.If(self.valid):
            m.d.sync += [route.eq(self.route), route.offset.eq(Mux(self.mode == Mode.PACKED, self.route.offset, 0))]
            for k, word in enumerate(words):
                outside = Mux(self.route.counts[k], self.pad_value, Mux(self.maximum, Const(_LOWEST, 8), 0))
                m.d.sync += word.eq(Mux(self.route.inside[k], pick(banks, self.route.bank[k]), outside.replicate(c.in_lanes)))

        line = Signal(8 * c.in_lanes, reset_less=True)
        self.window = Signal(reset_less=True)
        self.four, self.two = Signal(reset_less=True), Signal(reset_less=True)  # chains; registers, because they select the operands of every row
        m.d.sync += [self.window.eq(self.mode == Mode.DEPTHWISE), self.four.eq(self.maximum | (self.tap_rows > 2)), self.two.eq(self.tap_rows == 2)]
        with m.If(second):
            m.d.sync += line.eq(Mux(self.window, self._padding(route.counts), self._unaligned(words, route.offset)))
        low = [Signal(8 * c.window_taps, name=f"operands_{r}", reset_less=True) for r in range(c.out_lanes)]
        high = Signal(len(self.high), name="high_operands", reset_less=True)
        m.d.comb += [self.high.eq(high), *(out.eq(operands) for out, operands in zip(self.low, low, strict=True))]
        following = self._low(m, second, line, self._columns(m, second, words, route), route.preset)
        with m.If(third):
            m.d.sync += [operands.eq(next_) for operands, next_ in zip(low, following, strict=True)]
            with m.If(~self.window):
                m.d.sync += high.eq(line[8 * c.window_taps :])
        return m

    def _columns(self, m: Module, enable: Value, words: list[Signal], route: data.View) -> list[Signal]:
        """The bytes that may enter the first, second, third and fourth quarter of each row's window."""
        columns = [Signal(8 * self.config.depthwise_lanes, name=f"column_{k}", reset_less=True) for k in range(BANKS)]
        parts = [self._part(word, route.chunk) for word in words]
        parts[2] = Mux(self.four, parts[2], parts[1])
        with m.If(enable):
            m.d.sync += [column.eq(part) for column, part in zip(columns, parts, strict=True)]
        return columns

    def _low(self, m: Module, enable: Value, line: Value, columns: list[Signal], preset: Value) -> list[Value]:
        """The next operands of each row: the line (padding, where a window begins); else a new byte in each chain, the others move on."""
        c, quarter = self.config, self.config.window_taps // BANKS
        heads = {0: Const(1, 1), quarter: self.four, 2 * quarter: self.four | self.two, 3 * quarter: self.four}  # where chains may begin
        lanes: list[list[Value]] = [[] for _ in range(c.out_lanes)]
        for lane in range(c.window_taps):
            whole, head = Signal(name=f"whole_{lane}", reset_less=True), heads.get(lane, Const(0, 1))
            with m.If(enable):
                m.d.sync += whole.eq(~self.window | (preset & ~head))
            for r, row in enumerate(lanes):
                first = 8 * (r % c.depthwise_lanes)
                new = columns[lane // quarter][first : first + 8] if lane in heads else Const(0, 8)
                before = self.low[r][8 * lane - 8 : 8 * lane] if lane else Const(0, 8)
                row.append(Mux(whole, line[8 * lane : 8 * lane + 8], Mux(head, new, before)))
        return [Cat(row) for row in lanes]

    def _padding(self, counts: Value) -> Value:
        """What lies left of the image, in each lane: pad_value, in chains of rows that do not count 0."""
        half = self.config.window_taps // 2
        counted = [Mux(self.four, counts[2 * lane // half], counts[lane // half]) for lane in range(2 * half)]
        return Cat(Mux(count | (self.tap_rows == 1), self.pad_value, 0) for count in counted)

    def _unaligned(self, words: list[Signal], offset: Value) -> Value:
        """N bytes from byte `offset` of the first two words."""
        line: Value = Cat(words[0], words[1])
        for k in reversed(range(len(offset))):  # halving steps keep only the bytes that can still be needed
            step, rest = 8 << k, 8 * (self.config.in_lanes + (1 << k) - 1)
            line = Mux(offset[k], line[step : step + rest], line[:rest])
        return line

    def _part(self, word: Signal, chunk: Value) -> Value:
        """The bytes of a depthwise tile in a word."""
        size = 8 * self.config.depthwise_lanes
        parts = [word[size * k : size * (k + 1)] for k in range(self.config.tiles_per_word)]
        return pick(parts, chunk)
