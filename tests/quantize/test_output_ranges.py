"""Ranges by what they do at the outputs: the loss of a clip, against a plain sum; what is clipped, and what is not."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import RELU, RELU6, FloatBuilder, data, residual, seen

from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.add import Add
from hwgen.ops.base import Window
from hwgen.ops.golden import golden
from hwgen.ops.max_pool import MaxPool
from hwgen.optimize.rewrite import with_node
from hwgen.quantize import QuantizeOptions, RangeMethod, Scheme, quantize_with_report
from hwgen.quantize.metrics import sqnr_db
from hwgen.quantize.output_ranges import FACTORS, _clipped, _left, _side, output_ranges
from hwgen.quantize.samples import collect
from hwgen.quantize.sensitivity import measure

SAME, POINT = Window(kernel=(3, 3), pads=(1, 1, 1, 1)), Window(kernel=(1, 1))
OUTPUT, MINMAX = QuantizeOptions(ranges=RangeMethod.OUTPUT), QuantizeOptions()


def ranges(graph, x, scheme=Scheme.ASYMMETRIC):
    samples = collect(graph, x)
    observers = seen(graph, samples)
    return output_ranges(graph, samples, measure(graph, samples, observers, samples.count), observers, scheme)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_what_a_clip_leaves_is_the_sum_over_all_it_changes(sign):
    rng = np.random.default_rng(0)
    value, gradient = rng.normal(size=(2, 5, 3, 4, 2)).astype(np.float32)
    gradient[value < -1] = 0
    squares, ends = rng.uniform(0, 1, (3, 4, 2)).astype(np.float32), np.array([2.0, 2.0, 1.5, 2.0, 2.0])
    found = _clipped(value, gradient, squares, sign, ends)
    for index, factor in enumerate(FACTORS):
        excess = np.maximum(value * sign - (ends * factor).reshape(-1, 1, 1, 1), 0).astype(np.float64)
        together, apart = (excess * gradient).sum((1, 2, 3)) ** 2, (excess**2 * squares * (gradient != 0)).sum((1, 2, 3))
        np.testing.assert_allclose(found[:, index], (together + apart) / 2, rtol=1e-5, atol=1e-6)
    assert found[:, -1].max() > 0


@pytest.mark.parametrize("factor", [1.3, 1.0])
def test_where_nothing_is_clipped_what_is_left_is_what_rounding_leaves(factor):
    """Measured: the value rounded to steps that are wide against none of its magnitudes, and the network behind it run."""
    graph = residual()
    samples = collect(graph, data(graph, 100))
    observers = seen(graph, samples)
    sensitivity = measure(graph, samples, observers, samples.count)
    name, output = graph.nodes[1].output, graph.outputs[0].value
    sides = [_side(graph, [name], observers, sign) for sign in (-1.0, 1.0)]
    index = int(np.abs(FACTORS - factor).argmin())
    predicted = _left(samples, sensitivity, [name], sides, Scheme.ASYMMETRIC)[index, index]
    values, step = dict(samples.values), (sides[0].tried[index] + sides[1].tried[index]) / 255
    values[name] = (np.rint(values[name] / step) * step).astype(np.float32)
    for later in graph.nodes[2:]:
        values[later.output] = later.op.reference(*(values[operand] for operand in later.inputs))
    change, wanted = values[output].astype(np.float64) - samples.values[output], samples.values[output].astype(np.float64)
    assert predicted == pytest.approx(float((change**2).sum() / (wanted**2).mean()), rel=0.3)


def test_inputs_and_outputs_keep_their_ends_and_no_other_goes_far_beyond_its_extremes():
    graph = residual()
    x = data(graph, 64)
    found = ranges(graph, x)
    values = evaluate(graph, x, outside=False)
    assert found.keys() == {node.output for node in graph.nodes[:-1]}
    for name, (low, high) in found.items():
        assert low <= 0 <= high and high <= 1.3 * max(float(values[name].max()), 0) and low >= 1.3 * min(float(values[name].min()), 0)


def test_what_an_addition_with_relu_takes_away_is_clipped_for_nothing():
    """One operand far below zero, the other small: the sum is zero there however far below."""
    b = FloatBuilder(TensorType(6, 6, 4))
    trunk = b.conv("x", 6, SAME, clamp=(0.0, 0.1))
    deep = b.conv(trunk, 6, POINT)
    graph = b.graph(b.conv(b.node(Add(clamp=RELU), deep, trunk), 3, POINT))
    node = graph.nodes[1]
    bias = np.float32([-40, 1, 1, 1, 1, 1])
    graph = with_node(graph, replace(node, op=replace(node.op, bias=bias)))
    assert ranges(graph, data(graph, 20))[deep][0] > -40 * 0.45


@pytest.mark.parametrize("scheme", Scheme)
def test_values_that_share_codes_share_ends_and_operators_limit_them(scheme):
    b = FloatBuilder(TensorType(8, 8, 3))
    wide = b.conv("x", 8, SAME, clamp=RELU6)
    pooled = b.node(MaxPool(window=Window(kernel=(2, 2), strides=(2, 2))), wide)
    graph = b.graph(b.conv(pooled, 4, POINT))
    found = ranges(graph, data(graph, 16), scheme)
    assert found[wide] == found[pooled] and found[wide][0] == 0 and 0 < found[wide][1] <= 6
    quantized, report = quantize_with_report(graph, data(graph, 16), replace(OUTPUT, scheme=scheme))
    assert report.ranges[wide] == found[wide] and report.chosen_range is RangeMethod.OUTPUT
    assert quantized.values[wide].quantized == quantized.values[pooled].quantized


def test_inputs_not_seen_gain_by_ranges_that_the_outputs_choose():
    """The first layer's outputs have a few values far above all others, which weigh little behind it."""
    gains = []
    for seed in range(4):
        b = FloatBuilder(TensorType(8, 8, 3), seed)
        hidden = b.conv("x", 16, SAME, clamp=RELU)
        graph = b.graph(b.conv(b.conv(hidden, 12, SAME, clamp=RELU), 5, Window(kernel=(8, 8))))
        first = graph.nodes[0]
        weight = first.op.weight.copy()
        weight[0] *= 6
        graph = with_node(graph, replace(first, op=replace(first.op, weight=weight)))
        second = graph.nodes[1]
        weight = second.op.weight.copy()
        weight[..., 0] /= 60
        graph = with_node(graph, replace(second, op=replace(second.op, weight=weight)))
        x, name = data(graph, 100, 9), graph.outputs[0].value
        wanted = evaluate(graph, x, outside=False)[name]
        made = [quantize_with_report(graph, data(graph, 64), options)[0] for options in (MINMAX, OUTPUT)]
        minmax, output = (sqnr_db(wanted, each.values[name].quantized.dequantize(golden(each, x)[name])) for each in made)
        gains.append(output - minmax)
    assert np.mean(gains) > 1, gains
