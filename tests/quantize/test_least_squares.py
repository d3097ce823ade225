"""Weights of few bits solved for: the least-squares problem, that its solution cannot be improved one weight at a time, and what it gains."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder

from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden
from hwgen.optimize.rewrite import with_node
from hwgen.packing import WeightFormat
from hwgen.quantize import Effort, Granularity, QuantizeOptions, Repair, Scheme, quantize_with_report
from hwgen.quantize.few_bits import encode, least_squares_scales
from hwgen.quantize.least_squares import PULL, Problem, solve
from hwgen.quantize.metrics import sqnr_db

SAME, POINT = Window(kernel=(3, 3), pads=(1, 1, 1, 1)), Window(kernel=(1, 1))
FEW = (WeightFormat.INT4, WeightFormat.INT2, WeightFormat.TERNARY, WeightFormat.BINARY)


def problem(groups=2, outputs=3, size=5, seed=0):
    """Float weights, what the float layer meets, what the quantized one meets, the problem."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(groups, outputs, size))
    real = (rng.normal(size=(groups, 300, size)) @ rng.normal(size=(groups, size, size)) + 0.5).astype(np.float32)
    met = (real + 0.3 * rng.normal(size=real.shape)).astype(np.float32)
    return weights, real, met, Problem.of(weights, real, met)


def test_the_target_is_the_least_squares_solution_on_what_is_met():
    """Witness: numpy's lstsq on centered rows, the pull towards the float weights as further rows."""
    weights, real, met, found = problem()
    for g in range(2):
        x, y = met[g].astype(np.float64), real[g].astype(np.float64) @ weights[g].T
        x, y = (x - x.mean(0)) / np.sqrt(len(x)), (y - y.mean(0)) / np.sqrt(len(y))
        pull = np.sqrt(PULL * (x**2).sum() / 5)
        wanted, *_ = np.linalg.lstsq(np.vstack([x, pull * np.eye(5)]), np.vstack([y, pull * weights[g].T]), rcond=None)
        np.testing.assert_allclose(found.target[g], wanted.T, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", FEW)
def test_no_weight_and_no_scale_can_be_changed_alone_with_gain(kind):
    *_, found = problem(size=12, seed=3)
    first = least_squares_scales(found.target.reshape(6, 12), kind).reshape(2, 3)
    codes, scale = solve(found, first, lambda units: encode(units, kind), together=False, fixed=False)
    assert kind.holds(codes.astype(np.int64))
    least = found.loss(codes, scale)
    allowed = [code for code in range(kind.low, kind.high + 1) if kind is not WeightFormat.BINARY or code]
    for k, code in product(range(12), allowed):
        other = codes.copy()
        other[:, :, k] = code
        assert (found.loss(other, scale) >= least - 1e-9 * np.abs(least)).all()
    for factor in (0.999, 1.001):
        assert (found.loss(codes, scale * factor) >= least).all()


def test_few_weights_come_near_the_best_of_all_codes():
    kind = WeightFormat.INT2
    *_, found = problem(groups=1, outputs=8, size=5, seed=1)
    codes, scale = solve(found, least_squares_scales(found.target[0], kind)[None], lambda units: encode(units, kind), together=False, fixed=False)
    every = np.array([row for row in product(range(-2, 2), repeat=5) if any(row)], np.float64)
    weighted = every @ found.moments[0]
    gains = np.maximum(weighted @ found.target[0].T, 0) ** 2 / (weighted * every).sum(1)[:, None]  # at each one's best scale
    best = (found.target[0] @ found.moments[0] * found.target[0]).sum(1) - gains.max(0)
    ratio = found.loss(codes, scale)[0] / best
    assert (ratio >= 1 - 1e-9).all() and np.median(ratio) < 1.3 and ratio.max() < 2.5


def test_one_scale_for_all_and_scales_that_are_kept():
    *_, found = problem()
    first = np.full((2, 3), 0.5)
    for fixed in (True, False):
        codes, scale = solve(found, first, lambda units: encode(units, WeightFormat.INT4), together=True, fixed=fixed)
        assert len(np.unique(scale)) == 1 and (scale[0, 0] == 0.5) == fixed
        assert found.loss(codes, scale).sum() <= found.loss(encode(found.target / 0.5, WeightFormat.INT4).astype(np.float64), first).sum()


def network():
    b = FloatBuilder(TensorType(8, 8, 3), 2)
    value = b.conv("x", 12, SAME, clamp=RELU)
    value = b.conv(b.conv(value, 12, SAME, group=12, clamp=RELU), 16, POINT, clamp=RELU)
    return b.graph(b.conv(b.node(AveragePool(window=Window(kernel=(8, 8))), value), 6, POINT))


def smooth(graph, count, seed=0):
    """Inputs whose neighbours and channels are alike, as those of images."""
    x = np.random.default_rng(seed).normal(size=(count, 3, 8, 8))
    x = x + 1.5 * np.repeat(np.repeat(x[:, :1, ::4, ::4], 4, 2), 4, 3)
    return {entry.name: x.astype(np.float32) for entry in graph.inputs}


@pytest.mark.parametrize("options", [{}, {"granularity": Granularity.TENSOR}, {"scheme": Scheme.POWER_OF_TWO}], ids=str)
@pytest.mark.parametrize("kind", [WeightFormat.INT4, WeightFormat.INT2])
def test_networks_of_few_bits_gain(kind, options):
    graph = network()
    x, name = smooth(graph, 64, 9), graph.outputs[0].value
    wanted, found = evaluate(graph, x, outside=False)[name], []
    for repairs in ((Repair.BIAS, Repair.ROUND, Repair.CLIP), (Repair.SOLVE, Repair.CLIP)):
        quantized, report = quantize_with_report(graph, smooth(graph, 40), QuantizeOptions(weights=kind, effort=Effort.FAST, repairs=repairs, **options))
        found.append(sqnr_db(wanted, quantized.values[name].quantized.dequantize(golden(quantized, x)[name])))
    weights = [node.op for node in quantized.nodes if isinstance(node.op, Conv)]
    assert options.get("granularity") is not Granularity.TENSOR or all(len(np.unique(op.weight_scale)) == 1 for op in weights)
    assert report.trials[0].repair is Repair.SOLVE and report.trials[0].kept
    assert found[1] > found[0] + (1.0 if kind is WeightFormat.INT2 else 0.3)
    assert all(kind.holds(op.weight) for op in weights)


def test_weights_beyond_what_ratios_express_stay_as_they_were():
    graph = network()
    first = graph.nodes[0]
    graph = with_node(graph, replace(first, op=replace(first.op, weight=first.op.weight * np.float32(1e-12))))
    quantized, _ = quantize_with_report(graph, smooth(graph, 40), QuantizeOptions(weights=WeightFormat.INT4, effort=Effort.FAST, repairs=(Repair.SOLVE,)))
    assert all(np.isfinite(node.op.weight_scale).all() for node in quantized.nodes if isinstance(node.op, Conv))
