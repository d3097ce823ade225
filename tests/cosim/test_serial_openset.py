"""The keyword network on the serial machine: every value, every cycle, and room for it in an UP5K."""

from __future__ import annotations

from functools import cache

from openset_support import calibration, model_path
from system_support import CONFIGS, check_on_rtl

from hwgen.config import PRESETS
from hwgen.cosim.job import MemoryModel
from hwgen.frontend.onnx import load_float_graph
from hwgen.ir.graph import Graph
from hwgen.quantize import quantize_with_report
from hwgen.schedule.compile import compile_network

LARGE_BLOCK_BYTES = 1 << 15  # an UP5K has four


@cache
def keywords() -> Graph:
    graph = load_float_graph(model_path("kws_dscnn"))
    quantized, *_ = quantize_with_report(graph, {graph.inputs[0].name: calibration("kws_dscnn", 32)})
    return quantized


def test_every_value_and_every_cycle() -> None:
    network = compile_network(keywords(), CONFIGS["serial"])
    assert network.resident is None and check_on_rtl(network, MemoryModel(latency_cycles=3)) > 1_000_000


def test_it_fits_the_memories_of_an_up5k() -> None:
    config = PRESETS["up5k"]
    network = compile_network(keywords(), config)
    assert config.activation_words * config.in_lanes == 2 * LARGE_BLOCK_BYTES
    assert sum(network.region_bytes().values()) <= 2 * LARGE_BLOCK_BYTES
    assert network.macs / (config.multipliers * network.prediction.total_cycles) > 0.6
