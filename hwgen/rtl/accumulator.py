"""Partial sums of a pixel tile."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.rtl.mac_array import sum_bits

LEAD_CYCLES = 2  # `read` comes this long before the sums that are added to what it reads


class Accumulator(wiring.Component):
    """Members: `read`, `index`: a pixel's partial sums will be needed; a cycle later `first` chooses `bias` instead. Another cycle
    later `valid` with `sums`, `write_index` and `last`: the pixel's new partial sums are written, or, with `last`, put in `held`.
    `maximum` keeps the larger of both instead of adding.

    Timing: `held` follows `sums` by one cycle. A pixel may come again 3 cycles after it came.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        bits = ceil_log2(config.accumulator_depth)
        lanes = data.ArrayLayout(signed(config.accumulator_bits), config.out_lanes)
        super().__init__(
            {
                "read": In(1),
                "index": In(bits),
                "first": In(1),
                "bias": In(lanes),
                "valid": In(1),
                "write_index": In(bits),
                "last": In(1),
                "maximum": In(1),
                "sums": In(data.ArrayLayout(signed(sum_bits(config)), config.out_lanes)),
                "held": Out(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        m.submodules.memory = memory = Memory(shape=c.accumulator_bits * c.out_lanes, depth=c.accumulator_depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        base = Signal(data.ArrayLayout(signed(c.accumulator_bits), c.out_lanes), reset_less=True)
        result = Signal(data.ArrayLayout(signed(c.accumulator_bits), c.out_lanes))
        m.d.comb += [read.en.eq(self.read), read.addr.eq(self.index), write.addr.eq(self.write_index), write.en.eq(self.valid & ~self.last), write.data.eq(result)]
        with m.If(self.first):
            m.d.sync += base.eq(self.bias)
        with m.Else():
            m.d.sync += base.eq(read.data)
        for r in range(c.out_lanes):
            larger = Mux(base[r] > self.sums[r], base[r], self.sums[r])
            m.d.comb += result[r].eq(Mux(self.maximum, larger, base[r] + self.sums[r]))
        with m.If(self.valid & self.last):
            m.d.sync += self.held.eq(result)
        return m
