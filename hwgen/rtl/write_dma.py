"""The AXI4 write channels, used by the store engine."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.latency import OUTSTANDING_BURSTS
from hwgen.rtl.address_stage import AddressStage
from hwgen.rtl.axi import FAULT_ADDRESS_BITS, LENGTH_BITS, address_channel, response_channel, write_channel
from hwgen.rtl.bursts import burst_layout


class WriteDma(wiring.Component):
    """Writes bursts to memory.

    Members
    -------
    bursts : what to write; data : the bus words of the accepted bursts, in order
    done : the memory has confirmed the last burst of a command
    error, error_address : the memory refused a burst, which began there
    halt : no burst is accepted any more (one that its source, then in reset, still offers is dropped, and so are bus words); bus words of
        accepted bursts are sent with all strobes 0
    idle : no burst is under way
    beat : a bus word was sent in this cycle
    aw, w, b : AXI4 channels

    Timing
    ------
    A burst that is accepted in cycle t is on AW in cycle t + 1, its first bus word can be accepted in cycle t + 1 and is on W one cycle
    after its acceptance. One burst per cycle is accepted while fewer than OUTSTANDING_BURSTS wait for their B and no second one for AW;
    one bus word per cycle.
    `done` and `error` rise in the cycle of B.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "bursts": In(stream.Signature(burst_layout(config))),
                "data": In(stream.Signature(config.bus_bits)),
                "done": Out(1),
                "error": Out(1),
                "error_address": Out(FAULT_ADDRESS_BITS),
                "halt": In(1),
                "idle": Out(1),
                "beat": Out(1),
                "aw": Out(address_channel(config)),
                "w": Out(write_channel(config)),
                "b": In(response_channel()),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pending_layout = data.StructLayout({"last": 1, "address": FAULT_ADDRESS_BITS})
        m.submodules.unconfirmed = unconfirmed = fifo.SyncFIFO(width=pending_layout.size, depth=OUTSTANDING_BURSTS)
        m.submodules.unsent = unsent = fifo.SyncFIFO(width=LENGTH_BITS, depth=OUTSTANDING_BURSTS)
        pending, burst, accept = data.View(pending_layout, unconfirmed.r_data), self.bursts.payload, Signal()
        m.submodules.addresses = addresses = AddressStage(self._config)

        m.d.comb += [
            self.bursts.ready.eq(unconfirmed.w_rdy & addresses.source.ready),
            accept.eq(self.bursts.valid & self.bursts.ready & ~self.halt),
            addresses.source.valid.eq(accept),
            addresses.source.payload.eq(Cat(burst.address, burst.length)),
            unconfirmed.w_en.eq(accept),
            unconfirmed.w_data.eq(Cat(burst.last, burst.address[:FAULT_ADDRESS_BITS])),
            unsent.w_en.eq(accept),
            unsent.w_data.eq(burst.length),
            self.b.ready.eq(unconfirmed.r_rdy),
            unconfirmed.r_en.eq(self.b.valid & self.b.ready),
            self.done.eq(unconfirmed.r_en & pending.last),
            self.error.eq(unconfirmed.r_en & self.b.payload.error),
            self.error_address.eq(pending.address),
            self.idle.eq(~unconfirmed.r_rdy),
        ]
        wiring.connect(m, addresses.channel, wiring.flipped(self.aw))
        self._send(m, unsent)
        return m

    def _send(self, m: Module, unsent: fifo.SyncFIFO) -> None:
        """Bus words to W."""
        count, free, last = Signal(LENGTH_BITS), Signal(), Signal()
        m.d.comb += [
            free.eq(~self.w.valid | self.w.ready),
            last.eq(count == unsent.r_data),
            self.data.ready.eq(free & unsent.r_rdy),
            unsent.r_en.eq(free & (self.halt | self.data.valid) & last),
            self.beat.eq(self.w.valid & self.w.ready),
        ]
        with m.If(free):
            m.d.sync += self.w.valid.eq(unsent.r_rdy & (self.data.valid | self.halt))
            with m.If(unsent.r_rdy & (self.data.valid | self.halt)):
                strobe = Mux(self.halt, 0, (1 << self._config.bus_bytes) - 1)
                m.d.sync += [self.w.payload.eq(Cat(self.data.payload, strobe[: self._config.bus_bytes], last)), count.eq(Mux(last, 0, count + 1))]
