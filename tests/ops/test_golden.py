"""The golden model against the exact witness, on random networks; speed paths against slow ones."""

import golden_witness
import numpy as np
import pytest
from float_graphs import data, random_float_graph
from random_graphs import random_graph

from hwgen.arith import Rounding
from hwgen.errors import DataError
from hwgen.ops import golden as golden_module
from hwgen.ops.golden import golden, golden_codes, golden_node
from hwgen.quantize import QuantizeOptions, quantize


def codes_for(graph, count, seed):
    rng = np.random.default_rng(seed)
    return {entry.value: rng.integers(-128, 128, (count, *graph.values[entry.value].type.shape)).astype(np.int8) for entry in graph.inputs}


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("bits", [16, 24, 8, 0])
def test_equals_the_exact_witness_on_random_networks(bits, rounding):
    for seed in range(12):
        graph = random_graph(seed, nodes=3, multiplier_bits=bits, rounding=rounding)
        if sum(value.type.elements for value in graph.values.values()) > 9000:
            continue
        codes = codes_for(graph, 1, seed)
        expected = golden_witness.run(graph, codes)
        found = golden_codes(graph, codes, keep=graph.values)
        for name in graph.values:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=f"seed {seed}, value {name}")


def test_blocks_of_the_batch_do_not_matter(monkeypatch):
    graph = random_graph(5, nodes=4)
    codes = codes_for(graph, 7, 1)
    whole = golden_codes(graph, codes, keep=graph.values)
    monkeypatch.setattr(golden_module, "BLOCK_BYTES", 1)
    single = golden_codes(graph, codes, keep=graph.values)
    assert set(whole) == set(graph.values)
    for name in whole:
        np.testing.assert_array_equal(whole[name], single[name])


def test_keeps_the_outputs_by_default_and_any_value_on_request():
    graph = random_graph(3, nodes=4)
    codes = codes_for(graph, 2, 0)
    assert set(golden_codes(graph, codes)) == {output.value for output in graph.outputs}
    name = graph.nodes[0].output
    assert set(golden_codes(graph, codes, keep=[name])) == {name}


def test_node_by_node_equals_the_whole():
    graph = random_graph(8, nodes=4)
    values = golden_codes(graph, codes_for(graph, 2, 2), keep=graph.values)
    for node in graph.nodes:
        np.testing.assert_array_equal(golden_node(node, graph, *(values[name] for name in node.inputs)), values[node.output])


def test_inputs_are_quantized_as_quantize_linear():
    graph = random_float_graph(1)
    x = data(graph, 6)
    quantized = quantize(graph, x, QuantizeOptions())
    found = golden(quantized, x, keep=["x"])["x"]
    q = quantized.values["x"].quantized
    expected = np.clip(np.rint(x["image"].transpose(0, 2, 3, 1) / q.scale) + np.float32(q.zero_point), -128, 127)
    np.testing.assert_array_equal(found, expected.astype(np.int8))


def test_not_finite_input_is_refused():
    graph = random_float_graph(2)
    x = data(graph, 3)
    quantized = quantize(graph, x)
    x["image"][1].flat[0] = np.nan
    with pytest.raises(DataError, match="input 'x': must hold finite numbers, holds NaN or infinity; clean the data"):
        golden(quantized, x)
