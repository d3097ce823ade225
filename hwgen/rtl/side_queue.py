"""What travels beside a pipeline: put in at its start, taken out at its end."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class SideQueue(wiring.Component):
    """A queue that its user can neither overfill nor read when empty, since the pipeline beside it holds as many entries.

    Members: `push` with `value`; `pop`; `front`.
    Timing: `front` follows `pop` by one cycle. An entry may be popped 2 cycles after it was pushed.
    """

    def __init__(self, shape: ShapeLike, depth: int) -> None:
        self.shape, self.depth = shape, 1 << ceil_log2(depth)
        super().__init__({"push": In(1), "value": In(shape), "pop": In(1), "front": Out(shape)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=self.shape, depth=self.depth, init=[])
        read, write = memory.read_port(), memory.write_port()
        head, tail = Signal(range(self.depth)), Signal(range(self.depth))
        m.d.comb += [write.en.eq(self.push), write.addr.eq(head), write.data.eq(self.value), read.en.eq(self.pop), read.addr.eq(tail), self.front.eq(read.data)]
        with m.If(self.push):
            m.d.sync += head.eq(head + 1)
        with m.If(self.pop):
            m.d.sync += tail.eq(tail + 1)
        return m
