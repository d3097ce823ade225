"""The weight buffer: words of R rows of N bytes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.rtl.command import weight_write_layout


class WeightBuffer(wiring.Component):
    """Members: `load_valid`, `load` write one bus word (see `weight_write_layout`); `enable`, `address` read; `rows` is the answer.

    Timing: `rows` follows `enable` by SET_READ_CYCLES. Reading and loading never wait for each other.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "load_valid": In(1),
                "load": In(weight_write_layout(config)),
                "enable": In(1),
                "address": In(ceil_log2(config.weight_words)),
                "rows": Out(8 * config.in_lanes).array(config.weight_rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        width = 8 * c.weight_word_bytes
        chunks = width // c.bus_bits
        m.submodules.memory = memory = Memory(shape=width, depth=c.weight_words, init=[])
        read = memory.read_port()
        write = memory.write_port(granularity=c.bus_bits)
        word = Signal(width, reset_less=True)
        m.d.sync += word.eq(read.data)
        m.d.comb += [
            read.en.eq(self.enable),
            read.addr.eq(self.address),
            *(row.eq(word[k * len(row) : (k + 1) * len(row)]) for k, row in enumerate(self.rows)),
            write.addr.eq(self.load.address[: len(write.addr)]),
            write.data.eq(self.load.data.replicate(width // len(self.load.data))),
        ]
        with m.If(self.load_valid):
            if c.weight_decoder:
                slots = len(self.load.mask)
                m.d.comb += write.en.eq(Cat(Mux(self.load.group == group, self.load.mask, 0) for group in range(chunks // slots)))
            else:
                m.d.comb += write.en.eq(Cat(self.load.chunk == k for k in range(chunks)) if chunks > 1 else 1)
        return m
