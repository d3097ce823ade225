"""The memory port as AXI4."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hwgen.config import HardwareConfig
from hwgen.rtl.axi import axi_master_signature, byte_bits, memory_channels

_INCREMENT, _BUFFERABLE, _UNPRIVILEGED_SECURE_DATA = 1, 0b0011, 0b000
_ERROR_BIT = 1  # of SLVERR and DECERR


class AxiPort(wiring.Component):
    """Ties what never changes: identifier 0, INCR bursts of whole bus words, protection and cache bits.

    Members
    -------
    ar, r, aw, w, b : channels of the DMA engines
    bus : AXI4 under the standard's signal names

    Timing
    ------
    Combinational.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__({**memory_channels(config), "bus": Out(axi_master_signature(config))})

    def elaborate(self, platform: Any) -> Module:
        m, bus = Module(), self.bus
        for name, channel in (("ar", self.ar), ("aw", self.aw)):
            self._address(m, name, channel)
        m.d.comb += [
            bus.wdata.eq(self.w.payload.data),
            bus.wstrb.eq(self.w.payload.strobe),
            bus.wlast.eq(self.w.payload.last),
            bus.wvalid.eq(self.w.valid),
            self.w.ready.eq(bus.wready),
            self.b.valid.eq(bus.bvalid),
            self.b.payload.error.eq(bus.bresp[_ERROR_BIT]),
            bus.bready.eq(self.b.ready),
            self.r.valid.eq(bus.rvalid),
            self.r.payload.eq(Cat(bus.rdata, bus.rresp[_ERROR_BIT], bus.rlast)),
            bus.rready.eq(self.r.ready),
        ]
        return m

    def _address(self, m: Module, name: str, channel: Any) -> None:
        constants = {"size": byte_bits(self._config), "burst": _INCREMENT, "cache": _BUFFERABLE, "prot": _UNPRIVILEGED_SECURE_DATA}
        for field, value in constants.items():
            m.d.comb += getattr(self.bus, f"{name}{field}").eq(value)
        m.d.comb += [
            getattr(self.bus, f"{name}addr").eq(channel.payload.address),
            getattr(self.bus, f"{name}len").eq(channel.payload.length),
            getattr(self.bus, f"{name}valid").eq(channel.valid),
            channel.ready.eq(getattr(self.bus, f"{name}ready")),
        ]
