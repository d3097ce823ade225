"""Repairs: each keeps the network's meaning or brings it nearer, and none is kept that does not gain."""

from dataclasses import replace
from itertools import product
from math import erf

import numpy as np
import pytest
from float_graphs import RELU, RELU6, FloatBuilder, data, random_float_graph, seen
from onnx_models import imported, model, normal
from onnx_models import node as onnx_node

from hwgen.emit.onnx import to_qdq
from hwgen.errors import ConfigError, DataError
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.optimize.rewrite import with_node
from hwgen.packing import WeightFormat
from hwgen.quantize import CALIBRATED, Effort, Granularity, QuantizeOptions, RangeMethod, Repair, Scheme, quantize, quantize_with_report
from hwgen.quantize.absorb import absorb
from hwgen.quantize.clip import choose_clipping
from hwgen.quantize.equalize import equalize
from hwgen.quantize.few_bits import encode
from hwgen.quantize.fit import fit
from hwgen.quantize.metrics import sqnr_db
from hwgen.quantize.rounding import round_adaptively
from hwgen.quantize.samples import Places, collect, patches_at
from hwgen.quantize.search import LEAST_GAIN_DB, _Judge
from hwgen.quantize.sensitivity import measure
from hwgen.quantize.streams import divide, streams
from hwgen.quantize.synthetic import make_up, moved
from hwgen.quantize.trial import Score

SAME, POINT = Window(kernel=(3, 3), pads=(1, 1, 1, 1)), Window(kernel=(1, 1))


def separable(seed=0, clamp=RELU6, spread=6.0):
    """Expansion, depthwise, projection, residual, average, classifier; channels rescaled by up to 2**spread, which only scales can mend."""
    b = FloatBuilder(TensorType(8, 8, 3), seed)
    trunk = b.conv("x", 8, SAME, clamp=RELU)
    inner = b.conv(b.conv(trunk, 12, POINT, clamp=clamp), 12, SAME, group=12, clamp=clamp)
    trunk = b.node(Add(clamp=RELU), b.conv(inner, 8, POINT), trunk)
    graph = b.graph(b.conv(b.node(AveragePool(window=Window(kernel=(8, 8))), trunk), 5, POINT))
    for stream in streams(graph, additions=False):
        channels = graph.values[stream.values[0]].type.channels
        graph = divide(graph, stream, 2.0 ** b.rng.uniform(-spread, spread, channels))
    return graph


def outputs(graph, x):
    return evaluate(graph, x, outside=False)[graph.outputs[0].value]


def quality(graph, options, count=64):
    x, name = data(graph, 48, 9), graph.outputs[0].value
    quantized, report = quantize_with_report(graph, data(graph, count), options)
    return sqnr_db(outputs(graph, x), quantized.values[name].quantized.dequantize(golden(quantized, x)[name])), report


@pytest.mark.parametrize("additions", [False, True])
@pytest.mark.parametrize(("scheme", "granularity"), list(product(Scheme, Granularity)))
def test_equalization_keeps_the_float_function_and_relu6_exact(scheme, granularity, additions):
    graph = separable()
    x = data(graph, 16)
    assert any(np.size(node.op.clamp[1]) > 1 for node in graph.nodes if isinstance(node.op, Conv))
    samples = collect(graph, x)
    energy = measure(graph, samples, seen(graph, samples), 16).energy if additions else None
    options = QuantizeOptions(scheme=scheme, granularity=granularity)
    changed, scales = equalize(graph, samples.channels(), options, additions=additions, energy=energy)
    assert scales
    np.testing.assert_allclose(outputs(changed, x), outputs(graph, x), rtol=1e-4, atol=1e-5)
    values, before = evaluate(changed, x, outside=False), evaluate(graph, x, outside=False)
    for name, by in scales.items():
        np.testing.assert_allclose(values[name] * by, before[name], rtol=1e-3, atol=1e-4 * np.abs(before[name]).max())


def test_equalization_rescues_rescaled_channels_per_tensor_with_and_without_data():
    graph = separable()
    options = QuantizeOptions(granularity=Granularity.TENSOR, effort=Effort.FAST)
    broken = quality(graph, replace(options, effort=Effort.NONE))[0]
    mended, report = quality(graph, options)
    assert mended > max(20, broken + 8)
    assert Repair.EQUALIZE in {trial.repair for trial in report.trials if trial.kept}
    x, name = data(graph, 48, 9), graph.outputs[0].value
    free = quantize(graph, None, replace(options, input_range=(-3.0, 3.0)))
    assert sqnr_db(outputs(graph, x), free.values[name].quantized.dequantize(golden(free, x)[name])) > broken + 5


def test_a_conv_without_the_group_attribute_is_equalized():
    """Conv without the optional attribute `group` is silently skipped by equalization elsewhere."""
    weights = {"a": normal(6, 3, 3, 3), "b": normal(6, 1, 3, 3), "c": normal(4, 6, 1, 1)}
    weights["a"] *= np.float32([1, 100, 1, 0.01, 1, 10]).reshape(6, 1, 1, 1)
    nodes = [onnx_node("Conv", ["x", "a"], "h"), onnx_node("Relu", ["h"], "i"), onnx_node("Conv", ["i", "b"], "j", group=6), onnx_node("Conv", ["j", "c"], "y")]
    assert not [attribute.name for attribute in nodes[0].attribute if attribute.name == "group"]
    graph = imported(model(nodes, {"x": ["N", 3, 8, 8]}, weights))
    _, scales = equalize(graph, collect(graph, data(graph, 8)).channels(), QuantizeOptions(granularity=Granularity.TENSOR), additions=False)
    assert len(scales) == 2 and max(by.max() / by.min() for by in scales.values()) > 30


def test_streams_end_at_inputs_outputs_and_where_scales_do_not_pass():
    b = FloatBuilder(TensorType(6, 6, 3))
    first = b.conv("x", 4, SAME, clamp=RELU)
    joined = b.node(Add(clamp=RELU6), b.conv(first, 4, SAME), first)  # ReLU6 of a sum has one limit for all channels
    graph = b.graph(b.conv(joined, 2, POINT))
    assert streams(graph, additions=True) == ()
    assert streams(graph, additions=False) == ()


def test_absorbed_offsets_keep_the_function_on_the_samples():
    b = FloatBuilder(TensorType(4, 4, 2))
    first = b.conv("x", 3, POINT, clamp=RELU)
    graph = b.graph(b.conv(first, 2, POINT))
    node = graph.nodes[0]
    graph = with_node(graph, replace(node, op=replace(node.op, bias=np.float32([20, 0, 30]))))
    samples = collect(graph, data(graph, 16))
    changed, moved_samples = absorb(graph, samples)
    offset = samples.values[first].min((0, 1, 2)) - moved_samples.values[first].min((0, 1, 2))
    assert offset[0] > 10 and offset[2] > 10 and offset[1] == 0
    np.testing.assert_allclose(outputs(changed, samples.arrays), outputs(graph, samples.arrays), rtol=1e-4, atol=1e-4)
    padded = b.graph(b.conv(first, 2, SAME))
    assert absorb(padded, collect(padded, data(padded, 4)))[0] is padded


def test_adaptive_rounding_loses_less_at_the_output_than_nearest_and_is_nearest_for_white_inputs():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1, 500, 6)) @ rng.normal(size=(1, 6, 24)) + 0.1 * rng.normal(size=(1, 500, 24))).astype(np.float32)
    weights = rng.normal(size=(1, 9, 24)) * 3
    moments = np.swapaxes(x, 1, 2).astype(np.float64) @ x / 500
    found = round_adaptively(weights, moments, lambda units: encode(units, WeightFormat.INT4))
    assert (found == np.rint(found)).all() and np.abs(found).max() <= 8

    def loss(codes):
        return float((((codes - weights) @ moments) * (codes - weights)).sum())

    assert loss(found) < 0.6 * loss(encode(weights, WeightFormat.INT4))
    white = round_adaptively(weights, np.eye(24)[None], lambda units: encode(units, WeightFormat.INT8))
    np.testing.assert_array_equal(white, np.rint(weights))
    dead = round_adaptively(weights, np.zeros((1, 24, 24)), lambda units: encode(units, WeightFormat.INT8))
    np.testing.assert_array_equal(dead, np.rint(weights))


def test_adaptive_rounding_of_many_weights_follows_the_whole_inverse():
    """150 weights in a row: the inverse is put together from parts. The witness rounds one weight after the other, each time solving for
    the real values of all that are left."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 150)) @ rng.normal(size=(150, 150)) / 12
    weights, moments = rng.normal(0, 3, (1, 2, 150)), (x.T @ x / len(x))[None]
    found = round_adaptively(weights, moments, lambda units: encode(units, WeightFormat.INT8))
    order = np.argsort(-np.diagonal(moments[0]), kind="stable")
    damped = moments[0][order][:, order] + 0.01 * np.trace(moments[0]) / 150 * np.eye(150)
    for row in range(2):
        left, wanted = weights[0, row, order].copy(), np.empty(150)
        for k in range(150):
            wanted[k] = np.rint(left[k])
            left[k + 1 :] += np.linalg.solve(damped[k + 1 :, k + 1 :], damped[k + 1 :, k] * (left[k] - wanted[k]))
        np.testing.assert_array_equal(found[0, row, order], wanted)


@pytest.mark.parametrize("repairs", [frozenset(), frozenset({Repair.BIAS, Repair.ROUND})])
def test_inputs_held_out_run_along_and_fit_nothing(repairs):
    """Their results are the golden model's, and the network is the one that is fitted without them."""
    graph = separable(3)
    samples, held_out = collect(graph, data(graph, 24)), collect(graph, data(graph, 7, 5))
    ranges = {name: (min(float(value.min()), 0.0), max(float(value.max()), 0.0)) for name, value in samples.values.items()}
    alone, found = (fit(graph, samples, ranges, repairs, QuantizeOptions(), other) for other in (None, held_out))
    assert not alone.outputs
    wanted = golden(alone.graph, data(graph, 7, 5))
    assert found.outputs.keys() == wanted.keys() == {output.value for output in graph.outputs}
    for name, codes in wanted.items():
        np.testing.assert_array_equal(found.outputs[name], codes)
    for left, right in zip(alone.graph.nodes, found.graph.nodes, strict=True):
        if isinstance(left.op, Conv):
            np.testing.assert_array_equal(left.op.weight, right.op.weight)
            np.testing.assert_array_equal(left.op.bias, right.op.bias)


def test_clipping_takes_the_rule_that_loses_least_and_none_at_eight_bits():
    rng = np.random.default_rng(0)
    weights = rng.standard_t(3, size=(6, 400))
    ones, greatest = np.ones_like(weights), np.abs(weights).max(1)
    few = choose_clipping(weights, ones, greatest / 7, WeightFormat.INT4, together=False, shifts_only=False)
    assert few.rule != "none" and (few.factor < 0.9).any()
    uniform = rng.uniform(-1, 1, (6, 400))
    eight = choose_clipping(uniform, ones, np.abs(uniform).max(1) / 127, WeightFormat.INT8, together=True, shifts_only=False)
    assert eight.factor.min() > 0.97
    shifts = choose_clipping(weights, ones, greatest / 7, WeightFormat.INT4, together=False, shifts_only=True)
    assert set(np.log2(shifts.factor) % 1) == {0.0}


@pytest.mark.parametrize("group", [1, 2, 6])
def test_patches_times_weights_are_the_convolution(group):
    rng = np.random.default_rng(group)
    weight = rng.normal(size=(6, 3, 2, 6 // group)).astype(np.float32)
    op = Conv(weight=weight, bias=np.zeros(6, np.float32), window=Window(kernel=(3, 2), strides=(2, 1), pads=(1, 0, 2, 1), dilations=(1, 2)), group=group)
    x = rng.normal(size=(2, 7, 6, 6)).astype(np.float32)
    y = op.reference(x)
    places = Places(**dict(zip(("inputs", "rows", "columns"), np.unravel_index(np.arange(y[..., 0].size), y.shape[:3]), strict=True)))
    found = np.einsum("grk,gok->rgo", patches_at(op, x, 0.0, places), weight.reshape(group, 6 // group, -1))
    np.testing.assert_allclose(found.reshape(y.shape), y, rtol=1e-4, atol=1e-5)


def test_bias_correction_takes_off_the_mean_error_of_every_channel():
    graph = separable(clamp=RELU, spread=3)
    options = QuantizeOptions(granularity=Granularity.TENSOR, effort=Effort.FAST, repairs=(Repair.BIAS,))
    plain, mended = (quality(graph, replace(options, effort=effort))[0] for effort in (Effort.NONE, Effort.FAST))
    assert mended > plain + 1


@pytest.mark.parametrize("effort", [Effort.FAST, Effort.BEST])
@pytest.mark.parametrize("seed", range(3))
def test_repaired_networks_are_certified_written_and_read_again(effort, seed):
    graph = random_float_graph(seed)
    quantized, report = quantize_with_report(graph, data(graph, 13, seed), QuantizeOptions(effort=effort))
    again = import_quantized_model(to_qdq(quantized), graph.name)
    x = data(graph, 5, seed + 1)
    for ours, theirs in zip(golden(quantized, x).values(), golden(again, x).values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert report.certified_channels >= 0.9 * report.channels


def test_nothing_is_kept_that_does_not_gain_and_every_trial_is_told():
    graph = separable(spread=1)
    _, report = quality(graph, QuantizeOptions(effort=Effort.BEST))
    assert {trial.repair for trial in report.trials} >= {Repair.EQUALIZE, Repair.RANGE, Repair.CLIP}
    for trial, following in zip(report.trials, report.trials[1:], strict=False):
        if "unseen" not in following.detail:  # whose scores count what others lose
            assert following.before == (trial.after if trial.kept else trial.before)
    for trial in report.trials:
        assert not trial.kept or trial.gain_db > 0
        assert trial.seconds > 0 and trial.inputs > 0 and trial.kept != bool(trial.reason)
        assert trial.kept or trial.gain_db < LEAST_GAIN_DB or "one half" in trial.reason or "agree" in trial.reason or "0.5 dB" in trial.reason
    assert report.ranges.keys() == graph.values.keys()
    only = quality(graph, QuantizeOptions(effort=Effort.FAST, repairs=(Repair.ROUND,)))[1]
    assert {trial.repair for trial in only.trials} == {Repair.ROUND}
    apart = quality(graph, QuantizeOptions(effort=Effort.FAST, repairs=tuple(repair for repair in Repair if repair is not Repair.RANGE)))[1]
    assert [trial.repair for trial in apart.trials] == [Repair.BIAS, Repair.EQUALIZE, Repair.ROUND]


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ([(30, 0.9), (30, 0.9), (30, 0.9)], [(30.05, 0.8), (29.8, 0.8), (31, 0.8)], ""),
        ([(30, 0.9), (30, 0.9), (30, 0.9)], [(30.04, 0.9), (30, 0.9), (30, 0.9)], "gains less than 0.05 dB"),
        ([(30, 0.9), (30, 0.9), (30, 0.9)], [(32, 0.9), (29.5, 0.9), (34, 0.9)], "loses 0.50 dB on one half of the held-out inputs"),
        ([(30, 0.9), (30, 0.9), (30, 0.9)], [(32, 0.7), (31, 0.7), (34, 0.7)], "2 fewer inputs agree"),
        ([(30, 0.9), (30, 0.9), (30, 0.9)], [(-np.inf, 0.0)] * 3, "has no integer form"),
        ([(np.inf, 1.0)] * 3, [(np.inf, 1.0)] * 3, ""),
    ],
)
def test_the_reason_why_a_repair_is_left(before, after, reason):
    judge = object.__new__(_Judge)
    judge.count = 10
    scores = (tuple(Score(sqnr_db=db, agreement=share) for db, share in marks) for marks in (before, after))
    assert judge.against(*scores) == reason


def test_two_runs_give_the_same_integers():
    graph = separable()
    first, second = (quantize(graph, data(graph, 20), QuantizeOptions(effort=Effort.FAST)) for _ in range(2))
    assert to_qdq(first).SerializeToString(deterministic=True) == to_qdq(second).SerializeToString(deterministic=True)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("method", CALIBRATED)
def test_few_inputs_and_ragged_batches(count, method, monkeypatch):
    """Calibration with one input; a last batch that is not full counts like the others."""
    graph = separable(spread=1)
    options = QuantizeOptions(ranges=method, effort=Effort.FAST)
    assert quality(graph, options, count)[0] > 5
    whole = quantize_with_report(graph, data(graph, count), replace(options, effort=Effort.NONE))[1].ranges
    monkeypatch.setattr("hwgen.quantize.quantizer.BATCH_ELEMENTS", 2 * sum(value.type.elements for value in graph.values.values()))
    parts = quantize_with_report(graph, data(graph, count), replace(options, effort=Effort.NONE))[1].ranges
    for name in whole:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("bias", [1e9, 1e30, 1e-42])
def test_tiny_scales_huge_biases_dead_and_constant_channels(scheme, bias):
    """int32 bias overflow at tiny scales; weights of zero, of denormals; percentiles of a constant channel."""
    b = FloatBuilder(TensorType(6, 6, 3))
    middle = b.conv("x", 6, SAME, clamp=RELU)
    graph = b.graph(b.conv(middle, 3, POINT))
    node = graph.nodes[0]
    weight, biases = node.op.weight.copy(), node.op.bias.copy()
    weight[0], biases[0] = 0, 0  # dead
    weight[1], biases[1] = 0, 0.5  # constant
    weight[2] = 1e-40  # denormal
    weight[3], biases[3] = 1e-20, -abs(bias)  # a bias far beyond int32 in units of the products; the channel is never above zero
    graph = with_node(graph, replace(node, op=replace(node.op, weight=weight, bias=biases)))
    for method in (RangeMethod.PERCENTILE, RangeMethod.KL):
        quantized = quantize(graph, data(graph, 8), QuantizeOptions(scheme=scheme, ranges=method, effort=Effort.FAST))
        x, name = data(graph, 8, 3), graph.outputs[0].value
        assert sqnr_db(outputs(graph, x), quantized.values[name].quantized.dequantize(golden(quantized, x)[name])) > 12


def test_a_bias_that_two_layers_share():
    weights = {"a": normal(4, 3, 3, 3), "b": normal(4, 4, 1, 1), "s": normal(4)}
    nodes = [onnx_node("Conv", ["x", "a", "s"], "h"), onnx_node("Relu", ["h"], "i"), onnx_node("Conv", ["i", "b", "s"], "y")]
    graph = imported(model(nodes, {"x": ["N", 3, 8, 8]}, weights))
    assert quality(graph, QuantizeOptions(effort=Effort.FAST))[0] > 25


def test_batch_norm_statistics_set_the_moments_without_data():
    parameters = {"w": normal(4, 3, 3, 3), "scale": np.float32([2, 0.5, -1, 3]), "shift": np.float32([0, 1, -2, 5]), "mean": normal(4)}
    parameters["var"] = np.abs(normal(4)) + 1
    nodes = [onnx_node("Conv", ["x", "w"], "h"), onnx_node("BatchNormalization", ["h", "scale", "shift", "mean", "var"], "n"), onnx_node("Relu", ["n"], "y")]
    graph = imported(model(nodes, {"x": ["N", 3, 16, 16]}, parameters))
    (node,) = graph.nodes
    np.testing.assert_array_equal(node.op.moments, [parameters["shift"], np.abs(parameters["scale"])])
    values = make_up(graph, QuantizeOptions(input_range=(0.0, 1.0))).values[node.output]
    deviation = np.abs(parameters["scale"])
    normalized = parameters["shift"] / deviation
    density = np.exp(-(normalized**2) / 2) / np.sqrt(2 * np.pi)
    below = np.array([0.5 * (1 + erf(z / 2**0.5)) for z in normalized.tolist()])
    rectified = deviation * density + parameters["shift"] * below  # mean of a rectified normal distribution: Nagel et al., appendix
    np.testing.assert_allclose(values.mean((0, 1, 2)), rectified, rtol=0.1, atol=0.15)


def test_moments_are_met_and_dead_channels_stay_constant():
    values = np.random.default_rng(0).normal(3, 2, (4, 5, 5, 2)).astype(np.float32)
    values[..., 1] = 7
    found = moved(values, (np.float32([1, -1]), np.float32([0.5, 2])))
    np.testing.assert_allclose(found.mean((0, 1, 2)), [1, -1], atol=1e-5)
    np.testing.assert_allclose(found.std((0, 1, 2)), [0.5, 0], atol=1e-5)


def test_made_up_inputs_fill_the_range_and_their_channels_go_from_independent_to_equal():
    b = FloatBuilder(TensorType(24, 24, 3))
    graph = b.graph(b.conv("x", 4, SAME))
    x = make_up(graph, QuantizeOptions(input_range=(-2.0, 6.0))).values["x"].astype(np.float64)
    assert x.min() == -2 and x.max() == 6 and (x.min((1, 2, 3)) == -2).all() and (x.max((1, 2, 3)) == 6).all()
    alike = np.array([np.corrcoef(each.reshape(-1, 3).T)[0, 1] for each in x])
    assert abs(alike[:4].mean()) < 0.4 and alike[-1] > 0.999 and alike[-8:].min() > 0.6
    at_ends = ((x == -2) | (x == 6)).mean((1, 2, 3))
    assert at_ends.min() < 0.01 and at_ends.max() > 0.2


def test_without_data_ranges_go_beyond_what_made_up_inputs_give_but_not_beyond_clamps():
    b = FloatBuilder(TensorType(8, 8, 3))
    hidden = b.conv(b.conv("x", 8, SAME, clamp=RELU), 8, SAME, clamp=(0.0, 0.5))
    graph = b.graph(b.conv(hidden, 5, POINT))
    options = QuantizeOptions(input_range=(0.0, 1.0))
    values, ranges = make_up(graph, options).values, quantize_with_report(graph, None, options)[1].ranges
    first, second, last = (node.output for node in graph.nodes)
    assert ranges["x"] == (0.0, 1.0) and ranges[second] == (0.0, 0.5)
    assert ranges[first] == (0.0, pytest.approx(1.5 * float(values[first].max())))
    assert ranges[last] == (pytest.approx(2 * float(values[last].min())), pytest.approx(2 * float(values[last].max())))


def test_without_data_the_range_of_the_inputs_must_be_known():
    graph = separable()
    with pytest.raises(DataError, match=r"^input 'image': without calibration data its range must be known, but float32 has none; pass --input-range LOW,HIGH"):
        quantize(graph, None)
    bytes_in = replace(graph, inputs=(replace(graph.inputs[0], dtype="uint8"),))
    assert quantize_with_report(bytes_in, None)[1].ranges["x"][1] == 255
    with pytest.raises(ConfigError, match=r"^input_range: must be two finite numbers, the lower one first, not 1.0 and 0.0$"):
        QuantizeOptions(input_range=(1.0, 0.0))
