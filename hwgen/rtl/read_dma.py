"""The AXI4 read channels, shared by the program fetch and the load engine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.latency import OUTSTANDING_BURSTS
from hwgen.rtl.address_stage import AddressStage
from hwgen.rtl.axi import LENGTH_BITS, address_channel, byte_bits, read_channel
from hwgen.rtl.bursts import burst_layout
from hwgen.rtl.command import packed_members
from hwgen.rtl.rows import beat_bits


def read_beat_layout(config: HardwareConfig) -> data.StructLayout:
    """One bus word from `address`, for bus word `beat` of `buffer`; `error`: the memory refused; `last` bus word of its command.
    With a decoder `format`, and whether it is the `first` of its row."""
    members = {"data": config.bus_bits, "error": 1, "address": config.address_bits, "beat": beat_bits(config), "buffer": 2, "last": 1}
    return data.StructLayout({**members, **packed_members(config)})


class ReadDma(wiring.Component):
    """Sends bursts of two sources to memory, the program's first, and gives every bus word to the source that asked for it.

    Members
    -------
    program, load : bursts to read; `program_beats`, `load_beats` : their bus words, in order. The program's need no place in a buffer
    halt : no burst is accepted any more (one that its source, then in reset, still offers is dropped), and what still arrives is taken,
        whether or not its source is ready
    idle : no burst is under way
    beat : a bus word was taken from memory in this cycle
    ar, r : AXI4 channels

    Timing
    ------
    A burst that is accepted in cycle t is on AR in cycle t + 1; one burst is accepted per cycle while fewer than OUTSTANDING_BURSTS are
    under way (accepted, and the last bus word not yet taken) and no second one waits for AR. A bus word passes in the cycle in which it
    is on R.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "program": In(address_channel(config)),
                "program_beats": Out(read_channel(config)),
                "load": In(stream.Signature(burst_layout(config))),
                "load_beats": Out(stream.Signature(read_beat_layout(config))),
                "halt": In(1),
                "idle": Out(1),
                "beat": Out(1),
                "ar": Out(address_channel(config)),
                "r": In(read_channel(config)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pending_layout = data.StructLayout({"burst": burst_layout(self._config), "is_load": 1})
        m.submodules.pending = queue = fifo.SyncFIFO(width=pending_layout.size, depth=OUTSTANDING_BURSTS)
        pending = data.View(pending_layout, queue.r_data)
        m.submodules.addresses = addresses = AddressStage(self._config)
        address = addresses.source

        m.d.comb += [
            self.program.ready.eq(queue.w_rdy & address.ready),
            self.load.ready.eq(self.program.ready & ~self.program.valid),
            address.payload.address.eq(Mux(self.program.valid, self.program.payload.address, self.load.payload.address)),
            address.payload.length.eq(Mux(self.program.valid, self.program.payload.length, self.load.payload.length)),
            address.valid.eq(self.program.ready & (self.program.valid | self.load.valid) & ~self.halt),
            queue.w_en.eq(address.valid),
            queue.w_data.eq(Cat(self.load.payload, ~self.program.valid)),
            self.idle.eq(~queue.r_rdy),
        ]
        wiring.connect(m, addresses.channel, wiring.flipped(self.ar))
        self._route(m, queue, pending)
        return m

    def _route(self, m: Module, queue: fifo.SyncFIFO, pending: data.View[Any]) -> None:
        """R to the source of the oldest burst."""
        low, count = byte_bits(self._config), Signal(LENGTH_BITS)
        address = pending.burst.address
        position = address[low : low + LENGTH_BITS] + count  # bursts end at multiples of BURST_BEATS: no carry leaves it
        m.d.comb += [
            self.program_beats.valid.eq(self.r.valid & queue.r_rdy & ~pending.is_load),
            self.program_beats.payload.eq(self.r.payload),
            self.load_beats.valid.eq(self.r.valid & queue.r_rdy & pending.is_load),
            self.load_beats.payload.data.eq(self.r.payload.data),
            self.load_beats.payload.error.eq(self.r.payload.error),
            self.load_beats.payload.address.eq(Cat(address[:low], position[:LENGTH_BITS], address[low + LENGTH_BITS :])),
            self.load_beats.payload.beat.eq(pending.burst.beat + count),
            self.load_beats.payload.buffer.eq(pending.burst.buffer),
            self.load_beats.payload.last.eq(pending.burst.last & self.r.payload.last),
        ]
        if self._config.weight_decoder:
            packed = self.load_beats.payload
            m.d.comb += [packed.format.eq(pending.burst.format), packed.first.eq(pending.burst.first & (count == 0))]
        ready = Mux(pending.is_load, self.load_beats.ready, self.program_beats.ready)
        m.d.comb += [
            self.r.ready.eq(queue.r_rdy & (self.halt | ready)),
            self.beat.eq(self.r.valid & self.r.ready),
            queue.r_en.eq(self.beat & self.r.payload.last),
        ]
        with m.If(self.beat):
            m.d.sync += count.eq(Mux(self.r.payload.last, 0, count + 1))
