"""Golden model = RTL on random networks: every word of every layer, with and without stalls on every bus.

The simulation depends on the hardware alone, so each configuration here is compiled once for all networks.
"""

import contextlib
import os
import random
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_graphs import random_graph
from system_support import CONFIGS, SMALL, check_on_rtl

from hwgen.arith import Rounding
from hwgen.config import HardwareConfig, with_array
from hwgen.cosim.job import MemoryModel
from hwgen.errors import CapacityError, ConfigError
from hwgen.schedule.compile import compile_network

REGRESS = bool(os.environ.get("HWGEN_REGRESS"))
REGRESS_CONFIGS = {
    "1x4": replace(with_array(SMALL, "1x4"), multiplier_bits=8),
    "64x4": with_array(SMALL, "64x4"),
    "2x32": with_array(SMALL, "2x32"),
    "16x16": replace(SMALL, requantize_lanes=4),
    "32x32": with_array(SMALL, "32x32"),
}


def random_hardware(seed: int) -> HardwareConfig:
    """Any legal accelerator of at most 256 multipliers, so that it compiles in half a minute."""
    r = random.Random(seed)
    while True:
        out_lanes, in_lanes = 1 << r.randint(0, 6), 1 << r.randint(2, 6)
        with contextlib.suppress(ConfigError):
            config = HardwareConfig(
                name=f"random {seed}",
                out_lanes=out_lanes,
                in_lanes=in_lanes,
                activation_words=1 << r.randint(10, 13) if in_lanes > 8 else 1 << r.randint(12, 16),
                weight_words=1 << r.randint(9, 13),
                parameter_words=1 << r.randint(5, 10),
                accumulator_depth=1 << r.randint(3, 9),
                accumulator_bits=r.choice([24, 27, 30, 32, 32]),
                requantize_lanes=1 << r.randint(0, 6),
                multiplier_bits=r.choice([0, 8, 10, 12, 16, 24]),
                rounding=r.choice(list(Rounding)),
                bus_bits=r.choice([32, 64, 128, 256, 512]),
                address_bits=r.randint(32, 64),
                watchdog_bits=r.randint(8, 32),
            )
            if config.multipliers <= 256:
                return config


def run_on_rtl(config: HardwareConfig, seed: int, memory: MemoryModel) -> int | None:
    """Cycles of the first inference; None where the network does not fit."""
    graph = random_graph(seed, multiplier_bits=config.multiplier_bits, rounding=config.rounding)
    try:
        network = compile_network(graph, config)
    except CapacityError:
        return None
    return check_on_rtl(network, memory)


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
        run_on_rtl(config, seed, memory)

    check()


@pytest.mark.skipif(not REGRESS, reason="set HWGEN_REGRESS: half a minute of compiling each")
@pytest.mark.parametrize("hardware", range(40))
def test_golden_equals_rtl_on_random_hardware(hardware):
    config, r = random_hardware(hardware), random.Random(hardware)
    memories = [MemoryModel(latency_cycles=r.choice([1, 9]), stall_probability=r.choice([0, 0, 0.3]), seed=k + 1, aligned=r.random() < 0.7) for k in range(40)]
    ran = [run_on_rtl(config, 1000 * hardware + k, memory) for k, memory in enumerate(memories)]
    assert sum(cycles is not None for cycles in ran) >= 5, config


def test_stalls_change_cycles_only():
    """Hardware: bus stalls at every beat."""
    config = CONFIGS["8x16"]
    ideal = run_on_rtl(config, 11, MemoryModel())
    stalled = run_on_rtl(config, 11, MemoryModel(latency_cycles=9, stall_probability=0.7))
    assert ideal is not None and stalled is not None and stalled > ideal
