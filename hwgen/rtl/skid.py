"""A place for one entry, so that the source of a stream need not know in the same cycle whether it is taken."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Skid(wiring.Component):
    """Members: `valid`, `value` go in with `ready`, which is a register; they come out as `out_valid`, `out` with `advance`.

    Timing: an entry passes in the cycle in which it comes, unless another waits. One entry per cycle, whatever `advance` does.
    """

    def __init__(self, shape: ShapeLike) -> None:
        self.shape = shape
        super().__init__({"valid": In(1), "value": In(shape), "ready": Out(1), "out_valid": Out(1), "out": Out(shape), "advance": In(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        waits, waiting = Signal(), Signal(self.shape, reset_less=True)
        m.d.comb += [self.ready.eq(~waits), self.out_valid.eq(waits | self.valid), self.out.eq(Mux(waits, waiting.as_value(), self.value.as_value()))]
        m.d.sync += waits.eq(self.out_valid & ~self.advance)
        with m.If(~waits):
            m.d.sync += waiting.eq(self.value)
        return m
