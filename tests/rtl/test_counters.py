"""The cause of each cycle against a model in Python, and the counters that the hardware has."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Const, Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from hwgen.config import PRESETS, HardwareConfig
from hwgen.isa.fields import Engine, Region
from hwgen.isa.registers import ALWAYS_COUNTED, CAUSES, COUNTERS, IDENTITY, REGISTERS, VERSION, Access, ErrorCode, offset_of
from hwgen.rtl.activity import LOST_LAYOUT, Activity
from hwgen.rtl.control import Control
from hwgen.rtl.counters import WINDOW
from hwgen.rtl.faults import Source
from hwgen.rtl.registers import RegisterFile, region_place

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


class Machine(wiring.Component):
    """State and registers as they are connected in the accelerator; faults and events are the test's."""

    def __init__(self, config: HardwareConfig) -> None:
        self.control, self.registers = Control(config), RegisterFile(config)
        super().__init__({})

    def elaborate(self, platform: Any) -> Module:
        m, control, registers = Module(), self.control, self.registers
        m.submodules.control, m.submodules.registers = control, registers
        m.d.comb += [control.start.eq(registers.start), control.abort.eq(registers.abort), control.watchdog.eq(registers.settings.watchdog)]
        m.d.comb += [registers.state.eq(control.state), registers.turn.eq(control.turn), registers.ended.eq(control.ended), control.drained.eq(1)]
        return m

    async def read(self, ctx: Any, name: str) -> int:
        axil, waited = self.registers.axil, 0
        while not ctx.get(axil.arready):
            await ctx.tick()
        ctx.set(axil.araddr, offset_of(name))
        ctx.set(axil.arvalid, 1)
        ctx.set(axil.rready, 1)
        await ctx.tick()
        ctx.set(axil.arvalid, 0)
        while not ctx.get(axil.rvalid):
            waited += 1
            await ctx.tick()
        assert waited == 2 or (name in COUNTERS and 2 <= waited < 2 + WINDOW), "cycles that the docstring promises"
        value: int = ctx.get(axil.rdata)
        await ctx.tick()
        return value

    async def write(self, ctx: Any, name: str, value: int, strobes: int = 15) -> None:
        axil = self.registers.axil
        for signal, content in (("awaddr", offset_of(name)), ("wdata", value), ("wstrb", strobes), ("bready", 1)):
            ctx.set(getattr(axil, signal), content)
        while not (ctx.get(axil.awready) and ctx.get(axil.wready)):
            await ctx.tick()
        for valid in (1, 0):
            ctx.set(axil.awvalid, valid)
            ctx.set(axil.wvalid, valid)
            await ctx.tick()
        await ctx.tick()


@pytest.mark.parametrize("counters", [True, False])
def test_counters_are_exact_and_begin_anew(counters: bool) -> None:
    """Random events in two runs, the second longer than a window by far; without counters all but two read 0."""
    machine, chooser = Machine(replace(PRESETS["4x4"], counters=counters)), random.Random(5)
    control = machine.control
    shares = {name: chooser.choice([0.03, 0.5, 0.97, 1]) for name in COUNTERS}

    async def bench(ctx: Any) -> None:
        assert [await machine.read(ctx, name) for name in COUNTERS] == [0] * len(COUNTERS), "nothing has run"
        for cycles in (7, 300, 1):
            await machine.write(ctx, "control", 1)
            expected = dict.fromkeys(COUNTERS, 0)
            assert not ctx.get(control.halt)
            for cycle in range(cycles):
                now = {name: int(chooser.random() < share) for name, share in shares.items() if name != "cycles"}
                ctx.set(control.events, now)
                ctx.set(control.finished, cycle == cycles - 1)
                expected = {name: expected[name] + now.get(name, 1) for name in COUNTERS}
                await ctx.tick()
            assert ctx.get(control.halt)
            assert ctx.get(control.index) == expected["commands"]
            kept = COUNTERS if counters else ALWAYS_COUNTED
            assert {name: await machine.read(ctx, name) for name in COUNTERS} == {name: expected[name] * (name in kept) for name in COUNTERS}

    simulate(machine, bench)


@pytest.mark.parametrize("address_bits, watchdog_bits", [(32, 32), (45, 20)])
def test_registers_hold_what_was_written_byte_by_byte(address_bits: int, watchdog_bits: int) -> None:
    """Random writes with random strobes to all offsets; a program that fails at random says so in the registers."""
    config, chooser = replace(PRESETS["4x4"], address_bits=address_bits, watchdog_bits=watchdog_bits), random.Random(9)
    machine, widths = Machine(config), {"watchdog": watchdog_bits, "interrupt_enable": 2}
    writable = {r.name: widths.get(r.name, address_bits - 32 if r.name.endswith("high") else 32) for r in REGISTERS if r.access is Access.READ_WRITE}
    held, fault = dict.fromkeys(writable, 0), {"valid": 1, "code": 6, "index": 0x155AA33, "address": 0xCAFE1234}
    constants = {"identity": IDENTITY, "version": VERSION, "config_hash": config.short_hash}

    async def check(ctx: Any, others: dict[str, int]) -> None:
        for register in REGISTERS:
            if register.name not in COUNTERS:
                assert await machine.read(ctx, register.name) == {**held, **constants, **others}.get(register.name, 0), register.name
        for region, base, size in ((r, f"{r.name.lower()}_base", f"{r.name.lower()}_size") for r in Region):
            for engine, (size_asked, expected) in enumerate(((0, held[base] | held[f"{base}_high"] << 32), (1, held[size]))):
                ctx.set(machine.registers.asks[engine], ctx.get(region_place(Const(region, 3), Const(size_asked, 1))))
                assert ctx.get(machine.registers.answers[engine]) == expected

    async def bench(ctx: Any) -> None:
        await check(ctx, {})
        for _ in range(200):
            register, word, strobes = chooser.choice(REGISTERS), chooser.getrandbits(32), chooser.randrange(16)
            if register.name == "control":
                continue
            await machine.write(ctx, register.name, word, strobes)
            if register.name in held:
                mask = sum(0xFF << 8 * k for k in range(4) if strobes >> k & 1) & (1 << writable[register.name]) - 1
                held[register.name] = held[register.name] & ~mask | word & mask
        await machine.write(ctx, "watchdog", 0)
        held["watchdog"] = 0
        await check(ctx, {})
        await machine.write(ctx, "control", 1)
        ctx.set(machine.control.faults[Source.STORE_ROW], fault)
        await ctx.tick().repeat(4)
        await check(
            ctx, {"status": 4, "error": 6 | Engine.STORE << 8, "error_command": fault["index"], "error_address": fault["address"], "interrupt_status": 2}
        )

    simulate(machine, bench)


@pytest.mark.parametrize("watchdog", [1, 5, 40])
def test_the_watchdog_ends_a_program_in_its_cycle(watchdog: int) -> None:
    machine = Machine(PRESETS["4x4"])

    async def bench(ctx: Any) -> None:
        await machine.write(ctx, "watchdog", watchdog)
        await machine.write(ctx, "control", 1)
        await ctx.tick().repeat(watchdog + 20)
        shown = [await machine.read(ctx, name) for name in ("status", "error", "error_address", "cycles")]
        assert shown == [4, ErrorCode.WATCHDOG | 3 << 8, 0, watchdog + 1]

    simulate(machine, bench)
