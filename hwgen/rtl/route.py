"""From words to operands: padding, taps, unaligned bytes."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.rtl.fetch import route_layout

_LOWEST = 0x80  # -128 in a byte


class Route(wiring.Component):
    """Makes the operands of a pixel out of the words that its read brought.

    Members: `words` of the ports with `route` and `valid` in one cycle; `mode`, `maximum`, `pad_value` are constants of the command.
    `low`: per row the operands of its first T lanes; `high`: those of the other lanes, the same for all rows.
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
                "pad_value": In(8),
                "low": Out(8 * c.taps).array(c.out_lanes),
                "high": Out(8 * (c.in_lanes - c.taps)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        words = [Signal(8 * c.in_lanes, name=f"word_{t}", reset_less=True) for t in range(c.taps)]
        second, route = Signal(), Signal(route_layout(c), reset_less=True)
        m.d.sync += second.eq(self.valid)
        banks = [Array(self.words[b::BANKS])[self.route.side[b]] for b in range(BANKS)]
        with m.If(self.valid):
            m.d.sync += route.eq(self.route)
            for t, word in enumerate(words):
                bank = Array(banks)[self.route.bank[t]]
                with m.If(self.route.inside[t]):
                    m.d.sync += word.eq(bank)
                with m.Else():
                    m.d.sync += word.eq(self.pad_value.replicate(c.in_lanes))

        line = Signal(8 * c.in_lanes)
        m.d.comb += line.eq(self._unaligned(words, route.offset))
        with m.If(second & (self.mode == Mode.DEPTHWISE)):
            taps = [self._tap(words[t], route.counts[t], route.chunk) for t in range(c.taps)]
            m.d.sync += [self.low[r].eq(Cat(tap[r % c.depthwise_lanes] for tap in taps)) for r in range(c.out_lanes)]
            m.d.sync += self.high.eq(0)
        with m.Elif(second):
            m.d.sync += [self.low[r].eq(line[: 8 * c.taps]) for r in range(c.out_lanes)]
            m.d.sync += self.high.eq(line[8 * c.taps :])
        return m

    def _unaligned(self, words: list[Signal], offset: Value) -> Value:
        """N bytes from byte `offset` of the first two words; the other modes begin at byte 0."""
        line: Value = Cat(words[0], words[1])
        start = Mux(self.mode == Mode.PACKED, offset, 0)
        for k in reversed(range(len(start))):  # halving steps keep only the bytes that can still be needed
            step, rest = 8 << k, 8 * (self.config.in_lanes + (1 << k) - 1)
            line = Mux(start[k], line[step : step + rest], line[:rest])
        return line

    def _tap(self, word: Signal, counts: Value, chunk: Value) -> list[Value]:
        """The bytes of a depthwise tile in one tap's word: neutral where the tap does not count."""
        size = 8 * self.config.depthwise_lanes
        parts = [word[size * k : size * (k + 1)] for k in range(self.config.tiles_per_word)]
        part = Array(parts)[chunk] if len(parts) > 1 else parts[0]
        neutral = Mux(self.maximum, Const(_LOWEST, 8), Const(0, 8))
        return [Mux(counts, part[8 * r : 8 * (r + 1)], neutral) for r in range(self.config.depthwise_lanes)]
