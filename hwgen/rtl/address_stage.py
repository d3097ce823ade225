"""Registers in front of an address channel."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.axi import address_channel


class AddressStage(wiring.Component):
    """Two places before AR or AW, so that a burst is accepted whatever the memory does in that cycle.

    Members
    -------
    source : `ready` is a register: one place is free
    channel : AR or AW

    Timing
    ------
    An address that is accepted in cycle t is on the channel in cycle t + 1, or when the one before it was taken. One per cycle.
    """

    def __init__(self, config: HardwareConfig) -> None:
        super().__init__({"source": In(address_channel(config)), "channel": Out(address_channel(config))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source, channel = self.source, self.channel
        waits, waiting = Signal(), Signal(source.payload.shape())
        m.d.comb += source.ready.eq(~waits)
        with m.If(~waits):
            m.d.sync += waiting.eq(source.payload)
        with m.If(channel.ready | ~channel.valid):
            m.d.sync += [channel.payload.eq(Mux(waits, waiting.as_value(), source.payload.as_value())), channel.valid.eq(waits | source.valid), waits.eq(0)]
        with m.Else():
            m.d.sync += waits.eq(waits | source.valid)
        return m
