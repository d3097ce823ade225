"""Networks of several programs on the RTL, with the processor's part in between: every word, every cycle, under stalls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from mixed_graphs import mixed_graph
from system_support import CONFIGS, check_on_rtl, job_of

from hwgen.cosim import runner
from hwgen.cosim.job import MemoryModel, Patch
from hwgen.schedule.compile import CompiledNetwork, compile_network
from hwgen.verify import layer_comparisons

CONFIG = CONFIGS["4x4"]
MEMORIES = (MemoryModel(), MemoryModel(latency_cycles=20), MemoryModel(latency_cycles=3, stall_probability=0.4, seed=3, aligned=False))


def mixed_networks(count: int) -> list[CompiledNetwork]:
    found = (compile_network(mixed_graph(seed, multiplier_bits=CONFIG.multiplier_bits), CONFIG) for seed in range(100))
    return [network for network in found if len(network.phases) > 1][:count]


@pytest.mark.parametrize("index", range(6))
def test_mixed_networks_equal_the_golden_model(index: int) -> None:
    network = mixed_networks(6)[index]
    assert check_on_rtl(network, MEMORIES[index % len(MEMORIES)]) > 0


def test_a_wrong_result_of_the_processor_is_seen_in_the_next_program() -> None:
    """Planted: the accelerator reads what lies in memory, and not what the golden model says."""
    network = next(network for network in mixed_networks(6) if network.kernels[1] and network.later[0].layers)
    job, codes = job_of(network, 1)

    def spoiled(patch: Patch) -> Patch:
        return replace(patch, content=bytes((np.frombuffer(patch.content, np.uint8) ^ 0x55).tolist()))

    patches = tuple(tuple(tuple(spoiled(patch) for patch in group) for group in inference) for inference in job.patches)
    result = runner.simulate(replace(job, patches=patches))
    result.check()
    assert result.trace is not None
    assert not all(layer.equal for layer in layer_comparisons(network, codes, result.trace))
