"""The registers that count events: a memory, gone through by one adder."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.registers import ALWAYS_COUNTED, COUNTERS, offset_of
from hwgen.rtl.parameter_set import pick

WINDOW = 16  # counters, and cycles from one look at a counter to the next
_LOW_BITS = ceil_log2(WINDOW)  # which no window lets overflow twice

EVENT_LAYOUT = data.StructLayout(dict.fromkeys(COUNTERS, 1))
TURN_LAYOUT = data.StructLayout({"place": _LOW_BITS, "value": 32})  # a counter whose turn it is, and its content


def counted(config: HardwareConfig) -> tuple[str, ...]:
    """The counters that this hardware has; the registers of the others read 0."""
    return COUNTERS if config.counters else ALWAYS_COUNTED


def place_of(name: str) -> int:
    """Where a counter lies in the memory: the low bits of its register's number, different for all."""
    return offset_of(name) // 4 % WINDOW


class Counters(wiring.Component):
    """Counts the cycles in which each event is high. Low bits of a counter and its last carry are registers; the rest lies in a memory, to
    which carries are added one counter a cycle.

    Members
    -------
    events : see isa.registers.COUNTERS
    clear : everything becomes 0; an event of this cycle does not count
    turn : each counter with its content, one after the other: all of them in WINDOW cycles

    Timing
    ------
    A turn shows what happened until two cycles before. It comes from registers and one adder.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._places = {place_of(name): name for name in counted(config)}
        super().__init__({"events": In(EVENT_LAYOUT), "clear": In(1), "turn": Out(TURN_LAYOUT)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        position, clearing = Signal(_LOW_BITS), Signal(init=1)  # the first time around after `clear`, what the memory holds does not count
        low, carry = Signal(_LOW_BITS, reset_less=True), Signal(reset_less=True)
        kept = Signal(32 - _LOW_BITS, reset_less=True)
        parts = [self._count(m, position == place, self._places[place]) if place in self._places else C(0, _LOW_BITS + 1) for place in range(WINDOW)]
        m.submodules.memory = memory = Memory(shape=len(kept), depth=WINDOW, init=[])
        read, write = memory.read_port(domain="comb"), memory.write_port()
        m.d.comb += [
            read.addr.eq(position),
            write.en.eq(1),
            write.addr.eq(self.turn.place),
            write.data.eq(kept + carry),
            self.turn.value.eq(Cat(low, write.data)),
        ]
        m.d.sync += [position.eq(position + 1), self.turn.place.eq(position), Cat(low, carry).eq(pick(parts, position))]
        m.d.sync += [kept.eq(read.data), clearing.eq(clearing & ~position.all())]
        with m.If(clearing):
            m.d.sync += kept.eq(0)
        with m.If(self.clear):
            m.d.sync += [position.eq(0), clearing.eq(1)]
        return m

    def _count(self, m: Module, looked: Value, name: str) -> Value:
        """Low bits of one counter, and the carry out of them until somebody has looked."""
        low, carry, event = Signal(_LOW_BITS, name=f"{name}_low"), Signal(name=f"{name}_carry"), self.events[name]
        m.d.sync += carry.eq((event & low.all()) | (carry & ~looked))
        with m.If(event):
            m.d.sync += low.eq(Cat(~low[0], *(low[k] ^ low[:k].all() for k in range(1, _LOW_BITS))))
        with m.If(self.clear):
            m.d.sync += [low.eq(0), carry.eq(0)]
        return Cat(low, carry)
