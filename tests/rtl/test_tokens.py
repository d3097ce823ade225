"""Token counters and token gates against a model in Python, under random traffic."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from amaranth.sim import Simulator

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Engine
from hwgen.isa.instructions import Load
from hwgen.rtl.tokens import TokenCounters, TokenGate

PAIRS = [(giver, taker) for giver in Engine for taker in Engine]


def simulate(dut: Any, bench: Any) -> None:
    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize("seed", range(3))
def test_counters_follow_any_mix_of_given_and_taken_tokens(seed: int) -> None:
    dut, chooser, counts = TokenCounters(), random.Random(seed), dict.fromkeys(PAIRS, 0)

    async def bench(ctx: Any) -> None:
        for _ in range(400):
            give = {pair: chooser.random() < 0.5 for pair in PAIRS}
            take = {pair: counts[pair] > 0 and chooser.random() < 0.5 for pair in PAIRS}
            for engine in Engine:
                ctx.set(dut.give[engine], sum(give[(engine, taker)] << taker for taker in Engine))
                ctx.set(dut.take[engine], sum(take[(giver, engine)] << giver for giver in Engine))
            for giver, taker in PAIRS:
                assert ctx.get(dut.available[taker]) >> giver & 1 == (counts[(giver, taker)] > 0)
            await ctx.tick()
            for pair in PAIRS:
                counts[pair] += give[pair] - take[pair]

    simulate(dut, bench)
    assert max(counts.values()) > 10


def test_overflow_names_the_giver_a_cycle_later_and_only_when_no_token_is_taken_at_once() -> None:
    dut = TokenCounters()

    async def bench(ctx: Any) -> None:
        ctx.set(dut.give[Engine.STORE], 1 << Engine.COMPUTE)
        for _ in range(255):
            await ctx.tick()
            assert ctx.get(dut.overflow) == 0
        ctx.set(dut.take[Engine.COMPUTE], 1 << Engine.STORE)
        await ctx.tick()
        assert ctx.get(dut.overflow) == 0
        ctx.set(dut.take[Engine.COMPUTE], 0)
        await ctx.tick()
        assert ctx.get(dut.overflow) == 1 << Engine.STORE

    simulate(dut, bench)


@pytest.mark.parametrize("depth", [2, 3, 4])
@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_gate_keeps_order_waits_for_tokens_and_gives_those_of_the_finished_command(seed: int, early: bool, depth: int) -> None:
    """`early`: commands stand at the gate for a cycle before they are offered."""
    dut, chooser = TokenGate(Load, depth, HardwareConfig(), early=early), random.Random(seed)
    queued: deque[dict[str, int]] = deque()
    running: deque[dict[str, int]] = deque()
    passed: list[int] = []

    async def bench(ctx: Any) -> None:
        index, before, fresh, offer = 0, None, True, {}
        for _ in range(600):
            if fresh or not early:
                offer = {"wait": chooser.choice([0, 0, 1, 2, 5, 7]), "signal": chooser.randrange(8), "index": index}
            available = chooser.choice([0, 1, 7, 7, 7])
            ctx.set(dut.source.valid, valid := chooser.random() < 0.6 and not (early and fresh))
            for name, value in offer.items():
                ctx.set(dut.source.payload[name], value)
            ctx.set(dut.source.payload.operands.rows, index % 65536)
            ctx.set(dut.available, available)
            ctx.set(dut.command.ready, ready := chooser.random() < 0.7)
            ctx.set(dut.done, done := bool(running) and chooser.random() < 0.3)

            allowed = bool(queued) and not queued[0]["wait"] & ~available
            assert ctx.get(dut.waiting) == (bool(queued) and not allowed)
            assert ctx.get(dut.busy) == bool(running) and ctx.get(dut.idle) == (not queued and not running)
            assert ctx.get(dut.command.valid) == (allowed and len(running) < 8)
            accepted = ready and allowed and len(running) < 8
            assert ctx.get(dut.take) == (queued[0]["wait"] if accepted else 0)
            assert ctx.get(dut.give) == (running[0]["signal"] if done else 0)
            assert not running or ctx.get(dut.oldest) == running[0]["index"]
            assert before is None or ctx.get(dut.before) == before
            before = running[0]["index"] if running else None
            taken = valid and ctx.get(dut.source.ready)
            assert ctx.get(dut.source.ready) == (len(queued) < depth)
            if allowed:
                assert (ctx.get(dut.index), ctx.get(dut.command.payload.rows)) == (queued[0]["index"], queued[0]["index"])
            await ctx.tick()
            if done:
                running.popleft()
            if accepted:
                passed.append(queued[0]["index"])
                running.append(queued.popleft())
            fresh = bool(taken)
            if taken:
                queued.append(offer)
                index += 1

    simulate(dut, bench)
    assert passed == list(range(len(passed))) and len(passed) > 50
