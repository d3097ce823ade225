"""The pipelines read off `arith` against their fold: extremes, random operands, gaps, and the latency."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from hwgen.arith import IntType, Rounding
from hwgen.config import HardwareConfig
from hwgen.errors import QuantizationError
from hwgen.rtl.requantizer import Requantizer, ResidualAdder

_SHIFTS = 60  # beyond, int64 of the golden model overflows; no product is that wide
CONFIGS = [HardwareConfig(out_lanes=4, in_lanes=4, requantize_lanes=1, multiplier_bits=bits, rounding=rounding) for bits in (0, 8, 24) for rounding in Rounding]


def draw(rng: random.Random, kind: IntType) -> int:
    return rng.choice([kind.min, kind.max, 0, 1, rng.randint(kind.min, kind.max), rng.randint(kind.min, kind.max) >> rng.randrange(kind.bits)])


def cases(rng: random.Random, inputs: Mapping[str, IntType], compute: Callable[..., Any], count: int) -> list[tuple[dict[str, int], int]]:
    """Operands with the golden result; those that the golden types refuse are drawn again."""
    found: list[tuple[dict[str, int], int]] = []
    while len(found) < count:
        operands = {name: draw(rng, kind) for name, kind in inputs.items()}
        if "shift" in operands:
            operands["shift"] %= _SHIFTS
        try:
            found.append((operands, int(compute(**{name: np.int64(value) for name, value in operands.items()}))))
        except QuantizationError:
            continue
    return found


def stream(dut: Any, drive: Callable[[Any, dict[str, int]], None], vectors: list[tuple[dict[str, int], int]], latency: int, rng: random.Random) -> None:
    """Offer the vectors with random gaps; each result must come `latency` cycles after its operands, announced one cycle earlier."""
    arrivals: dict[int, int] = {}

    async def bench(context: Any) -> None:
        waiting, cycle = list(vectors), 0
        while waiting or cycle <= max(arrivals):
            context.set(dut.valid, 0)
            if waiting and rng.random() < 0.7:
                operands, y = waiting.pop(0)
                drive(context, operands)
                context.set(dut.valid, 1)
                arrivals[cycle + latency] = y & 0xFF
            assert context.get(dut.y_valid) == (cycle in arrivals)
            assert context.get(dut.y_next) == (cycle + 1 in arrivals)
            if cycle in arrivals:
                assert context.get(dut.y) == arrivals[cycle]
            await context.tick()
            cycle += 1

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert len(arrivals) == len(vectors)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.multiplier_bits} bits {c.rounding.value}")
def test_requantizer_is_the_fold_of_its_stages(config: HardwareConfig) -> None:
    rng = random.Random(config.multiplier_bits)
    operation = config.requantize
    vectors = cases(rng, operation.inputs, operation.compute, 150)
    dut = Requantizer(config)

    def drive(context: Any, operands: dict[str, int]) -> None:
        context.set(dut.acc[0], operands["acc"])
        if config.multiplier_bits:
            context.set(dut.rescale[0].multiplier, operands["multiplier"])
        for name in ("shift", "low", "high", "zero_point"):
            context.set(dut.rescale[0].tail[name], operands[name] & 0xFF)

    stream(dut, drive, vectors, len(operation.stages), rng)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.multiplier_bits} bits {c.rounding.value}")
def test_residual_adder_is_the_fold_of_its_stages(config: HardwareConfig) -> None:
    """With the largest multiplier of the residual: a scale of 128 and more does not wrap in 8 bits."""
    rng = random.Random(config.multiplier_bits)
    operation = config.add_requantize
    largest = operation.inputs["multiplier_b"].max if config.multiplier_bits else 12
    constants = {
        "multiplier_a": largest // 3,
        "multiplier_b": largest,
        "offset": -(1 << 20),
        "shift": max(config.multiplier_bits, 12),
        "low": -128,
        "high": 127,
    }
    small = {"a": operation.inputs["a"], "b": operation.inputs["b"]}
    vectors = cases(rng, small, lambda **o: operation.compute(**o, **{name: np.int64(value) for name, value in constants.items()}), 100)
    dut = ResidualAdder(config)

    def drive(context: Any, operands: dict[str, int]) -> None:
        for name, value in constants.items():
            field = getattr(dut.command, f"residual_{name}")
            context.set(field, value)
        context.set(dut.a, operands["a"] & 0xFF)
        context.set(dut.b, operands["b"] & 0xFF)

    stream(dut, drive, vectors, len(operation.stages), rng)
