"""The golden model against the exact witness, on random networks; speed paths against slow ones."""

from dataclasses import replace

import golden_witness
import numpy as np
import pytest
from float_graphs import FloatBuilder, data, random_float_graph
from random_graphs import random_graph, with_wide_weights

from hwgen.arith import Rounding
from hwgen.errors import DataError
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops import golden as golden_module
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.clamp import Clamp
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
        graph = with_wide_weights(graph) if seed % 4 == 3 else graph
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


def test_an_input_is_divided_by_its_scale_and_not_multiplied_by_the_inverse():
    """Arithmetic: x/s computed as x*(1/s). Found are ties where the two round differently."""
    scale = np.float32(0.3)
    x = ((np.arange(-100, 100) + np.float32(0.5)) * scale).astype(np.float32)
    inverse = np.rint(x * (np.float32(1) / scale)).astype(np.int8)
    expected = np.rint(x / scale).astype(np.int8)
    assert (inverse != expected).any()
    np.testing.assert_array_equal(Quantization(scale=scale, zero_point=0).quantize(x), expected)
    graph = FloatBuilder(TensorType(1, 1, 1))
    net = graph.graph(graph.node(Clamp(clamp=(-60.0, 60.0)), "x"))
    values = {name: replace(value, quantization=Quantization(scale=scale, zero_point=0)) for name, value in net.values.items()}
    np.testing.assert_array_equal(golden(replace(net, values=values), {"image": x.reshape(-1, 1, 1, 1)}, keep=["x"])["x"].reshape(-1), expected)


@pytest.mark.parametrize("code", [-128, 127])
def test_global_average_pooling_is_not_accumulated_in_int8(code):
    b = FloatBuilder(TensorType(30, 30, 3))
    graph = b.graph(b.node(AveragePool(window=Window(kernel=(30, 30))), "x"))
    same = Quantization(scale=np.float32(0.25), zero_point=3)
    values = {name: replace(value, quantization=same) for name, value in graph.values.items()}
    codes = np.full((2, 30, 30, 3), code, np.int8)
    (found,) = golden_codes(replace(graph, values=values), {"x": codes}).values()
    assert (found == code).all()


def test_results_beyond_the_codes_saturate_in_every_operator():
    """Arithmetic: QLinear outputs never saturated."""
    b = FloatBuilder(TensorType(2, 2, 1))
    conv = b.conv("x", 1, Window(kernel=(1, 1)))
    total = b.node(Add(), conv, conv)
    graph = b.graph(b.node(AveragePool(window=Window(kernel=(2, 2))), total), total, conv)
    fine = Quantization(scale=np.float32(0.01), zero_point=0)
    values = {name: replace(value, quantization=replace(fine, scale=np.float32(1)) if name == "x" else fine) for name, value in graph.values.items()}
    op = replace(graph.nodes[0].op, weight=np.ones((1, 1, 1, 1), np.int8), bias=np.zeros(1, np.int32), weight_scale=np.ones(1, np.float32))
    graph = replace(graph, values=values, nodes=(replace(graph.nodes[0], op=op), *graph.nodes[1:]))
    for code, expected in ((100, 127), (-100, -128)):
        found = golden_codes(graph, {"x": np.full((1, 2, 2, 1), code, np.int8)}, keep=graph.values)
        assert all((found[node.output] == expected).all() for node in graph.nodes)


def test_not_finite_input_is_refused():
    graph = random_float_graph(2)
    x = data(graph, 3)
    quantized = quantize(graph, x)
    x["image"][1].flat[0] = np.nan
    with pytest.raises(DataError, match="input 'x': must hold finite numbers, holds NaN or infinity; clean the data"):
        golden(quantized, x)
