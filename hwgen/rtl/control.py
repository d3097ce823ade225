"""The state of the machine: idle, running or draining; its first error, its counters."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.registers import ALWAYS_COUNTED, COUNTERS, ErrorCode
from hwgen.rtl.command import INDEX_BITS
from hwgen.rtl.faults import FAULT_LAYOUT, SEQUENCER, report

EVENTS = tuple(name for name in COUNTERS if name != "cycles")  # each register counts the cycles in which the event of its name is high


def counted(config: HardwareConfig) -> tuple[str, ...]:
    """The counters that this hardware has; the registers of the others read 0."""
    return COUNTERS if config.counters else ALWAYS_COUNTED


def state_layout(config: HardwareConfig) -> data.StructLayout:
    """Contents of the read-only registers."""
    return data.StructLayout(
        {
            "status": data.StructLayout({"busy": 1, "done": 1, "failed": 1}),
            "error": data.StructLayout({"code": 8, "engine": 2}),
            "error_command": INDEX_BITS,
            "error_address": 32,
            **dict.fromkeys(counted(config), 32),
        }
    )


class Control(wiring.Component):
    """Starts, stops and observes the machine.

    Members
    -------
    start, abort : strobes of the host
    watchdog : most cycles a program may take; 0: any number
    finished : the program has ended, and everything is idle
    drained : no transaction and no computation is under way
    faults : per engine, then the sequencer; the first one counts, at a tie that of the lowest number
    events : see EVENTS
    halt : the machine must not work: everything but the bus interfaces is held in reset, and those start nothing new
    state : contents of the read-only registers
    ended : strobes for the interrupt: bit 0 done, bit 1 failed

    Timing
    ------
    `halt` falls in the cycle after `start` and rises in the cycle after the end or the first fault; `cycles` counts the cycles between.
    `status.failed` and the interrupt come at once with a fault, `status.busy` falls when `drained`: if a bus never answers, it stays.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._events = tuple(name for name in counted(config) if name != "cycles")
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "watchdog": In(32),
                "finished": In(1),
                "drained": In(1),
                "faults": In(data.ArrayLayout(FAULT_LAYOUT, SEQUENCER + 1)),
                "events": In(data.StructLayout(dict.fromkeys(EVENTS, 1))),
                "halt": Out(1),
                "state": Out(state_layout(config)),
                "ended": Out(2),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        state, first, engine = self.state, Signal(FAULT_LAYOUT), Signal(2)
        self._choose_fault(m, first, engine)
        m.d.comb += self.halt.eq(1)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start):
                m.d.sync += [state.eq(0), state.status.busy.eq(1)]
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += [self.halt.eq(0), self.ended.eq(Cat(self.finished & ~first.valid, first.valid))]
                m.d.sync += state.cycles.eq(state.cycles + 1)
                with m.If(first.valid):
                    m.d.sync += [state.status.failed.eq(1), state.error.code.eq(first.code), state.error.engine.eq(engine)]
                    m.d.sync += [state.error_command.eq(first.index), state.error_address.eq(first.address)]
                    m.next = "DRAIN"
                with m.Elif(self.finished):
                    m.d.sync += [state.status.busy.eq(0), state.status.done.eq(1)]
                    m.next = "IDLE"
            with m.State("DRAIN"), m.If(self.drained):
                m.d.sync += state.status.busy.eq(0)
                m.next = "IDLE"
        with m.If(state.status.busy):
            for name in self._events:
                m.d.sync += state[name].eq(state[name] + self.events[name])
        return m

    def _choose_fault(self, m: Module, first: data.View[Any], engine: Signal) -> None:
        """Watchdog and abort come last: a fault that the machine itself has found tells more."""
        position = self.state.commands
        for number in range(SEQUENCER + 1):
            with m.If(self.faults[number].valid) if number == 0 else m.Elif(self.faults[number].valid):
                m.d.comb += [first.eq(self.faults[number]), engine.eq(number)]
        with m.Elif((self.watchdog != 0) & (self.state.cycles >= self.watchdog)):
            m.d.comb += [*report(first, ErrorCode.WATCHDOG, position, 0), engine.eq(SEQUENCER)]
        with m.Elif(self.abort):
            m.d.comb += [*report(first, ErrorCode.ABORTED, position, 0), engine.eq(SEQUENCER)]
