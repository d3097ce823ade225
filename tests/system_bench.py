"""The assembled system side in Amaranth's simulator, on a memory without stalls; notes what happens in which cycle."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator
from compute_stub import ComputeStub

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Engine, Region
from hwgen.isa.instructions import Command
from hwgen.isa.program import encode
from hwgen.isa.registers import offset_of
from hwgen.rtl.registers import PLACE_BITS
from hwgen.rtl.top import Accelerator

REGION_BYTES = 1 << 14


@dataclass
class Happened:
    """Cycles, counted as register `cycles` does: 0 is the first in which the machine works."""

    dispatched: list[int] = field(default_factory=list)
    accepted: dict[Engine, list[int]] = field(default_factory=lambda: {e: [] for e in Engine})
    done: dict[Engine, list[int]] = field(default_factory=lambda: {e: [] for e in Engine})
    cycles: int = 0


@dataclass
class _Ideal:
    """AR and AW are taken at once; the first bus word comes `latency` cycles later, one per cycle; B `latency` cycles after the last W."""

    top: Accelerator
    program: bytes
    latency: int
    reads: deque[tuple[int, int, bool]] = field(default_factory=deque)  # due, address, last
    responses: deque[int] = field(default_factory=deque)

    def show(self, ctx: Any, now: int) -> None:
        """What the memory drives in cycle `now`."""
        top, size = self.top, self.top.config.bus_bytes
        valid = bool(self.reads) and self.reads[0][0] <= now
        ctx.set(top.m_axi_rvalid, valid)
        if valid:
            _, address, last = self.reads[0]
            ctx.set(top.m_axi_rdata, int.from_bytes(self.program[address : address + size], "little"))
            ctx.set(top.m_axi_rlast, last)
        ctx.set(top.m_axi_bvalid, bool(self.responses) and self.responses[0] <= now)

    def take(self, ctx: Any, now: int) -> None:
        """What is transferred in cycle `now`."""
        top, size = self.top, self.top.config.bus_bytes
        if ctx.get(top.m_axi_rvalid) and ctx.get(top.m_axi_rready):
            self.reads.popleft()
        if ctx.get(top.m_axi_arvalid):
            count = ctx.get(top.m_axi_arlen) + 1
            self.reads += [(now + self.latency, ctx.get(top.m_axi_araddr) + k * size, k == count - 1) for k in range(count)]
        if ctx.get(top.m_axi_bvalid):
            self.responses.popleft()
        if ctx.get(top.m_axi_wvalid) and ctx.get(top.m_axi_wlast):
            self.responses.append(now + self.latency)


def run(commands: Sequence[Command], config: HardwareConfig, latency: int = 1) -> Happened:
    """Run a program once. The program region begins at address 0, the others follow."""
    top = Accelerator(config, ComputeStub(config))
    simulator, happened = Simulator(top), Happened()
    simulator.add_clock(1e-6)

    async def write(ctx: Any, name: str, value: int) -> None:
        for signal, content in (("awaddr", offset_of(name)), ("wdata", value), ("wstrb", 15), ("awvalid", 1), ("wvalid", 1), ("bready", 1)):
            ctx.set(getattr(top, f"s_axil_{signal}"), content)
        await ctx.tick()
        ctx.set(top.s_axil_awvalid, 0)
        ctx.set(top.s_axil_wvalid, 0)
        await ctx.tick().repeat(2)

    async def bench(ctx: Any) -> None:
        memory = _Ideal(top, encode(commands), latency)
        await ctx.tick().repeat(1 << PLACE_BITS)  # in which the registers clear themselves
        for region in Region:
            await write(ctx, f"{region.name.lower()}_base", REGION_BYTES * region)
            await write(ctx, f"{region.name.lower()}_size", REGION_BYTES)
        for channel in ("ar", "aw", "w"):
            ctx.set(getattr(top, f"m_axi_{channel}ready"), 1)
        await write(ctx, "interrupt_enable", 3)
        await write(ctx, "control", 1)
        assert not ctx.get(top.control.halt)
        now = ctx.get(top.control.elapsed) - 1
        while not ctx.get(top.irq):
            memory.show(ctx, now)
            _note(ctx, top, happened, now)
            memory.take(ctx, now)
            await ctx.tick()
            now += 1
            assert now < 20000
        assert ctx.get(top.control.state.status.done), "the program failed"
        happened.cycles = ctx.get(top.control.elapsed) - 1

    simulator.add_testbench(bench)
    simulator.run()
    return happened


def _note(ctx: Any, top: Accelerator, happened: Happened, now: int) -> None:
    if ctx.get(top.sequencer.dispatched):
        happened.dispatched.append(now)
    for engine, gate in top.gates.items():
        if ctx.get(gate.command.valid) and ctx.get(gate.command.ready):
            happened.accepted[engine].append(now)
        if ctx.get(gate.done):
            happened.done[engine].append(now)
