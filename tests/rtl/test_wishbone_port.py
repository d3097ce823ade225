"""Reads through the Wishbone port: every word once, in order, and on R from the cycle of its answer on, however R is held back."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest
from amaranth.sim import Simulator, SimulatorContext

from hwgen.config import PRESETS, Bus
from hwgen.isa.latency import BURST_BEATS
from hwgen.rtl.wishbone import WORDS_UNDER_WAY, WishbonePort

CONFIG = replace(PRESETS["4x4"], bus=Bus.WISHBONE, bus_bits=32)
WORDS = 20 * BURST_BEATS
WORD_BYTES = CONFIG.bus_bytes


class _Memory:
    """Answers address a with a // WORD_BYTES, in order, `latency` cycles later or more."""

    def __init__(self, latency: int, pauses: float, chooser: random.Random) -> None:
        self.latency, self.pauses, self.chooser = latency, pauses, chooser
        self.asked: deque[tuple[int, int]] = deque()  # (cycle of the answer at the earliest, word)

    def answer(self, cycle: int) -> int | None:
        if self.asked and self.asked[0][0] <= cycle and self.chooser.random() >= self.pauses:
            return self.asked.popleft()[1]
        return None


@pytest.mark.parametrize(("latency", "pauses"), [(1, 0.0), (3, 0.5), (40, 0.0), (WORDS_UNDER_WAY + 10, 0.0)])
@pytest.mark.parametrize("ready", ["always", "mostly", "half", "seldom", "in turns"])
def test_words_are_there_from_their_answer_on(latency: int, pauses: float, ready: str) -> None:
    port, chooser = WishbonePort(CONFIG), random.Random(f"{latency} {ready}")
    memory, seen = _Memory(latency, pauses, chooser), list[int]()

    def takes(cycle: int) -> bool:
        shares = {"always": 1.0, "mostly": 0.9, "half": 0.5, "seldom": 0.1}
        return bool(cycle // 150 % 2 and cycle % 3 == 0) if ready == "in turns" else chooser.random() < shares[ready]

    async def bench(sim: SimulatorContext) -> None:
        bus, answered, requested = port.bus, 0, 0
        for cycle in range(40 * WORDS):
            sim.set(port.ar.valid, requested < WORDS)
            sim.set(port.ar.payload.address, requested * WORD_BYTES)
            sim.set(port.ar.payload.length, BURST_BEATS - 1)
            word, take = memory.answer(cycle), takes(cycle)
            sim.set(bus.ack_i, word is not None)
            sim.set(bus.dat_i, 0 if word is None else word)
            sim.set(port.r.ready, take)
            answered += word is not None
            assert sim.get(port.r.valid) == (answered > len(seen)), f"cycle {cycle}: {answered} words answered, {len(seen)} taken"
            assert answered + len(memory.asked) - len(seen) <= WORDS_UNDER_WAY
            if take and sim.get(port.r.valid):
                assert sim.get(port.r.payload.last) == (len(seen) % BURST_BEATS == BURST_BEATS - 1)
                seen.append(sim.get(port.r.payload.data))
            if sim.get(bus.stb_o) and sim.get(bus.cyc_o):
                memory.asked.append((cycle + latency, sim.get(bus.adr_o) // WORD_BYTES))
            if sim.get(port.ar.valid) and sim.get(port.ar.ready):
                requested += BURST_BEATS
            if len(seen) == WORDS:
                break
            await sim.tick()

    simulator = Simulator(port)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == list(range(WORDS))
