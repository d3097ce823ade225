"""A stretch of bus words between memory and a buffer, on a Wishbone master."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.serial.memory import place_bits
from hwgen.rtl.wishbone import wishbone_master_signature

UNDER_WAY_BITS = 5  # so many words, less one, may wait for their answers


class SerialPort(wiring.Component):
    """Reads or writes words that follow each other in memory, one per cycle while the bus takes them.

    Members
    -------
    bus : Wishbone; every word that the slave takes must be answered once, in order, in the cycle in which it is taken or any later one
    load : takes `first` (byte address), `words` and `writes`
    active : from the cycle after `load` to the last answer
    read_word : number of the word that is fetched for a write; `fetch` says that it must be at `data` in the next cycle, and stay
    answered, number : word `number` of the stretch was read, and is at the bus
    stop : no word is offered any more, but one that the bus already stalls
    idle : nothing is offered or under way
    failed : a word was answered with an error in this cycle; `address` is its address from the next cycle on, once `settled`

    Timing
    ------
    The first word of a read is offered in the cycle after `load`, of a write two cycles after it.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._bits = place_bits(config)
        super().__init__(
            {
                "bus": Out(wishbone_master_signature(config)),
                "load": In(1),
                "first": In(32),
                "words": In(self._bits + 1),
                "writes": In(1),
                "active": Out(1),
                "fetch": Out(1),
                "read_word": Out(self._bits),
                "data": In(config.bus_bits),
                "answered": Out(1),
                "number": Out(self._bits),
                "stop": In(1),
                "idle": Out(1),
                "failed": Out(1),
                "settled": Out(1),
                "address": Out(32),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m, bus = Module(), self.bus
        address, left, number = Signal(32, reset_less=True), Signal(self._bits + 1), Signal(self._bits)
        due, behind = Signal(UNDER_WAY_BITS), Signal(UNDER_WAY_BITS)
        ready, stalled, writes, taken, answer, more = (Signal(name=n) for n in ("ready", "stalled", "writes", "taken", "answer", "more"))
        m.d.comb += [
            more.eq(left.any() & (stalled | (~self.stop & ready & ~due.all()))),
            taken.eq(more & ~bus.stall_i),
            answer.eq((bus.ack_i | bus.err_i) & (due.any() | taken)),
            *(bus.stb_o.eq(more), bus.cyc_o.eq(more | due.any()), bus.we_o.eq(writes), bus.adr_o.eq(Cat(C(0, 2), address[2:]))),
            *(bus.sel_o.eq(~0), bus.dat_o.eq(self.data)),
            *(self.idle.eq(~more & ~due.any()), self.active.eq(left.any() | due.any())),
            *(self.failed.eq(answer & bus.err_i), self.settled.eq(self.idle & ~behind.any()), self.address.eq(address)),
            *(self.answered.eq(answer & ~writes), self.number.eq(number)),
            self.read_word.eq(number + taken),
            self.fetch.eq(writes & (taken | ~ready)),
        ]
        m.d.sync += [stalled.eq(more & bus.stall_i), due.eq(due + taken - answer)]
        with m.If(self.load):
            m.d.sync += [address.eq(self.first), left.eq(self.words), number.eq(0), writes.eq(self.writes), ready.eq(~self.writes)]
        with m.Else():
            m.d.sync += ready.eq(1)
            m.d.sync += number.eq(number + Mux(writes, taken, answer))
            with m.If(taken):
                m.d.sync += [address.eq(address + 4), left.eq(left - 1), behind.eq(behind + behind.any())]
            with m.Elif(behind.any() & self.idle):
                m.d.sync += [address.eq(address - 4), behind.eq(behind - 1)]
            with m.If(self.stop & self.idle):
                m.d.sync += left.eq(0)
        with m.If(self.failed & ~behind.any() & ~self.stop):
            m.d.sync += behind.eq(due + taken)
        return m
