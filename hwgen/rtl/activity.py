"""Why the array did not take a pixel: one cause for every cycle of a run."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.isa.fields import Engine
from hwgen.isa.registers import CAUSES

LOST_LAYOUT = data.StructLayout(dict.fromkeys(("setup", "drain", "short_pass", "output", "window"), 1))
CAUSE_LAYOUT = data.StructLayout(dict.fromkeys(CAUSES, 1))


class Activity(wiring.Component):
    """Names the cause of each cycle; see the registers of `isa.registers.CAUSES`.

    Members
    -------
    running : a program runs
    entered : a pixel entered the array
    accepted : the compute engine takes a command
    occupied : it has a command whose pixels have not all entered; `lost` then says why none enters
    idle : it has nothing unfinished
    done : its oldest command is finished
    lacks : the engines whose tokens the next CONV, which is at the compute engine, still lacks
    held_for : the sequencer has a command that cannot leave, of that engine
    ending : it has END, which waits for all
    storing, loading : that engine has something queued or unfinished
    trace_cause : the cause, one bit of CAUSE_LAYOUT while `running`, else none
    trace_accepted, trace_done : `accepted` and `done`, for the co-simulation bench

    Timing
    ------
    No register: a cause belongs to the cycle in which it is shown.
    """

    def __init__(self) -> None:
        flags = ("running", "entered", "accepted", "occupied", "idle", "done", "ending", "storing", "loading")
        super().__init__(
            {
                **dict.fromkeys(flags, In(1)),
                "lost": In(LOST_LAYOUT),
                "lacks": In(len(Engine)),
                "held_for": In(len(Engine)),
                "trace_cause": Out(CAUSE_LAYOUT),
                "trace_accepted": Out(1),
                "trace_done": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """The first that holds: what keeps a command out counts more than that the one before it drains meanwhile."""
        m = Module()
        cause, lost = self.trace_cause, self.lost
        m.d.comb += [self.trace_accepted.eq(self.accepted & self.running), self.trace_done.eq(self.done & self.running)]
        with m.If(~self.running):
            pass
        with m.Elif(self.entered):
            m.d.comb += cause.array_busy.eq(1)
        with m.Elif(self.occupied & (lost.as_value() != 0)):
            m.d.comb += [getattr(cause, f"lost_{name}").eq(lost[name]) for name, _ in LOST_LAYOUT]
        with m.Elif(self.accepted | self.occupied):
            m.d.comb += cause.lost_setup.eq(1)
        with m.Elif(self.lacks[Engine.LOAD] | (self.idle & self.held_for[Engine.LOAD])):
            m.d.comb += cause.wait_load.eq(1)
        with m.Elif(self.lacks[Engine.STORE] | (self.idle & self.held_for[Engine.STORE])):
            m.d.comb += cause.wait_store.eq(1)
        with m.Elif(~self.idle):
            m.d.comb += cause.lost_drain.eq(1)
        with m.Elif(self.ending & self.storing):
            m.d.comb += cause.wait_store.eq(1)
        with m.Elif(self.ending & self.loading):
            m.d.comb += cause.wait_load.eq(1)
        with m.Else():
            m.d.comb += cause.lost_program.eq(1)
        return m
