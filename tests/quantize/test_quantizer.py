"""Whole quantizations: schemes, granularities, odd weights and ranges, errors, certificates."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import RELU, RELU6, FloatBuilder, data, random_float_graph
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import imported, model, normal
from onnx_models import node as onnx_node

from hwgen.errors import ConfigError, DataError, QuantizationError
from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.ops.integer import accumulator_bounds, output_stage
from hwgen.ops.max_pool import MaxPool
from hwgen.quantize import CALIBRATED, Granularity, QuantizeOptions, RangeMethod, Scheme, quantize, quantize_with_report
from hwgen.quantize.metrics import sqnr_db

SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


def residual_graph(gain=1.0):
    b = FloatBuilder(TensorType(8, 8, 3))
    trunk = b.conv("x", 8, SAME, clamp=RELU, gain=gain)
    trunk = b.node(Add(clamp=RELU), b.conv(trunk, 8, SAME, gain=gain), trunk)
    trunk = b.conv(trunk, 8, SAME, group=8, clamp=RELU6)
    trunk = b.node(AveragePool(window=Window(kernel=(8, 8))), trunk)
    return b.graph(b.conv(trunk, 5, Window(kernel=(1, 1))))


def quality(graph, options, seed=3):
    x = data(graph, 64, seed)
    quantized = quantize(graph, data(graph, 64), options)
    name = graph.outputs[0].value
    return sqnr_db(evaluate(graph, x, outside=False)[name], quantized.values[name].quantized.dequantize(golden(quantized, x)[name]))


@pytest.mark.parametrize("ranges", CALIBRATED)
@pytest.mark.parametrize("granularity", Granularity)
@pytest.mark.parametrize(("scheme", "least"), [(Scheme.ASYMMETRIC, 24), (Scheme.SYMMETRIC, 22), (Scheme.POWER_OF_TWO, 16)])
def test_every_scheme_stays_near_the_float_network(scheme, granularity, ranges, least):
    least -= 3 * (ranges is RangeMethod.AVERAGE)
    assert quality(residual_graph(), QuantizeOptions(scheme=scheme, granularity=granularity, ranges=ranges)) > least


@pytest.mark.parametrize("bits", [8, 10, 12, 16, 24])
def test_every_multiplier_width_stays_near_the_float_network(bits):
    assert quality(residual_graph(), QuantizeOptions(multiplier_bits=bits)) > 23


def test_power_of_two_needs_shifts_only():
    """All ratios are powers of two, also behind an average over nine cells."""
    b = FloatBuilder(TensorType(6, 6, 3))
    trunk = b.node(Add(), b.conv("x", 4, SAME), b.conv("x", 4, SAME, gain=0.1))
    trunk = b.node(AveragePool(window=Window(kernel=(3, 3), strides=(3, 3))), trunk)
    graph = b.graph(b.conv(trunk, 5, Window(kernel=(2, 2))))
    quantized, report = quantize_with_report(graph, data(graph, 32), QuantizeOptions(scheme=Scheme.POWER_OF_TWO))
    assert quantized.arithmetic.multiplier_bits == 0
    for node in quantized.nodes:
        if isinstance(node.op, Conv):
            assert (output_stage(node, quantized).multiplier == 1).all()
    assert {record.operator for record in report.uncertified} <= {"AveragePool"}
    assert quality(graph, QuantizeOptions(scheme=Scheme.POWER_OF_TWO)) > 16


def test_power_of_two_with_a_divisor_that_no_shift_makes_is_refused():
    b = FloatBuilder(TensorType(6, 6, 3))
    graph = b.graph(b.node(AveragePool(window=Window(kernel=(3, 3), pads=(1, 1, 1, 1))), "x"))
    with pytest.raises(QuantizationError, match=r"AveragePool 'averagepool0', divisor 6: with multiplier_bits 0 the ratio of scales must be a power of two"):
        quantize(graph, data(graph, 8), QuantizeOptions(scheme=Scheme.POWER_OF_TWO))


@pytest.mark.parametrize("gain", [1.0, 0.2])
def test_power_of_two_averages_with_divisors_that_shifts_make(gain):
    """At the border the divisor is 1 and the result no finer than what is summed: a shift cannot multiply."""
    b = FloatBuilder(TensorType(6, 6, 3))
    trunk = b.conv("x", 4, SAME, gain=gain)
    pooled = b.node(AveragePool(window=Window(kernel=(2, 2), pads=(0, 0, 1, 1))), trunk)
    joined = b.node(Concat(), pooled, b.conv(trunk, 2, Window(kernel=(1, 1))))
    graph = b.graph(b.node(AveragePool(window=Window(kernel=(3, 3))), joined))
    assert quality(graph, QuantizeOptions(scheme=Scheme.POWER_OF_TWO)) > 16


def test_zero_is_exact_in_every_scheme():
    graph = residual_graph()
    for scheme in Scheme:
        quantized = quantize(graph, data(graph, 8), QuantizeOptions(scheme=scheme))
        for value in quantized.values.values():
            q = value.quantized
            assert q.dequantize(q.quantize(np.zeros(1)))[0] == 0
            assert q.unsigned == (scheme is not Scheme.SYMMETRIC)
            if scheme is Scheme.POWER_OF_TWO:  # uint8 with zero point 0 where nothing lies below zero
                assert q.zero_point in (0, -128) and np.log2(q.scale) % 1 == 0
            assert scheme is not Scheme.SYMMETRIC or q.zero_point == 0


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 100_000), st.sampled_from(Scheme), st.booleans())
def test_random_networks_quantize_and_fit_the_accumulator(seed, scheme, certify):
    graph = random_float_graph(seed)
    options = QuantizeOptions(scheme=scheme, multiplier_bits=16, certify=certify)
    quantized, report = quantize_with_report(graph, data(graph, 9, seed), options)
    for node in quantized.nodes:
        if isinstance(node.op, Conv):
            low, high = accumulator_bounds(node, quantized)
            assert low.min() >= -(2**31) and high.max() < 2**31
            assert np.abs(node.op.weight.astype(int)).max() <= 127
    assert set(report.ranges) == set(graph.values)
    assert {record.layer for record in report.records} == {node.name for node in graph.nodes if isinstance(node.op, Conv | Add | AveragePool)}


def test_ragged_last_batch_and_batch_size_do_not_matter(monkeypatch):
    from hwgen.quantize import quantizer

    graph, x = residual_graph(), data(residual_graph(), 13)
    whole = quantize(graph, x)
    monkeypatch.setattr(quantizer, "BATCH_ELEMENTS", 5 * sum(value.type.elements for value in graph.values.values()))
    ragged = quantize(graph, x)
    for name in graph.values:
        assert np.isclose(whole.values[name].quantized.scale, ragged.values[name].quantized.scale, rtol=1e-5)


def test_values_that_share_codes_share_one_quantization():
    b = FloatBuilder(TensorType(6, 6, 3))
    first, second = b.conv("x", 4, SAME, gain=9.0), b.conv("x", 5, SAME, clamp=RELU)
    joined = b.node(Concat(), first, b.node(MaxPool(window=SAME), second))
    graph = b.graph(joined)
    quantized = quantize(graph, data(graph, 9))
    assert len({quantized.values[name].quantized for name in graph.values if name != "x"}) == 1


def test_shared_bias_is_quantized_for_each_consumer():
    b = FloatBuilder(TensorType(6, 6, 3))
    first = b.conv("x", 4, SAME)
    second = b.conv(first, 4, SAME, gain=100.0)
    shared = b.nodes[0].op.bias
    b.nodes[1] = replace(b.nodes[1], op=replace(b.nodes[1].op, bias=shared))
    quantized = quantize(b.graph(second), data(b.graph(second), 9))
    for node in quantized.nodes:
        unit = quantized.values[node.inputs[0]].quantized.scale * node.op.weight_scale
        np.testing.assert_allclose(node.op.bias * unit, shared, atol=unit.max())


def test_per_channel_weights_with_a_bias_added_behind_the_convolution():
    """Quantizer: per-channel refusing Conv + Add bias."""
    nodes = [onnx_node("Conv", ["x", "w"], "c"), onnx_node("Add", ["c", "b"], "a"), onnx_node("Relu", ["a"], "y")]
    graph = imported(model(nodes, {"x": ["N", 3, 6, 6]}, {"w": normal(4, 3, 3, 3), "b": normal(1, 4, 1, 1)}))
    assert [type(each.op) for each in graph.nodes] == [Conv]
    quantized = quantize(graph, data(graph, 16))
    assert np.unique(quantized.nodes[0].op.weight_scale).size == 4
    assert quality(graph, QuantizeOptions()) > 30


def test_dead_channels_and_dead_layers():
    b = FloatBuilder(TensorType(5, 5, 2))
    first = b.conv("x", 4, SAME, clamp=RELU)
    second = b.conv(first, 3, SAME)
    graph = b.graph(second)
    graph.nodes[0].op.weight[1] = 0
    graph.nodes[0].op.bias[1] = 0.7
    quantized = quantize(graph, data(graph, 9))
    codes = golden(quantized, data(graph, 3), keep=[first])[first]
    assert np.abs(quantized.values[first].quantized.dequantize(codes)[..., 1] - 0.7).max() <= quantized.values[first].quantized.scale
    graph.nodes[0].op.weight[:] = 0
    graph.nodes[0].op.bias[:] = -1
    dead = quantize(graph, data(graph, 9))
    q = dead.values[second].quantized
    expected = evaluate(graph, data(graph, 3), outside=False)[second]
    np.testing.assert_allclose(q.dequantize(golden(dead, data(graph, 3))[second]), expected, atol=1.5 * float(q.scale))


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("gain", [1e-12, 1e-4, 1e4, 1e9])
def test_extreme_scales(gain, scheme):
    graph = residual_graph(gain)
    quantized = quantize(graph, data(graph, 16), QuantizeOptions(scheme=scheme, multiplier_bits=16))
    x = data(graph, 8, 4)
    name = graph.outputs[0].value
    q = quantized.values[name].quantized
    error = np.abs(q.dequantize(golden(quantized, x)[name]) - evaluate(graph, x, outside=False)[name]).max()
    assert error < 40 * q.scale


@pytest.mark.parametrize("granularity", Granularity)
def test_int32_bias_overflow_at_tiny_scales_widens_the_weight_scale(granularity):
    b = FloatBuilder(TensorType(5, 5, 2))
    y = b.conv("x", 3, SAME)
    graph = b.graph(y)
    graph.nodes[0].op.weight[1] *= np.float32(1e-9)
    graph.nodes[0].op.weight[2] *= np.float32(1e-9 if granularity is Granularity.TENSOR else 1)
    graph.nodes[0].op.weight[0] *= np.float32(1e-9 if granularity is Granularity.TENSOR else 1)
    graph.nodes[0].op.bias[:] = [0.5, 3.0, -3.0]
    x = data(graph, 9)
    quantized, report = quantize_with_report(graph, x, QuantizeOptions(granularity=granularity))
    assert report.widened == {y: 1 if granularity is Granularity.CHANNEL else 3}
    (node,) = quantized.nodes
    low, high = accumulator_bounds(node, quantized)
    assert low.min() >= -(2**31) and high.max() < 2**31
    q = quantized.values[y].quantized
    np.testing.assert_allclose(q.dequantize(golden(quantized, x)[y]), evaluate(graph, x, outside=False)[y], atol=2 * float(q.scale))


def test_bias_far_outside_the_range_saturates_instead_of_wrapping():
    b = FloatBuilder(TensorType(5, 5, 2))
    y = b.conv("x", 2, SAME, clamp=(-1.0, 1.0))
    graph = b.graph(y)
    graph.nodes[0].op.bias[:] = [1e30, -1e30]
    quantized = quantize(graph, data(graph, 9))
    codes = golden(quantized, data(graph, 9))[y]
    real = quantized.values[y].quantized.dequantize(codes)
    np.testing.assert_allclose(real[..., 0], 1, atol=0.02)
    np.testing.assert_allclose(real[..., 1], -1, atol=0.02)


def test_accumulators_beyond_2_to_the_24_are_exact_and_judged_in_float32():
    b = FloatBuilder(TensorType(1, 1, 4096))
    graph = b.graph(b.conv("x", 3, Window(kernel=(1, 1))))
    graph.nodes[0].op.weight[:] = np.sign(graph.nodes[0].op.weight)
    quantized, report = quantize_with_report(graph, data(graph, 16), QuantizeOptions())
    assert max(record.high for record in report.records) > 1 << 24
    codes = golden(quantized, data(graph, 5), keep=quantized.values)
    (node,) = quantized.nodes
    x = codes["x"].astype(np.int64).reshape(5, -1) - quantized.values["x"].quantized.zero_point
    acc = x @ node.op.weight.astype(np.int64).reshape(3, -1).T + node.op.bias
    np.testing.assert_array_equal(codes[node.output].reshape(5, 3), output_stage(node, quantized).apply(acc, quantized.arithmetic))


def test_calibration_missing_an_input_or_of_wrong_shape_is_refused():
    graph = residual_graph()
    with pytest.raises(DataError, match=r"input 'image': needs an array of shape \[N, 3, 8, 8\]; given are other"):
        quantize(graph, {"other": np.zeros((2, 3, 8, 8))})
    with pytest.raises(DataError, match=r"input 'image': must have shape \[N, 3, 8, 8\], not \[2, 8, 8, 3\]"):
        quantize(graph, {"image": np.zeros((2, 8, 8, 3), np.float32)})
    with pytest.raises(DataError, match="input 'image': must hold at least one input, but the batch is empty"):
        quantize(graph, {"image": np.zeros((0, 3, 8, 8), np.float32)})


def test_nan_calibration_is_refused():
    graph, x = residual_graph(), data(residual_graph(), 4)
    x["image"][2, 1, 3, 3] = np.nan
    with pytest.raises(QuantizationError, match="value 'x': calibration must give finite values, not nan .. nan; check the inputs and the weights"):
        quantize(graph, x)


def test_a_quantized_graph_is_refused():
    graph = residual_graph()
    with pytest.raises(QuantizationError, match="Conv 'conv0': weights must be float to be quantized, they are int8 already; give the float model"):
        quantize(quantize(graph, data(graph, 4)), data(graph, 4))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"multiplier_bits": 0}, "multiplier_bits: 0 (no multiplier) needs the scheme power-of-two, not asymmetric"),
        ({"multiplier_bits": 17}, "multiplier_bits: must be one of 0, 8, 10, 12, 16, 24, not 17"),
        ({"percentile": 20.0}, "percentile: must be above 50 and at most 100, not 20.0"),
    ],
)
def test_illegal_options_are_refused(keywords, message):
    with pytest.raises(ConfigError) as caught:
        QuantizeOptions(**keywords)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("keywords", "with_data", "message"),
    [
        ({"ranges": RangeMethod.KL}, False, "ranges: kl needs calibration data; give them, or take data-free"),
        ({"input_range": (0.0, 1.0)}, True, "input_range: must be given without calibration data, or with ranges data-free; leave one of them out"),
    ],
)
def test_options_without_effect_are_refused(keywords, with_data, message):
    graph = residual_graph()
    with pytest.raises(ConfigError) as caught:
        quantize(graph, data(graph, 4) if with_data else None, QuantizeOptions(**keywords))
    assert str(caught.value) == message


def test_uncertified_channels_are_named():
    """Half-up rounding differs from ONNX Runtime's on ties, and the certificate says where."""
    graph = residual_graph()
    from hwgen.arith import Rounding

    _, report = quantize_with_report(graph, data(graph, 16), QuantizeOptions(rounding=Rounding.HALF_UP, scheme=Scheme.POWER_OF_TWO))
    assert report.certified_channels < report.channels
    assert {record.layer for record in report.uncertified} <= {node.name for node in graph.nodes}
