"""Rows as AXI bursts."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.latency import BURST_BEATS
from hwgen.rtl.axi import LENGTH_BITS, byte_bits
from hwgen.rtl.command import packed_members
from hwgen.rtl.rows import beat_bits, row_layout


def burst_layout(config: HardwareConfig) -> data.StructLayout:
    """`length` + 1 bus words from `address`, that belong at bus word `beat` of `buffer`; `last` burst of its command. With a decoder `format`,
    and whether it is the `first` burst of its row: packed, `beat` means its place only there."""
    members = {"address": config.address_bits, "length": LENGTH_BITS, "beat": beat_bits(config), "buffer": 2, "last": 1}
    return data.StructLayout({**members, **packed_members(config)})


class BurstSplitter(wiring.Component):
    """Cuts rows where the memory address, counted in bus words, is a multiple of BURST_BEATS.

    So no burst is longer than that, and none crosses 4 KiB (BURST_BEATS words of at most 64 bytes divide it).

    Members
    -------
    rows : what to transfer, from an address that is a multiple of the bus word
    bursts : the pieces, in order

    Timing
    ------
    A row's first burst is offered 1 cycle after the row was taken, the others follow one per cycle. The next row is taken in the
    cycle in which the last burst is.
    """

    def __init__(self, config: HardwareConfig, words: int | None = None) -> None:
        """Rows of at most `words` bus words: see `row_layout`."""
        self._config = config
        super().__init__({"rows": In(stream.Signature(row_layout(config, words))), "bursts": Out(stream.Signature(burst_layout(config)))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        low = byte_bits(self._config)
        row, burst = self.rows.payload, self.bursts.payload
        row_position, row_page = row.address[low : low + LENGTH_BITS], row.address[low + LENGTH_BITS :]
        row_tail, row_end_page = row.end[:LENGTH_BITS], row.end[LENGTH_BITS:]
        position, page = Signal(LENGTH_BITS), Signal.like(row_page)
        tail, tail_length = Signal(LENGTH_BITS), Signal(LENGTH_BITS)  # the row's end in its last page, and from there back to `position`
        before_end, beat, buffer, last = Signal.like(row_end_page), Signal.like(row.beat), Signal(2), Signal()
        busy, final = Signal(), Signal(init=1)  # `final`: the row ends in this page, or there is none; known a cycle before
        free = Signal()

        m.d.comb += [
            burst.eq(Cat(C(0, low), position, page, Mux(final, tail_length, ~position))),
            Cat(burst.beat, burst.buffer, burst.last).eq(Cat(beat, buffer, last & final)),
            self.bursts.valid.eq(busy),
            free.eq(~busy | self.bursts.ready),
            self.rows.ready.eq(free & final),
        ]
        if self._config.weight_decoder:
            kind, begins = Signal.like(row.format), Signal()
            m.d.comb += [burst.format.eq(kind), burst.first.eq(begins)]
            with m.If(free):
                m.d.sync += [begins.eq(final), kind.eq(Mux(final, row.format, kind))]
        with m.If(free):
            with m.If(final):
                m.d.sync += [busy.eq(self.rows.valid), final.eq(~self.rows.valid | (row_page[: len(row_end_page)] == row_end_page))]
                m.d.sync += [position.eq(row_position), page.eq(row_page), tail.eq(row_tail), before_end.eq(row_end_page - 1)]
                m.d.sync += [tail_length.eq(row_tail - row_position), beat.eq(row.beat), buffer.eq(row.buffer), last.eq(row.last)]
            with m.Else():
                m.d.sync += [position.eq(0), page.eq(page + 1), final.eq(page[: len(before_end)] == before_end)]
                m.d.sync += [tail_length.eq(tail), beat.eq(beat + (BURST_BEATS - position))]
        return m
