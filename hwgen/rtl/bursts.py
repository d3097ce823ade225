"""Rows as AXI bursts."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.latency import BURST_BEATS
from hwgen.rtl.axi import LENGTH_BITS, byte_bits
from hwgen.rtl.rows import beat_bits, row_layout


def burst_layout(config: HardwareConfig) -> data.StructLayout:
    """`length` + 1 bus words from `address`, that belong at bus word `beat` of `buffer`; `last` burst of its command."""
    return data.StructLayout({"address": config.address_bits, "length": LENGTH_BITS, "beat": beat_bits(config), "buffer": 2, "last": 1})


class BurstSplitter(wiring.Component):
    """Cuts rows where the memory address, counted in bus words, is a multiple of BURST_BEATS.

    So no burst is longer than that, and none crosses 4 KiB (BURST_BEATS words of at most 64 bytes divide it).

    Members
    -------
    rows : what to transfer
    bursts : the pieces, in order

    Timing
    ------
    A row's first burst is offered 1 cycle after the row was taken, the others follow one per cycle. The next row is taken in the
    cycle in which the last burst is.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__({"rows": In(stream.Signature(row_layout(config))), "bursts": Out(stream.Signature(burst_layout(config)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low = byte_bits(self._config)
        row, burst, busy = Signal(row_layout(self._config)), self.bursts.payload, Signal()
        position = row.address[low : low + LENGTH_BITS]
        page = row.address[low + LENGTH_BITS :]
        to_boundary, count, final = Signal(LENGTH_BITS + 1), Signal(LENGTH_BITS + 1), Signal()

        m.d.comb += [
            to_boundary.eq(BURST_BEATS - position),
            final.eq(~row.beats[LENGTH_BITS + 1 :].any() & (row.beats[: LENGTH_BITS + 1] <= to_boundary)),
            count.eq(Mux(final, row.beats, to_boundary)),
            burst.eq(Cat(row.address, (count - 1)[:LENGTH_BITS], row.beat, row.buffer, row.last & final)),
            self.bursts.valid.eq(busy),
            self.rows.ready.eq(~busy | (self.bursts.ready & final)),
        ]
        with m.If(self.rows.ready):
            m.d.sync += busy.eq(self.rows.valid)
            with m.If(self.rows.valid):
                m.d.sync += row.eq(self.rows.payload)
        with m.Elif(self.bursts.ready):
            m.d.sync += [position.eq(0), page.eq(page + 1), row.beats.eq(row.beats - count), row.beat.eq(row.beat + count)]
        return m
