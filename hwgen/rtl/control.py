"""The state of the machine: idle, running or draining; its first error, its counters."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.registers import ALWAYS_COUNTED, COUNTERS, ErrorCode
from hwgen.rtl.command import INDEX_BITS
from hwgen.rtl.counters import TURN_LAYOUT, Counters
from hwgen.rtl.faults import FAULT_LAYOUT, FirstFault, Source

EVENTS = tuple(name for name in COUNTERS if name != "cycles")  # each register counts the cycles in which the event of its name is high

STATE_LAYOUT = data.StructLayout(  # contents of the read-only registers but counters
    {
        "status": data.StructLayout({"busy": 1, "done": 1, "failed": 1}),
        "error": data.StructLayout({"code": 8, "engine": 2}),
        "error_command": INDEX_BITS,
        "error_address": 32,
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
    faults : by faults.Source; the first one counts, at a tie that of the lowest number
    events : see EVENTS
    halt : the machine must not work: everything but the bus interfaces is held in reset, and those start nothing new
    index : position of the next command: how many were dispatched
    state : contents of the read-only registers but counters, errors only while status.failed; turn : counters, see there
    ended : strobes for the interrupt: bit 0 done, bit 1 failed

    Timing
    ------
    `halt` falls in the cycle after `start` and rises in the cycle after `finished` or the first fault: nothing that a fault leaves behind
    can move on, and none is overtaken by the end. `cycles` counts the cycles between, that of the end or fault included. One cycle after
    the rise `status` and what else `state` says of the end change at once, with the interrupt. `status.busy` falls then after END, and
    after a fault when `drained`: if a bus never answers, it stays. `faults` may change after the cycle in which they are valid. An event is
    counted two cycles late, but before the host can have seen that `busy` fell.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "watchdog": In(config.watchdog_bits),
                "finished": In(1),
                "drained": In(1),
                "faults": In(data.ArrayLayout(FAULT_LAYOUT, Source.SEQUENCER + 1)),
                "events": In(data.StructLayout(dict.fromkeys(EVENTS, 1))),
                "halt": Out(1),
                "index": Out(INDEX_BITS),
                "state": Out(STATE_LAYOUT),
                "turn": Out(TURN_LAYOUT),
                "ended": Out(2),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        state, counting, over, failed, starts = self.state, Signal(), Signal(), Signal(), Signal()
        running = Signal()  # in RUN; a register, because most of the machine hangs on it
        m.d.comb += self.halt.eq(~running)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += starts.eq(self.start)
                with m.If(starts):
                    m.d.sync += running.eq(1)
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += counting.eq(1)
                with m.If(over):
                    m.d.sync += running.eq(0)
                    m.next = "END"
            with m.State("END"):
                m.d.comb += [counting.eq(failed), self.ended.eq(Cat(~failed, failed))]
                m.d.sync += [state.status.done.eq(~failed), state.status.failed.eq(failed), state.status.busy.eq(failed)]
                m.next = "IDLE"
                with m.If(failed):
                    m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.comb += counting.eq(1)
                with m.If(self.drained):
                    m.d.sync += state.status.busy.eq(0)
                    m.next = "IDLE"
        self._count(m, running, counting, starts)
        self._judge(m, running, over, failed)
        with m.If(starts):  # last and outermost, so that flip-flops reset by it rather than by a LUT each
            m.d.sync += [state.status.eq(0), state.status.busy.eq(1), self.index.eq(0), self.elapsed.eq(1)]
        return m

    def _count(self, m: Module, running: Signal, counting: Signal, starts: Signal) -> None:
        """What long conditions raise is counted from registers; `index` at once, and `elapsed`: which cycle of the run this is, the first is 1."""
        m.submodules.counters = counters = Counters(self._config)
        m.d.comb += [counters.clear.eq(starts), self.turn.eq(counters.turn)]
        for name in COUNTERS:
            event = self.events[name] if name in EVENTS else 1
            m.d.sync += counters.events[name].eq((running if name in ALWAYS_COUNTED else counting) & event)
        self.elapsed = Signal(self._config.watchdog_bits)
        with m.If(running):
            m.d.sync += self.elapsed.eq(self.elapsed + 1)
            with m.If(self.events.commands):
                m.d.sync += self.index.eq(self.index + 1)

    def _judge(self, m: Module, running: Signal, over: Signal, failed: Signal) -> None:
        """`over` ends a run; a cycle later `failed` says how, and the first fault stays."""
        m.submodules.first = first = FirstFault()
        late, watched = Signal(), Signal()
        m.d.comb += [first.sources[source].eq(fault) for source, fault in enumerate(self.faults)]
        for source, valid, code in ((Source.WATCHDOG, late, ErrorCode.WATCHDOG), (Source.ABORT, self.abort, ErrorCode.ABORTED)):
            m.d.comb += [first.sources[source].valid.eq(valid), first.sources[source].code.eq(code)]
        m.d.comb += [first.listen.eq(running), first.decide.eq(self.ended.any())]
        m.d.comb += [over.eq(self.finished | first.seen), failed.eq(first.failed)]
        m.d.sync += [watched.eq(self.watchdog != 0), late.eq(running & watched & (self.elapsed >= self.watchdog))]
        m.d.comb += [self.state.error.eq(first.error), self.state.error_command.eq(first.index), self.state.error_address.eq(first.address)]
