"""Functions of results, as tables of 256 codes: each lane has all of them in a memory of its own."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import TABLE_ENTRIES, TABLE_LANES, HardwareConfig
from hwgen.isa.latency import TABLE_CYCLES
from hwgen.rtl.command import load_write_layout
from hwgen.rtl.delay import delay, delay_data
from hwgen.rtl.parameter_set import pick

_CHOICE_BITS = ceil_log2(TABLE_LANES)


class ActivationTable(wiring.Component):
    """Members: `load_valid`, `load` write one word of TABLE_LANES entries, the lowest bytes of the bus word, in every lane; `address` is the
    word where the table begins; `x` with `valid`; `y`, and `y_soon` two cycles before it.
    Timing: latency TABLE_CYCLES, interval 1. Reading and loading never wait for each other.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        q, bits = config.requantize_lanes, ceil_log2(config.table_words)
        load = {"load_valid": In(1), "load": In(load_write_layout(config))}
        super().__init__({**load, "address": In(bits), "valid": In(1), "x": In(8 * q), "y_soon": Out(1), "y": Out(8 * q)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.y_soon.eq(delay(m, self.valid, TABLE_CYCLES - 2, "valid")[-1])
        for lane in range(self.config.requantize_lanes):
            m.submodules[f"lane_{lane}"] = memory = Memory(shape=8 * TABLE_LANES, depth=self.config.table_words, init=[])
            read, write = memory.read_port(), memory.write_port()
            x = self.x[8 * lane : 8 * (lane + 1)]
            index = Cat(x[:-1], ~x[-1])  # by the code plus 128
            choice = delay_data(m, index[:_CHOICE_BITS], 2, f"choice_{lane}")[-1]
            word = Signal(8 * TABLE_LANES, name=f"word_{lane}", reset_less=True)
            y = Signal(8, name=f"y_{lane}", reset_less=True)
            m.d.comb += [
                read.en.eq(self.valid),
                read.addr.eq(Cat(index[_CHOICE_BITS:], self.address[ceil_log2(TABLE_ENTRIES // TABLE_LANES) :])),
                write.en.eq(self.load_valid),
                write.addr.eq(self.load.address[: len(write.addr)]),
                write.data.eq(self.load.data[: 8 * TABLE_LANES]),
                self.y[8 * lane : 8 * (lane + 1)].eq(y),
            ]
            m.d.sync += [word.eq(read.data), y.eq(pick([word[8 * k : 8 * (k + 1)] for k in range(TABLE_LANES)], choice))]
        return m
