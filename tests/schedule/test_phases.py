"""Networks that go back and forth between accelerator and processor: cut where they must be, and right on the instruction-level simulator."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from mixed_graphs import mixed_graph
from program_runner import random_codes, run_program
from random_graphs import random_graph
from schedule_support import small

from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.isa.fields import Region
from hwgen.isa.instructions import End
from hwgen.ops.check import check_quantized
from hwgen.ops.softmax import Softmax
from hwgen.schedule.compile import CompiledNetwork, compile_network
from hwgen.schedule.phases import divide, on_processor

CONFIGS = (small(activation_words=512), small(activation_words=8192), small("4x4", activation_words=1024))


def mixed_network(seed: int) -> CompiledNetwork:
    graph = mixed_graph(seed)
    check_quantized(graph)
    return compile_network(graph, CONFIGS[seed % len(CONFIGS)])


def test_mixed_networks_compute_what_the_golden_model_says() -> None:
    seen: Counter[str] = Counter()
    for seed in range(36):
        network = mixed_network(seed)
        assert run_program(network, random_codes(network, seed), seed=seed) == [], seed
        seen["several programs"] += len(network.phases) > 1
        seen["kernels at the beginning"] += bool(network.kernels and network.kernels[0])
        seen["kernels at the end"] += len(network.kernels) > len(network.phases)
        seen["tiles"] += network.arena_bytes > network.scratch_offset + network.scratch_bytes
    assert min(seen.values()) >= 2, seen


def test_a_network_that_the_processor_computes_alone() -> None:
    """Its one program does nothing."""
    kind = TensorType(3, 4, 5)
    q = Quantization(scale=np.float32(0.5), zero_point=3)
    values = {name: Value(name=name, type=kind, quantization=q) for name in "xy"}
    entry, output = GraphInput(name="x", shape=(-1, 3, 4, 5), dtype="float32", value="x"), GraphOutput(name="y", shape=(-1, 3, 4, 5), value="y")
    node = Node(name="n", op=Softmax(axis=3), inputs=("x",), output="y")
    network = compile_network(Graph(name="alone", inputs=(entry,), outputs=(output,), nodes=(node,), values=values), CONFIGS[0])
    assert ([type(command) for command in network.commands], len(network.kernels)) == ([End], 1)
    assert run_program(network, random_codes(network, 0)) == []


def test_every_node_runs_once_and_behind_its_operands() -> None:
    for seed in range(12):
        graph = mixed_graph(seed)
        phases = divide(graph, CONFIGS[0])
        order = [node.output for phase in phases for node in (*phase.kernels, *phase.nodes)]
        assert sorted(order) == sorted(node.output for node in graph.nodes)
        position = {name: k for k, name in enumerate(order)}
        assert all(position.get(name, -1) < position[node.output] for node in graph.nodes for name in node.inputs)
        assert all(on_processor(node.op, CONFIGS[0]) for phase in phases for node in phase.kernels)
        assert all(phase.nodes for phase in phases[1:-1])


def test_values_that_live_at_one_time_do_not_overlap() -> None:
    for seed in range(24):
        network = mixed_network(seed)
        for group in network.kernels:
            for kernel in group:
                places = [(t.offset, t.offset + t.size_bytes) for t in (*kernel.inputs, *kernel.outputs) if t.region is Region.ARENA]
                scratch = (network.scratch_offset, network.scratch_offset + kernel.scratch_bytes)
                ends = sorted({*places, scratch})
                assert all(first[1] <= second[0] for first, second in zip(ends, ends[1:], strict=False)), (seed, kernel.node.name)
                assert kernel.scratch_bytes <= network.scratch_bytes <= network.arena_bytes


def test_a_network_without_such_operators_is_one_program() -> None:
    network = compile_network(random_graph(3), CONFIGS[1])
    assert (network.later, network.kernels, network.crossing, network.scratch_bytes) == ((), (), (), 0)
    assert network.entries == (0,)


@pytest.mark.parametrize("drop", ["kernel", "program"])
def test_what_is_left_out_is_found(drop: str) -> None:
    """Planted: a kernel that does not run, a program that starts at another one's entry."""
    network = next(network for network in map(mixed_network, range(40)) if len(network.phases) > 1 and network.kernels[1])
    codes = random_codes(network, 1)
    assert run_program(network, codes) == []
    if drop == "kernel":
        bad = replace(network, kernels=(network.kernels[0], (), *network.kernels[2:]))
    else:
        bad = replace(network, later=tuple(replace(routine, commands=(network.cold.commands[-1],)) for routine in network.later))
    assert run_program(bad, codes) != []
