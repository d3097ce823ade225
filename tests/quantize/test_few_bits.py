"""Weights of few bits: codes and scales against brute force, whole networks, layers apart."""

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder, data

from hwgen.errors import ConfigError
from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.golden import golden
from hwgen.packing import WeightFormat
from hwgen.quantize import Granularity, QuantizeOptions, Scheme, quantize, quantize_with_report
from hwgen.quantize.few_bits import INT3, encode, least_squares_scales
from hwgen.quantize.metrics import sqnr_db

KINDS = [*WeightFormat, INT3]
FEW = [kind for kind in KINDS if kind is not WeightFormat.INT8]
SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


def chain():
    b = FloatBuilder(TensorType(6, 6, 3))
    first = b.conv("x", 8, SAME, clamp=RELU)
    return b.graph(b.conv(b.conv(first, 8, SAME, clamp=RELU), 5, Window(kernel=(6, 6))))


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("seed", range(3))
def test_no_other_scale_is_much_better(kind, seed):
    weight = np.random.default_rng(seed).standard_t(3, size=(4, 40))
    scales = least_squares_scales(weight, kind)

    def error(scale):
        return ((encode(weight / scale[:, None], kind) * scale[:, None] - weight) ** 2).sum(1)

    every = np.array([error(np.full(4, scale)) for scale in np.linspace(0.02, np.abs(weight).max() * 1.2, 3000)])
    assert (error(scales) <= every.min(0) * 1.03).all()


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_those_of_the_format(kind):
    units = np.array([-1000.0, -127.6, -8.6, -2.4, -0.4, 0.0, 0.4, 1.4, 7.6, 127.6, 1000.0])
    codes = encode(units, kind)
    assert kind.holds(codes) and codes.min() == max(kind.low, -127) and codes.max() == kind.high
    assert kind is WeightFormat.BINARY or np.abs(codes - units)[4:7].max() <= 0.5


@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("kind", KINDS)
def test_whole_networks(kind, scheme, granularity):
    graph = chain()
    quantized, report = quantize_with_report(graph, data(graph, 16), QuantizeOptions(weights=kind, scheme=scheme, granularity=granularity))
    assert all(kind.holds(node.op.codes) for node in quantized.nodes)
    assert not report.uncertified
    x, name = data(graph, 32, 3), graph.outputs[0].value
    found = sqnr_db(evaluate(graph, x, outside=False)[name], quantized.values[name].quantized.dequantize(golden(quantized, x)[name]))
    least = {WeightFormat.INT8: 20, WeightFormat.INT4: 9, INT3: 4, WeightFormat.INT2: 0, WeightFormat.TERNARY: 0.5, WeightFormat.BINARY: -0.5}[kind]
    assert found > least


def test_layers_may_differ():
    graph = chain()
    options = QuantizeOptions(weights=WeightFormat.INT4, layer_weights=((graph.nodes[1].name, WeightFormat.TERNARY),))
    formats = [node.op.weight_format for node in quantize(graph, data(graph, 8), options).nodes]
    assert formats == [WeightFormat.INT4, WeightFormat.TERNARY, WeightFormat.INT4]


def test_a_layer_that_there_is_not():
    graph = chain()
    with pytest.raises(ConfigError, match=r"^weights of layer 'nothing': there must be such a convolution; layers with weights are 'conv0', 'conv1', 'conv2'$"):
        quantize(graph, data(graph, 8), QuantizeOptions(layer_weights=(("nothing", WeightFormat.INT4),)))


@pytest.mark.parametrize("kind", FEW)
def test_weights_that_are_all_zero(kind):
    graph = chain()
    graph.nodes[0].op.weight[2] = 0
    graph.nodes[1].op.weight[:] = 0
    quantized = quantize(graph, data(graph, 8), QuantizeOptions(weights=kind))
    assert all(kind.holds(node.op.codes) for node in quantized.nodes)
    assert kind is WeightFormat.BINARY or not quantized.nodes[1].op.codes.any()
    value = quantized.values[graph.nodes[1].output].quantized
    found = value.dequantize(golden(quantized, data(graph, 8), keep=[graph.nodes[1].output])[graph.nodes[1].output])
    assert np.abs(found - np.maximum(graph.nodes[1].op.bias, 0)).max() <= 1.5 * value.scale
