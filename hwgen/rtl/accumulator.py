"""Partial sums of a pixel tile."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.rtl.mac_array import sum_bits

LEAD_CYCLES = 2  # `read` comes this long before the sums that are added to what it reads


class Accumulator(wiring.Component):
    """Members: `read`, `index`: a pixel's partial sums will be needed; a cycle later `first` chooses `bias` instead. Another cycle
    later `valid` with `sums`, `write_index` and `last`: the pixel's new partial sums are written, or, with `last`, put in `held`.
    `maximum` keeps the larger of both instead of adding; `sums` are then the complements of the numbers to compare with (int8), so
    that the sign of the addition is the comparison.

    Timing: `held` follows `sums` by one cycle. A pixel may come again 3 cycles after it came.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        bits = ceil_log2(config.accumulator_depth)
        lane, lanes = signed(config.accumulator_bits), config.out_lanes
        super().__init__(
            {
                "read": In(1),
                "index": In(bits),
                "first": In(1),
                "bias": In(lane).array(lanes),
                "valid": In(1),
                "write_index": In(bits),
                "last": In(1),
                "maximum": In(1),
                "sums": In(signed(sum_bits(config))).array(lanes),
                "held": Out(lane).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        m.submodules.memory = memory = Memory(shape=c.accumulator_bits * c.out_lanes, depth=c.accumulator_depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        bits = c.accumulator_bits
        m.d.comb += [read.en.eq(self.read), read.addr.eq(self.index), write.addr.eq(self.write_index), write.en.eq(self.valid & ~self.last)]
        for r in range(c.out_lanes):
            base = Signal(signed(bits), name=f"base_{r}", reset_less=True)
            result = Signal(signed(bits), name=f"result_{r}")
            m.d.sync += base.eq(Mux(self.first, self.bias[r], read.data[bits * r : bits * (r + 1)].as_signed()))
            total = Signal(signed(bits + 1), name=f"total_{r}")
            larger = Mux(total[-1], (~self.sums[r])[:8].as_signed(), base)
            m.d.comb += [total.eq(base + self.sums[r]), result.eq(Mux(self.maximum, larger, total)), write.data[bits * r : bits * (r + 1)].eq(result)]
            held = Signal(signed(bits), name=f"held_{r}", reset_less=True)
            m.d.comb += self.held[r].eq(held)
            with m.If(self.valid & self.last):
                m.d.sync += held.eq(result)
        return m
