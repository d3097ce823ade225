"""Golden model = RTL on random networks: every word of every layer, with and without stalls on every bus.

The simulation depends on the hardware alone, so each configuration here is compiled once for all networks.
"""

import dataclasses
import os
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_hardware import check_hardware, check_network, random_hardware
from system_support import CONFIGS, SMALL

from hwgen.config import Bus, HardwareConfig, with_array
from hwgen.cosim.job import MemoryModel

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


def test_stalls_change_cycles_only():
    """Hardware: bus stalls at every beat."""
    config = CONFIGS["8x16"]
    ideal = check_network(config, 11, MemoryModel())
    stalled = check_network(config, 11, MemoryModel(latency_cycles=9, stall_probability=0.7))
    assert ideal is not None and stalled is not None and stalled > ideal
