"""The state of the machine: idle, running or draining; its first error, its counters."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.registers import ALWAYS_COUNTED, COUNTERS, ErrorCode
from hwgen.rtl.command import INDEX_BITS
from hwgen.rtl.faults import FAULT_LAYOUT, SEQUENCER

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
    `halt` falls in the cycle after `start` and rises in the cycle after `finished` or the first fault: nothing that a fault leaves behind
    can move on, and none is overtaken by the end. `cycles` counts the cycles between, that of the end or fault included. One cycle after
    the rise `status` and what else `state` says of the end change at once, with the interrupt. `status.busy` falls then after END, and
    after a fault when `drained`: if a bus never answers, it stays. `faults` may change after the cycle in which they are valid. An event is
    counted a cycle late, but before `busy` falls.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._events = tuple(name for name in counted(config) if name not in ALWAYS_COUNTED)
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
        state, counting, over, failed, starts = self.state, Signal(), Signal(), Signal(), Signal()
        self._count(m, counting)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.halt.eq(1), starts.eq(self.start)]
                with m.If(starts):
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += counting.eq(1)
                m.d.sync += state.cycles.eq(state.cycles + 1)
                with m.If(self.events.commands):
                    m.d.sync += state.commands.eq(state.commands + 1)
                with m.If(over):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += [self.halt.eq(1), counting.eq(failed), self.ended.eq(Cat(~failed, failed))]
                m.d.sync += [state.status.done.eq(~failed), state.status.failed.eq(failed), state.status.busy.eq(failed)]
                m.next = "IDLE"
                with m.If(failed):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += [self.halt.eq(1), counting.eq(1)]
                with m.If(self.drained):
                    m.d.sync += state.status.busy.eq(0)
                    m.next = "IDLE"
        self._judge(m, over, failed)
        with m.If(starts):  # last and outermost, so that flip-flops reset by it rather than by a LUT each
            m.d.sync += [state.eq(0), state.status.busy.eq(1)]
        return m

    def _count(self, m: Module, counting: Signal) -> None:
        """What long conditions raise is counted from registers; `commands`, a position, at once."""
        happened = Signal(len(self._events))
        m.d.sync += happened.eq(Mux(counting, Cat(self.events[name] for name in self._events), 0))
        for name, event in zip(self._events, happened, strict=True):
            with m.If(event):
                m.d.sync += self.state[name].eq(self.state[name] + 1)

    def _judge(self, m: Module, over: Signal, failed: Signal) -> None:
        """`over` ends a run; a cycle later `failed` says how, and the first fault goes to the registers. Watchdog and abort come last: a
        fault that the machine itself has found tells more."""
        state, late, watched, limit = self.state, Signal(), Signal(), Signal(32)
        found, told = Signal(SEQUENCER + 3), Signal(data.ArrayLayout(FAULT_LAYOUT, SEQUENCER + 1), reset_less=True)
        own = Cat(fault.valid for fault in self.faults)
        m.d.comb += [over.eq(self.finished | own.any() | late | self.abort), failed.eq(found.any())]
        m.d.sync += [watched.eq(self.watchdog != 0), limit.eq(self.watchdog - 1), late.eq(~self.halt & watched & (state.cycles >= limit))]
        m.d.sync += [found.eq(Cat(own, late, self.abort)), told.eq(self.faults)]
        first, engine = Signal(FAULT_LAYOUT), Signal(2)
        m.d.comb += [first.index.eq(told[SEQUENCER].index), engine.eq(SEQUENCER)]  # the next command's, also for the last two
        for number in range(SEQUENCER + 1):
            with m.If(found[number]) if number == 0 else m.Elif(found[number]):
                m.d.comb += [first.eq(told[number]), engine.eq(number)]
        with m.Else():
            m.d.comb += first.code.eq(Mux(found[SEQUENCER + 1], ErrorCode.WATCHDOG, ErrorCode.ABORTED))
        with m.If(failed & self.ended.any()):
            m.d.sync += [state.error.code.eq(first.code), state.error.engine.eq(engine)]
            m.d.sync += [state.error_command.eq(first.index), state.error_address.eq(first.address)]
