"""From Q results to a masked write of a word."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.activation_buffer import granule_bytes, write_layout
from hwgen.rtl.fetch import result_layout
from hwgen.rtl.side_queue import SideQueue


class Writer(wiring.Component):
    """Members: `push` with `result` when a slice is sent on its way; `next` one cycle before its `y` is `valid`. `write` goes to the
    buffer; `done` is the command's last.
    Timing: none of its own.
    """

    def __init__(self, config: HardwareConfig, depth: int) -> None:
        self.config, self.depth = config, depth
        super().__init__(
            {
                "push": In(1),
                "result": In(result_layout(config)),
                "next": In(1),
                "valid": In(1),
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
        m.d.comb += [places.push.eq(self.push), places.value.eq(self.result), places.pop.eq(self.next)]
        place = places.front
        m.d.comb += [self.write.address.eq(place.address), self.write.data.eq(self.y.replicate(groups)), self.done.eq(self.valid & place.final)]
        granules = q // granule_bytes(c)
        for g in range(groups):
            m.d.comb += self.write.mask[granules * g : granules * (g + 1)].eq((self.valid & place.write & (place.group == g)).replicate(granules))
        return m
