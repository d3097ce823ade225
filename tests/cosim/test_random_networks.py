"""Golden model = RTL on random networks: every word of every layer, with and without stalls on every bus.

The simulation depends on the hardware alone, so each configuration here is compiled once for all networks.
"""

import contextlib
import dataclasses
import os
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import random_graph, separable, with_wide_weights
from random_hardware import check_hardware, check_network, random_hardware
from schedule_support import cheap_cascade
from system_support import CONFIGS, SMALL, check_on_rtl

from hwgen.config import Bus, HardwareConfig, with_array
from hwgen.cosim.job import MemoryModel
from hwgen.errors import CapacityError
from hwgen.isa.instructions import Conv
from hwgen.schedule import segments
from hwgen.schedule.compile import compile_network

REGRESS = bool(os.environ.get("HWGEN_REGRESS"))
SEEDS = (5, 9, 11)
REGRESS_CONFIGS = {
    "1x4": replace(with_array(SMALL, "1x4"), multiplier_bits=8),
    "64x4": with_array(SMALL, "64x4"),
    "2x32": with_array(SMALL, "2x32"),
    "16x16": replace(SMALL, requantize_lanes=4),
    "32x32": with_array(SMALL, "32x32"),
}


MEMORIES = st.builds(
    MemoryModel,
    latency_cycles=st.sampled_from([1, 1, 7, 40]),
    stall_probability=st.sampled_from([0.0, 0.0, 0.2, 0.6]),
    seed=st.integers(1, 1000),
    aligned=st.booleans(),
)


@pytest.mark.parametrize("name", [*CONFIGS, *(REGRESS_CONFIGS if REGRESS else ())])
def test_golden_equals_rtl(name):
    config = (CONFIGS | REGRESS_CONFIGS)[name]

    @settings(max_examples=200 if REGRESS else 15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=st.integers(0, 10**6), memory=MEMORIES)
    def check(seed, memory):
        check_network(config, seed, memory)

    check()


# Small arrays, which compile fast; `make regress` draws hundreds of any size. Together: both buses, with and without counters.
@pytest.mark.parametrize("seed", SEEDS)
def test_golden_equals_rtl_on_random_hardware(seed):
    outcome = check_hardware(seed, most_multipliers=32, networks=12)
    assert not outcome.failure, outcome.failure
    assert outcome.ran >= 5, outcome.config


def test_the_seeds_draw_what_they_should():
    drawn = [random_hardware(seed, 32) for seed in SEEDS]
    assert {config.bus for config in drawn} == set(Bus)
    assert {config.counters for config in drawn} == {True, False}
    assert len({(config.out_lanes, config.in_lanes) for config in drawn}) == len(SEEDS)
    many = [random_hardware(seed) for seed in range(300)]
    for field in dataclasses.fields(HardwareConfig):
        assert len({getattr(config, field.name) for config in many}) > 1, f"{field.name} is always the same"
    assert {c.out_lanes for c in many} == {1, 2, 4, 8, 16, 32} and {c.in_lanes for c in many} == {4, 8, 16, 32}


TIGHT = replace(with_array(SMALL, "8x8"), name="tight", activation_words=256, weight_words=128, parameter_words=64)  # hardly anything fits as a whole


def _ways(network):
    """Which ways of the scheduler a program went: tiles, weights that stay, sums that stay between commands."""
    return {
        "tiled": any(len({part.view for part in layer.parts}) > 1 for layer in network.layers),
        "resident": network.resident is not None,
        "keep": any(isinstance(command, Conv) and command.keep for command in network.commands),
    }


def test_networks_larger_than_the_buffers():
    """Both programs, the one that loads weights and the one that finds them: every word, and every cycle as predicted."""
    counts, ran = Counter(), 0
    for seed in range(400):
        with contextlib.suppress(CapacityError):
            network = compile_network(random_graph(seed, nodes=6), TIGHT)
            ways = {way for way, taken in _ways(network).items() if taken}
            if network.prediction.total_cycles > 20_000 or not any(counts[way] < 4 for way in ways):
                continue
            counts.update(ways)
            check_on_rtl(network, MemoryModel() if ran % 3 else MemoryModel(latency_cycles=13, stall_probability=0.3 * (ran % 2), seed=seed + 1))
            ran += 1
        if ran >= 5 and min(counts[way] for way in ("tiled", "resident", "keep")) >= 4:
            return
    raise AssertionError(f"hardly any network is like that: {counts}")


def test_cascades(monkeypatch):
    """A convolution and the depthwise one behind it, stripe by stripe: every word, and every cycle as predicted."""
    monkeypatch.setattr(segments, "best_cascade", cheap_cascade)
    ran = 0
    for seed in range(200):
        with contextlib.suppress(CapacityError):
            network = compile_network(separable(seed), TIGHT)
            above, below = (layer.commands for layer in network.layers[:2])
            if len(below) > 2 and above[-1] > below[0] and network.prediction.total_cycles < 20_000:
                check_on_rtl(network, MemoryModel() if ran % 3 else MemoryModel(latency_cycles=13, stall_probability=0.3, seed=seed + 1))
                ran += 1
        if ran == 6:
            return
    raise AssertionError(f"only {ran} networks are like that")


def test_weights_of_nine_bits():
    """Commands that go on with kept sums in dense, depthwise and packed mode; every word, and every cycle as predicted."""
    modes = set()
    for seed in range(100):
        with contextlib.suppress(CapacityError):
            network = compile_network(with_wide_weights(random_graph(seed, nodes=6)), TIGHT)
            resumed = {command.mode for command in network.commands if isinstance(command, Conv) and command.resume}
            if network.prediction.total_cycles < 20_000 and not resumed <= modes:
                modes |= resumed
                check_on_rtl(network, MemoryModel(latency_cycles=3))
        if len(modes) == 3:
            return
    raise AssertionError(f"only the modes {modes} go on with kept sums")


def test_stalls_change_cycles_only():
    """Hardware: bus stalls at every beat."""
    config = CONFIGS["8x16"]
    ideal = check_network(config, 11, MemoryModel())
    stalled = check_network(config, 11, MemoryModel(latency_cycles=9, stall_probability=0.7))
    assert ideal is not None and stalled is not None and stalled > ideal
