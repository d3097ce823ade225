"""What a block reports when it must stop the machine."""

from __future__ import annotations

import functools
import operator
from enum import IntEnum
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.isa.fields import Engine
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import FAULT_ADDRESS_BITS
from hwgen.rtl.command import INDEX_BITS

CODE_BITS = 8
SEQUENCER = 3  # number of the sequencer in register `error`, behind those of isa.Engine

FAULT_LAYOUT = data.StructLayout({"valid": 1, "code": CODE_BITS, "index": INDEX_BITS, "address": FAULT_ADDRESS_BITS})


def report(fault: Any, code: ErrorCode | Value, index: ValueLike, address: ValueLike) -> list[Any]:
    """Statements that raise `fault` (a view of FAULT_LAYOUT) in this cycle; `address` keeps its low bits."""
    return [fault.valid.eq(1), fault.code.eq(code), fault.index.eq(index), fault.address.eq(Value.cast(address)[:FAULT_ADDRESS_BITS])]


class Source(IntEnum):
    """What can report a fault, the strongest first: engine by engine, then the sequencer, then what the machine has not found itself."""

    LOAD_TOKENS = 0
    LOAD_BUS = 1
    LOAD_ROW = 2
    COMPUTE_TOKENS = 3
    STORE_TOKENS = 4
    STORE_BUS = 5
    STORE_ROW = 6
    SEQUENCER = 7
    WATCHDOG = 8
    ABORT = 9

    @property
    def engine(self) -> int:
        """Its number in register `error`."""
        engine = self.name.split("_")[0]
        return Engine[engine] if engine in Engine.__members__ else SEQUENCER


class FirstFault(wiring.Component):
    """Keeps the first fault of a run. What every source shows is noted in registers, cycle by cycle; then all but the strongest are cleared,
    and what is left is put together: no choice between them for each bit.

    Members
    -------
    sources : by Source; the index of SEQUENCER, valid or not, is that of the next command, which the last two stand for
    listen : note what the sources show
    decide : the cycle after the last one with `listen`
    seen : some source is valid; failed : one was, a cycle ago
    error, index, address : of the fault, from the cycle after `decide` to the next `listen`; if `failed`
    """

    def __init__(self) -> None:
        error = data.StructLayout({"code": CODE_BITS, "engine": 2})
        sources = In(data.ArrayLayout(FAULT_LAYOUT, len(Source)))
        flags = {"listen": In(1), "decide": In(1), "seen": Out(1), "failed": Out(1)}
        super().__init__({"sources": sources, **flags, "error": Out(error), "index": Out(INDEX_BITS), "address": Out(FAULT_ADDRESS_BITS)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        valid, found = Cat(source.valid for source in self.sources), Signal(len(Source))
        told = Signal(self.sources.shape(), reset_less=True)
        m.d.sync += found.eq(valid)
        m.d.comb += [self.seen.eq(valid.any()), self.failed.eq(found.any())]
        with m.If(self.listen):
            m.d.sync += told.eq(self.sources)
        for source in Source:
            note, stronger = told[source], found[:source].any()
            with m.If(self.decide & (stronger | ~found[source])):
                m.d.sync += [note.code.eq(0), note.address.eq(0)]
                if source is not Source.SEQUENCER:
                    m.d.sync += note.index.eq(0)
            if source is Source.SEQUENCER:
                with m.If(self.decide & stronger):
                    m.d.sync += note.index.eq(0)
            with m.If(self.decide & found[source] & ~stronger):
                m.d.sync += self.error.engine.eq(source.engine)
        for name, whole in (("code", self.error.code), ("index", self.index), ("address", self.address)):
            m.d.comb += whole.eq(functools.reduce(operator.or_, (note[name] for note in told)))
        return m
