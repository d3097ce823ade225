"""From Q results to a masked write of a word."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.activation_buffer import granule_bytes, port_of, write_layout
from hwgen.rtl.fetch import result_layout
from hwgen.rtl.side_queue import SideQueue


class Writer(wiring.Component):
    """Members: `push` with `result` when a slice is sent on its way; `soon` two cycles before its `y` is there. `write` goes to the
    buffer in the cycle of `y`; `done` is the command's last.
    Timing: none of its own. Where a result goes is decoded in the cycle before: behind it lie the way to all memories of the buffer.
    """

    def __init__(self, config: HardwareConfig, depth: int) -> None:
        self.config, self.depth = config, depth
        super().__init__(
            {
                "push": In(1),
                "result": In(result_layout(config)),
                "soon": In(1),
                "y": In(8 * config.requantize_lanes),
                "write": Out(write_layout(config)),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        q, groups = c.requantize_lanes, c.in_lanes // c.requantize_lanes
        m.submodules.places = places = SideQueue(result_layout(c), self.depth)
        place, write, next_ = places.front, self.write, Signal()
        m.d.comb += [places.push.eq(self.push), places.value.eq(self.result), places.pop.eq(self.soon), write.data.eq(self.y.replicate(groups))]
        m.d.sync += [
            next_.eq(self.soon),
            write.address.eq(place.address),
            write.ports.eq(Mux(next_ & place.write, 1 << port_of(place.address), 0)),
            self.done.eq(next_ & place.final),
        ]
        granules = q // granule_bytes(c)
        for g in range(groups):
            m.d.sync += write.mask[granules * g : granules * (g + 1)].eq((place.group == g).replicate(granules))
        return m
