"""Room beyond the extremes: what single inputs would have lost, and that it is taken only where it is worth its coarser codes."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import RELU, RELU6, FloatBuilder, random_float_graph

from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window, clamp_of
from hwgen.ops.golden import golden
from hwgen.quantize import Effort, QuantizeOptions, RangeMethod, Repair, quantize_with_report
from hwgen.quantize.metrics import sqnr_db
from hwgen.quantize.quantizer import limited_ranges, observe
from hwgen.quantize.room import Unseen, best_room, with_room
from hwgen.quantize.samples import collect

SAME, POINT = Window(kernel=(3, 3), pads=(1, 1, 1, 1)), Window(kernel=(1, 1))


def loud(graph, count, seed, tail):
    """Inputs within known ends, whose channels are alike loud in all inputs (tail 0) or now and then much louder."""
    rng = np.random.default_rng(seed)
    shapes = {entry.name: (count, *entry.shape[1:]) for entry in graph.inputs}
    loudness = {name: np.exp(tail * rng.normal(size=(count, shape[1], 1, 1))) for name, shape in shapes.items()}
    return {name: np.clip(rng.normal(size=shape) * loudness[name], -4, 4).astype(np.float32) for name, shape in shapes.items()}


def stack(limit=RELU):
    b = FloatBuilder(TensorType(4, 4, 6), 1)
    value = "x"
    for _ in range(4):
        value = b.conv(value, 8, SAME, clamp=limit)
    return b.graph(b.conv(value, 4, POINT))


@pytest.mark.parametrize("room", [1.0, 1.3])
@pytest.mark.parametrize("seed", [0, 4])
def test_what_is_lost_is_what_each_input_loses_at_the_ranges_of_all_others(seed, room):
    graph = random_float_graph(seed)
    x = loud(graph, 9, seed, 0.5)
    samples = collect(graph, x)
    ranges = limited_ranges(graph, observe(graph, x, histogram=False), QuantizeOptions())
    noise = np.zeros(9)
    for k in range(9):
        values = {entry.value: samples.values[entry.value][k : k + 1] for entry in graph.inputs}
        for node in graph.nodes:
            others = np.delete(samples.values[node.output], k, axis=0)
            low, high = min(float(others.min()), 0.0) * room, max(float(others.max()), 0.0) * room
            values[node.output] = np.clip(node.op.reference(*(values[name] for name in node.inputs)), low, high)
        for name in {output.value for output in graph.outputs}:
            noise[k] += ((values[name].astype(np.float64) - samples.values[name][k]) ** 2).sum()
    signal = sum((samples.values[output.value].astype(np.float64) ** 2).sum() for output in graph.outputs)
    assert noise.sum() > 0
    assert Unseen.of(graph, samples, ranges).lost(room) == pytest.approx((noise.sum() - noise.max()) / signal, rel=1e-3, abs=1e-12)


@pytest.mark.parametrize("seed", [5, 6])
def test_inputs_not_seen_gain_by_room(seed, monkeypatch):
    monkeypatch.setattr("hwgen.quantize.search.FAST_RANGES", (RangeMethod.MSE,))  # others have some room of their own
    graph = stack()
    repairs = tuple(repair for repair in Repair if repair is not Repair.EQUALIZE)
    unseen, options = loud(graph, 300, 77, 0.8), QuantizeOptions(effort=Effort.FAST, repairs=repairs)
    name = graph.outputs[0].value
    wanted = evaluate(graph, unseen, outside=False)[name]

    def found(options):
        quantized, report = quantize_with_report(graph, loud(graph, 40, seed, 0.8), options)
        return sqnr_db(wanted, quantized.values[name].quantized.dequantize(golden(quantized, unseen)[name])), report

    roomy, report = found(options)
    trial = report.trials[-1]
    assert trial.repair is Repair.RANGE and trial.kept and trial.detail.endswith("times as wide, for unseen extremes")
    assert roomy > found(replace(options, repairs=tuple(repair for repair in repairs if repair is not Repair.RANGE)))[0] + 1


def test_inputs_that_all_come_twice_ask_for_no_room():
    graph = stack()
    once = loud(graph, 20, 5, 0.8)
    _, report = quantize_with_report(graph, {name: np.repeat(array, 2, axis=0) for name, array in once.items()}, QuantizeOptions(effort=Effort.FAST))
    assert report.trials and not any("unseen" in trial.detail for trial in report.trials)


def test_room_ends_at_inputs_and_at_what_operators_reach():
    graph = stack(RELU6)
    ranges = {name: (-1.0, 5.0) for name in graph.values}
    wide = with_room(graph, ranges, 2.0)
    assert wide["x"] == (-1.0, 5.0) and wide[graph.outputs[0].value] == (-2.0, 10.0)
    assert all(wide[node.output] == (0.0, 6.0) for node in graph.nodes if clamp_of(node.op) == RELU6)


def test_the_factor_weighs_clipping_against_coarser_codes():
    class Known(Unseen):
        def lost(self, room):
            return 0.1 if room < 1.3 else 0.0

    known = Known(graph=stack(), samples=collect(stack(), loud(stack(), 2, 0, 0.0)), ends={}, extremes={}, signal=1.0)
    assert best_room(known, 0.01) == 1.3
    assert best_room(known, 0.2) == 1.0


def test_ranges_inside_the_extremes_were_decided_by_no_single_input():
    graph = stack()
    x = loud(graph, 30, 3, 0.4)
    samples = collect(graph, x)
    seen, inside = observe(graph, x, histogram=True), QuantizeOptions(ranges=RangeMethod.PERCENTILE, percentile=90.0)
    few, all_ = (Unseen.of(graph, samples, limited_ranges(graph, seen, options)).samples.count for options in (inside, QuantizeOptions()))
    assert few < all_
