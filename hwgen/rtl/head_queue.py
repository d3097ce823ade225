"""A queue from whose flags and head only wires lead."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Shape, ShapeLike, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class HeadQueue(wiring.Component):
    """A queue whose oldest entry is in a register; the others wait in a LUT memory, a single one in a register too.

    Members
    -------
    source : what comes in
    head : what goes out
    moves, following : the head's register takes a new entry, or anything where none comes; which

    Timing
    ------
    An entry that enters an empty queue in cycle t is offered from t + 1 on, one behind another from the cycle after that one was taken.
    `source.ready` depends on no input: a full queue takes nothing in the cycle in which an entry leaves.
    `early`: `source.payload` is there a cycle before `source.valid`, which was low then. What comes already waits when it is taken, so
    the head's register takes all from one place: no choice for each bit of an entry.
    """

    def __init__(self, shape: ShapeLike, depth: int, *, early: bool = False) -> None:
        self._shape, self._depth, self._early = shape, depth, early
        ends = {"source": In(stream.Signature(shape)), "head": Out(stream.Signature(shape))}
        super().__init__({**ends, "moves": Out(1), "following": Out(Shape.cast(shape).width)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        source, head, width = self.source, self.head, Shape.cast(self._shape).width
        payload, behind = Signal(width, reset_less=True), Signal(width)
        put, got, waits = Signal(), Signal(), Signal()
        m.d.comb += [head.payload.eq(payload), put.eq(source.valid & source.ready), got.eq(head.valid & head.ready)]
        m.d.comb += [self.moves.eq(~head.valid | head.ready), self.following.eq(behind if self._early else Mux(waits, behind, source.payload))]
        with m.If(self.moves):
            m.d.sync += payload.eq(self.following)
        self._flags(m, put, got, waits)
        if self._depth == 2:
            waiting = Signal(width, reset_less=True)
            m.d.comb += behind.eq(waiting)
            with m.If(~waits | (got & self._early)):
                m.d.sync += waiting.eq(source.payload)
        else:
            self._ring(m, behind, put, (put & ~head.valid) | (got & (waits | put)) if self._early else got)
        return m

    def _flags(self, m: Module, put: Signal, got: Signal, waits: Signal) -> None:
        """How many entries there are, and what follows from it (`waits`: one behind the head) a cycle ahead; `got` comes late."""
        count, room, valid = Signal(range(self._depth + 1)), Signal(init=1), self.head.valid
        with m.If(put ^ got):
            m.d.sync += count.eq(Mux(put, count + 1, count - 1))
        m.d.sync += [
            valid.eq(put | (valid & ~(got & (count == 1)))),
            waits.eq(Mux(got, (count > 2) | (put & (count == 2)), (count > 1) | (put & (count == 1)))),
            room.eq(got | (room & ~(put & (count == self._depth - 1)))),
        ]
        m.d.comb += self.source.ready.eq(room)

    def _ring(self, m: Module, behind: Value, put: Signal, onward: Value) -> None:
        """Every entry has a place, also that in the head's register. What stands at the next free place, or is the head's, may be anything:
        so a write needs no condition. What is read is behind the head; with `early`, of an empty queue, the next free place."""
        m.submodules.memory = memory = Memory(shape=len(behind), depth=1 << ceil_log2(self._depth), init=[])
        write, read, second = memory.write_port(), memory.read_port(domain="comb"), Signal(ceil_log2(self._depth), init=0 if self._early else 1)
        m.d.comb += [write.en.eq(1), write.data.eq(self.source.payload), read.addr.eq(second), behind.eq(read.data)]
        with m.If(put):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(onward):
            m.d.sync += second.eq(second + 1)
