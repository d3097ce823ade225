"""Wishbone B4 pipelined in place of AXI: the memory port as master, the registers as slave. The machine inside stays the same."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.latency import OUTSTANDING_BURSTS
from hwgen.isa.registers import REGISTER_SPACE_BYTES
from hwgen.rtl.axi import LENGTH_BITS, axi_lite_signature, byte_bits, memory_channels

WORDS_UNDER_WAY = 64  # hides a memory's latency up to this many cycles
_TAG = data.StructLayout({"write": 1, "last": 1})


def wishbone_master_signature(config: HardwareConfig) -> wiring.Signature:
    """The memory port as the master sees it, under the standard's signal names; `adr_o` is in bytes."""
    return wiring.Signature(
        {
            **{"cyc_o": Out(1), "stb_o": Out(1), "we_o": Out(1), "adr_o": Out(config.address_bits), "sel_o": Out(config.bus_bytes)},
            **{"dat_o": Out(config.bus_bits), "dat_i": In(config.bus_bits), "stall_i": In(1), "ack_i": In(1), "err_i": In(1)},
        }
    )


def wishbone_slave_signature() -> wiring.Signature:
    """The registers' port as the slave sees it, under the standard's signal names; `adr_i` is in bytes."""
    return wiring.Signature(
        {
            **{"cyc_i": In(1), "stb_i": In(1), "we_i": In(1), "adr_i": In(ceil_log2(REGISTER_SPACE_BYTES)), "sel_i": In(4)},
            **{"dat_i": In(32), "dat_o": Out(32), "stall_o": Out(1), "ack_o": Out(1)},
        }
    )


class WishbonePort(wiring.Component):
    """Bursts as single words on one Wishbone master, reads and writes between each other.

    Members
    -------
    ar, r, aw, w, b : channels of the DMA engines; b must be ready while a burst of writes is under way
    bus : Wishbone; every word that the slave takes must be answered once, in order, by ack or err, in the cycle in which it is taken or
        any later one

    Timing
    ------
    A word of a burst on AR is offered from the same cycle on, one per cycle, while fewer than WORDS_UNDER_WAY are under way (offered, and
    not taken by R); a word on W in the same cycle, before reads, but never in the place of a read that the slave stalls. A word that is
    read is on R from the cycle of its answer on, or from the one after that in which R took the word before it. B comes in the cycle of a
    burst's last answer.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__({**memory_channels(config), "bus": Out(wishbone_master_signature(config))})

    def elaborate(self, platform: Any) -> Module:
        m, bus = Module(), self.bus
        m.submodules.tags = tags = fifo.SyncFIFO(width=_TAG.size, depth=WORDS_UNDER_WAY)
        tag, writing, reserved = Signal(_TAG), Signal(), Signal(range(WORDS_UNDER_WAY + 1))
        taken = {kind: Signal(name=f"{kind}_taken") for kind in ("read", "write")}
        read, write = self._words(m, "read", self.ar, taken["read"]), self._words(m, "write", self.aw, taken["write"])
        can_write, can_read = self.w.valid & write.valid, read.valid & (reserved != WORDS_UNDER_WAY)
        stalled, stalled_write = Signal(), Signal()

        m.d.comb += [
            writing.eq(Mux(stalled, stalled_write, can_write)),
            bus.stb_o.eq(tags.w_rdy & Mux(writing, can_write, can_read)),
            bus.cyc_o.eq(bus.stb_o | tags.r_rdy),
            bus.we_o.eq(writing),
            bus.adr_o.eq(Mux(writing, write.address, read.address)),
            bus.sel_o.eq(Mux(writing, self.w.payload.strobe, ~0)),
            bus.dat_o.eq(self.w.payload.data),
            tag.write.eq(writing),
            tag.last.eq(Mux(writing, write.last, read.last)),
            taken["read"].eq(bus.stb_o & ~bus.stall_i & ~writing),
            taken["write"].eq(bus.stb_o & ~bus.stall_i & writing),
            self.w.ready.eq(taken["write"]),
        ]
        m.d.sync += [stalled.eq(bus.stb_o & bus.stall_i), stalled_write.eq(writing)]
        m.d.sync += reserved.eq(reserved + taken["read"] - (self.r.valid & self.r.ready))
        self._answers(m, tags, tag)
        return m

    def _words(self, m: Module, name: str, bursts: Any, taken: Signal) -> Any:
        """The next word of the bursts on an address channel; `taken` goes to the one behind it."""
        layout, low = bursts.payload.shape(), byte_bits(self._config)
        m.submodules[f"{name}_bursts"] = queue = fifo.SyncFIFO(width=layout.size, depth=OUTSTANDING_BURSTS)
        word = Signal(data.StructLayout({"address": self._config.address_bits, "last": 1, "valid": 1}), name=f"{name}_word")
        burst, count = Signal(layout, name=f"{name}_burst"), Signal(LENGTH_BITS, name=f"{name}_count")
        position = burst.address[low : low + LENGTH_BITS] + count  # bursts end at multiples of BURST_BEATS: no carry leaves it
        m.d.comb += [
            burst.eq(Mux(queue.r_rdy, queue.r_data, bursts.payload.as_value())),
            word.valid.eq(queue.r_rdy | bursts.valid),
            word.last.eq(count == burst.length),
            word.address.eq(Cat(burst.address[:low], position[:LENGTH_BITS], burst.address[low + LENGTH_BITS :])),
            bursts.ready.eq(queue.w_rdy),
            queue.w_data.eq(bursts.payload),
            queue.w_en.eq(bursts.valid & (queue.r_rdy | ~(taken & word.last))),
            queue.r_en.eq(taken & word.last),
        ]
        with m.If(taken):
            m.d.sync += count.eq(Mux(word.last, 0, count + 1))
        return word

    def _answers(self, m: Module, tags: fifo.SyncFIFO, tag: data.View[Any]) -> None:
        """Answers to R and B. R may be held back, Wishbone may not: `reserved` keeps a place for every word."""
        bus, answered, oldest, failed = self.bus, Signal(), Signal(_TAG), Signal()
        offered = bus.stb_o & ~bus.stall_i
        m.submodules.words = words = fifo.SyncFIFOBuffered(width=self._config.bus_bits + 2, depth=WORDS_UNDER_WAY + 1)
        arrived, empty, read = Cat(bus.dat_i, bus.err_i, oldest.last), words.level == 0, Signal()
        # A word comes out of `words` two cycles after it went in; one before which none is left by the next cycle waits beside it.
        beside, waits, alone = Signal(words.width), Signal(), Signal()
        m.d.comb += [
            answered.eq((bus.ack_i | bus.err_i) & (tags.r_rdy | offered)),
            oldest.eq(Mux(tags.r_rdy, tags.r_data, tag.as_value())),
            tags.w_data.eq(tag),
            tags.w_en.eq(offered & ~(answered & ~tags.r_rdy)),
            tags.r_en.eq(answered),
            read.eq(answered & ~oldest.write),
            alone.eq(Mux(empty, waits == self.r.ready, ~waits & (words.level == 1) & words.r_rdy & self.r.ready)),
            words.w_data.eq(arrived),
            words.w_en.eq(read & ~alone & ~(empty & ~waits)),
            words.r_en.eq(self.r.ready & ~waits),
            self.r.valid.eq(waits | Mux(empty, read, words.r_rdy)),
            self.r.payload.eq(Mux(waits, beside, Mux(empty, arrived, words.r_data))),
            self.b.valid.eq(answered & oldest.write & oldest.last),
            self.b.payload.error.eq(failed | bus.err_i),
        ]
        with m.If(read & alone):
            m.d.sync += beside.eq(arrived)
        m.d.sync += waits.eq(Mux(read & alone, 1, waits & ~self.r.ready))
        with m.If(answered & oldest.write):
            m.d.sync += failed.eq(~oldest.last & (failed | bus.err_i))


class WishboneRegisters(wiring.Component):
    """The registers for a Wishbone master, pipelined or classic.

    Members
    -------
    bus : Wishbone slave; address bits 1..0 do not matter, `sel_i` counts
    axil : to the register file

    Timing
    ------
    A word that is taken in cycle t is answered in t + 3 (read; that of a counter up to 16 cycles later) or t + 2 (write) and stalls all
    others up to that cycle, so that a classic master, which offers its word until the answer, is not heard twice. While the register file
    clears itself no word is taken. A master that drops `cyc_i` gets no answer.
    """

    def __init__(self) -> None:
        super().__init__({"bus": Out(wishbone_slave_signature()), "axil": Out(axi_lite_signature())})

    def elaborate(self, platform: Any) -> Module:
        m, bus, axil = Module(), self.bus, self.axil
        busy, dropped, taken, answered = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            taken.eq(bus.cyc_i & bus.stb_i & ~bus.stall_o),
            answered.eq(axil.bvalid | axil.rvalid),
            bus.stall_o.eq(busy | ~axil.wready),
            bus.ack_o.eq(answered & bus.cyc_i & ~dropped),
            bus.dat_o.eq(axil.rdata),
            *(valid.eq(taken & bus.we_i) for valid in (axil.awvalid, axil.wvalid)),
            *(address.eq(bus.adr_i) for address in (axil.awaddr, axil.araddr)),
            axil.wdata.eq(bus.dat_i),
            axil.wstrb.eq(bus.sel_i),
            axil.arvalid.eq(taken & ~bus.we_i),
            axil.bready.eq(1),
            axil.rready.eq(1),
        ]
        m.d.sync += [busy.eq(Mux(busy, ~answered, taken)), dropped.eq(busy & ~answered & (dropped | ~bus.cyc_i))]
        return m
