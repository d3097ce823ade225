"""The cause of each cycle against a model in Python, and the counters that the hardware has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from amaranth.sim import Simulator

from hwgen.config import PRESETS
from hwgen.isa.fields import Engine
from hwgen.isa.registers import ALWAYS_COUNTED, CAUSES, COUNTERS, REGISTERS, offset_of
from hwgen.rtl.activity import LOST_LAYOUT, Activity
from hwgen.rtl.control import Control
from hwgen.rtl.registers import RegisterFile

FLAGS = ("running", "entered", "accepted", "occupied", "idle", "done", "ending", "storing", "loading")


def simulate(dut: Any, bench: Callable[[Any], Any], *, clocked: bool = True) -> None:
    simulator = Simulator(dut)
    if clocked:
        simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def cause_of(now: dict[str, Any]) -> str:
    """Why no pixel entered, in words: what the machine was doing."""
    if now["entered"]:
        return "array_busy"
    if now["occupied"] or now["accepted"]:
        return f"lost_{now['lost']}" if now["occupied"] and now["lost"] else "lost_setup"
    behind = {e for e in Engine if now["idle"] and now["held_for"] >> e & 1}  # a CONV may stand behind that command
    missing = {e for e in Engine if now["lacks"] >> e & 1} | behind
    if Engine.LOAD in missing:
        return "wait_load"
    if Engine.STORE in missing:
        return "wait_store"
    if not now["idle"]:
        return "lost_drain"
    return "wait_store" if now["ending"] and now["storing"] else "wait_load" if now["ending"] and now["loading"] else "lost_program"


def test_every_running_cycle_has_exactly_one_cause() -> None:
    dut, chooser, seen = Activity(), random.Random(11), set()
    kinds = [name for name, _ in LOST_LAYOUT]

    async def bench(ctx: Any) -> None:
        for _ in range(3000):
            now: dict[str, Any] = {name: chooser.random() < (0.2 if name in ("entered", "accepted", "occupied") else 0.6) for name in FLAGS}
            now |= {"lost": chooser.choice([None, *kinds]), "lacks": chooser.choice([0, 0, 1, 4, 5]), "held_for": chooser.choice([0, 1, 2, 4])}
            for name, value in now.items():
                ctx.set(getattr(dut, name), {kind: int(kind == value) for kind in kinds} if name == "lost" else value)
            shown = {cause for cause in CAUSES if ctx.get(dut.trace_cause[cause])}
            assert shown == ({cause_of(now)} if now["running"] else set()), now
            assert (ctx.get(dut.trace_accepted), ctx.get(dut.trace_done)) == (now["accepted"] and now["running"], now["done"] and now["running"])
            seen.update(shown)

    simulate(dut, bench, clocked=False)
    assert seen == set(CAUSES)


@pytest.mark.parametrize("counters", [True, False])
def test_hardware_without_counters_reads_zero_there(counters: bool) -> None:
    """Every event is high for seven cycles of a run; every counter is read."""
    config = replace(PRESETS["4x4"], counters=counters)
    control, registers = Control(config), RegisterFile(config)
    assert set(control.state.shape().members) & set(COUNTERS) == set(COUNTERS if counters else ALWAYS_COUNTED)
    found: dict[str, int] = {}

    async def count(ctx: Any) -> None:
        ctx.set(control.events, {name: 1 for name in COUNTERS if name != "cycles"})
        ctx.set(control.start, 1)
        await ctx.tick()
        ctx.set(control.start, 0)
        await ctx.tick().repeat(6)
        ctx.set(control.finished, 1)
        await ctx.tick()
        await ctx.tick().repeat(3)
        found.update({name: ctx.get(control.state[name]) for name in control.state.shape().members if name in COUNTERS})

    simulate(control, count)
    assert found == dict.fromkeys(COUNTERS if counters else ALWAYS_COUNTED, 7)

    async def read(ctx: Any) -> None:
        for name in registers.state.shape().members:
            if name in COUNTERS:
                ctx.set(registers.state[name], offset_of(name))
        for register in REGISTERS:
            if register.name not in COUNTERS:
                continue
            ctx.set(registers.axil.araddr, register.offset)
            ctx.set(registers.axil.arvalid, 1)
            await ctx.tick()
            ctx.set(registers.axil.arvalid, 0)
            for _ in range(2):
                assert not ctx.get(registers.axil.rvalid)
                await ctx.tick()
            assert ctx.get(registers.axil.rvalid)
            assert ctx.get(registers.axil.rdata) == (register.offset if counters or register.name in ALWAYS_COUNTED else 0), register.name
            ctx.set(registers.axil.rready, 1)
            await ctx.tick()

    simulate(registers, read)
