"""The state of the serial machine: idle, running, or telling how a run ended."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.isa.registers import ErrorCode
from hwgen.rtl.command import INDEX_BITS
from hwgen.rtl.faults import SEQUENCER
from hwgen.rtl.parameter_set import pick
from hwgen.rtl.serial.registers import NUMBER_BITS, number_of

CODE_BITS = 4
_TOLD = ("cycles", "error", "error_address", "error_command", "commands")  # the last one behind the one that fails


class SerialControl(wiring.Component):
    """Starts and stops the machine, counts its cycles, and writes the read-only registers.

    Members
    -------
    start, abort : strobes of the host
    watchdog : content of that register, while `asks_watchdog`
    decoded : a command was decoded; `leaves`: it is done
    index : position of the command at hand
    finished : END was decoded
    fault, code, engine, address : why the machine must stop, told once
    settled : nothing is under way on the bus
    halt : the machine must not work; `running`: the cycle counts
    write, number, word : to the registers
    status : of register `status`; `ended`: strobes of the interrupt, bit 0 done, bit 1 failed

    Timing
    ------
    Start clears the registers in the first cycles of a run, which count. The end is told when all registers are written; `status.busy`
    falls then, or after an error when `settled`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "watchdog": In(32),
                "asks_watchdog": Out(1),
                "decoded": In(1),
                "leaves": In(1),
                "index": Out(INDEX_BITS),
                "finished": In(1),
                "fault": In(1),
                "code": In(CODE_BITS),
                "engine": In(2),
                "address": In(32),
                "settled": In(1),
                "halt": Out(1),
                "running": Out(1),
                "write": Out(1),
                "number": Out(NUMBER_BITS),
                "word": Out(32),
                "status": Out(3),
                "ended": Out(2),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        cycles, left, watched = Signal(32), Signal(32), Signal()
        code, engine, step, executing = Signal(CODE_BITS), Signal(2), Signal(3), Signal()
        busy, done, failed, own, aborted = (Signal(name=n) for n in ("busy", "done", "failed", "own", "aborted"))
        told = [Const(number_of(name), NUMBER_BITS) for name in (*_TOLD, *_TOLD[-1:] * 3)]
        m.d.comb += [self.status.eq(Cat(busy, done, failed)), self.number.eq(pick(told, step))]
        with m.If(self.decoded):
            m.d.sync += executing.eq(1)
        with m.If(self.leaves):
            m.d.sync += [self.index.eq(self.index + 1), executing.eq(0)]
        with m.If(self.running):
            m.d.sync += [cycles.eq(cycles + 1), left.eq(left - left.any())]
            with m.If(self.abort):
                m.d.sync += aborted.eq(1)
        late = watched & ~left.any()
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.halt.eq(1), self.asks_watchdog.eq(1)]
                m.d.sync += [aborted.eq(0), cycles.eq(0), step.eq(0), self.index.eq(0), executing.eq(0)]
                m.d.sync += [watched.eq(self.watchdog.any()), left.eq(self.watchdog)]
                with m.If(self.start & ~busy):
                    m.d.sync += [busy.eq(1), done.eq(0), failed.eq(0), code.eq(ErrorCode.NONE), engine.eq(0)]
                    m.next = "CLEAR"
            with m.State("CLEAR"):
                m.d.comb += [self.halt.eq(1), self.write.eq(1), self.running.eq(1)]
                m.d.sync += step.eq(step + 1)
                with m.If(step == len(_TOLD) - 1):
                    m.d.sync += step.eq(0)
                    m.next = "RUN"
            self._run(m, late | aborted, late, code, engine, own)
            with m.State("TELL"):
                m.d.comb += [self.halt.eq(1), self.write.eq(1)]
                self._tell(m, step, cycles, code, engine, own)
                m.d.sync += step.eq(step + 1)
                with m.If(step == _TOLD.index("error_command")):
                    m.d.sync += self.index.eq(self.index + executing)
                with m.If(step == len(_TOLD) - 1):
                    m.next = "END"
            with m.State("END"):
                failing = code != ErrorCode.NONE
                m.d.comb += [self.halt.eq(1), self.ended.eq(Cat(~failing, failing))]
                m.d.sync += [busy.eq(failing), done.eq(~failing), failed.eq(failing)]
                m.next = "SETTLE"
            with m.State("SETTLE"):
                m.d.comb += self.halt.eq(1)
                with m.If(self.settled):
                    m.d.sync += busy.eq(0)
                    m.next = "IDLE"
        return m

    def _run(self, m: Module, stopped: Value, late: Value, code: Signal, engine: Signal, own: Signal) -> None:
        """RUN, to END, to a fault, or until the machine is stopped; a fault that it has found itself tells more."""
        with m.State("RUN"):
            m.d.comb += self.running.eq(1)
            with m.If(self.finished):
                m.next = "TELL"
            with m.Elif(self.fault):
                m.d.sync += [code.eq(self.code), engine.eq(self.engine), own.eq(0)]
                m.next = "TELL"
            with m.Elif(stopped):
                m.d.sync += [code.eq(Mux(late, ErrorCode.WATCHDOG, ErrorCode.ABORTED)), engine.eq(SEQUENCER), own.eq(1)]
                m.next = "TELL"

    def _tell(self, m: Module, step: Signal, cycles: Signal, code: Signal, engine: Signal, own: Signal) -> None:
        """The word of this step; without an error there is no command and no address of it."""
        failing = code.any()
        with m.Switch(step):
            with m.Case(_TOLD.index("cycles")):
                m.d.comb += self.word.eq(cycles)
            with m.Case(_TOLD.index("error")):
                m.d.comb += self.word.eq(Cat(code, Const(0, 8 - CODE_BITS), engine))
            with m.Case(_TOLD.index("error_address")):
                m.d.comb += self.word.eq(Mux(failing & ~own, self.address, 0))
            with m.Case(_TOLD.index("error_command")):
                m.d.comb += self.word.eq(Mux(failing, self.index, 0))
            with m.Default():
                m.d.comb += self.word.eq(self.index)
