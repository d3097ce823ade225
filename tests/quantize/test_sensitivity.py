"""What flows back through operators, against differences; what noise leaves at the outputs, against noise that is really added."""

from dataclasses import replace

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder, data, random_float_graph, residual, seen

from hwgen.ir.graph import Graph, GraphInput, Node, Value
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.elementwise import Mul
from hwgen.optimize.rewrite import with_node
from hwgen.quantize import QuantizeOptions
from hwgen.quantize import equalize as equalization
from hwgen.quantize.adjoint import ADJOINTS, operand_gradients
from hwgen.quantize.samples import collect
from hwgen.quantize.sensitivity import measure

SAME, POINT = Window(kernel=(3, 3), pads=(1, 1, 1, 1)), Window(kernel=(1, 1))
EXAMPLES = [example for kind in ADJOINTS for example in kind.examples()]


@pytest.mark.parametrize("example", EXAMPLES, ids=[f"{type(example.op).__name__}{number}" for number, example in enumerate(EXAMPLES)])
def test_gradients_of_operands_are_those_that_differences_give(example):
    rng = np.random.default_rng(7)
    names = tuple(f"x{number}" for number in range(len(example.inputs)))
    values = {name: Value(name=name, type=kind) for name, kind in zip(names, example.inputs, strict=True)}
    values["y"] = Value(name="y", type=example.op.infer(*example.inputs))
    node = Node(name="node", op=example.op, inputs=names, output="y")
    inputs = tuple(GraphInput(name=name, shape=(-1, *values[name].type.shape), dtype="float32", value=name) for name in names)
    graph = Graph(name="one", nodes=(node,), values=values, inputs=inputs, outputs=())
    operands = [rng.normal(size=(2, *kind.shape)).astype(np.float32) for kind in example.inputs]
    change = [(0.01 * rng.normal(size=array.shape)).astype(np.float32) for array in operands]
    here, above, below = (example.op.reference(*(x + np.float32(side) * d for x, d in zip(operands, change, strict=True))) for side in (0, 1, -1))
    gradient = rng.normal(size=here.shape).astype(np.float32)
    gradient[np.abs(above + below - 2 * here) > 1e-4] = 0  # where a limit or another winner lies between
    assert (gradient != 0).mean() > 0.5
    found = operand_gradients(node, graph, {**dict(zip(names, operands, strict=True)), "y": here}, gradient)
    expected = float(((above.astype(np.float64) - below) / 2 * gradient).sum())
    got = sum(float((d.astype(np.float64) * g).sum()) for d, g in zip(change, found, strict=True))
    scale = float(np.abs((above - below) / 2 * gradient).sum())
    assert [g.shape for g in found] == [x.shape for x in operands]
    assert got == pytest.approx(expected, abs=2e-3 * scale)


def test_energy_is_what_added_noise_leaves_at_the_outputs():
    graph = residual()
    samples = collect(graph, data(graph, 200))
    found = measure(graph, samples, seen(graph, samples), 200)
    output, rng = graph.outputs[0].value, np.random.default_rng(3)
    assert found.energy.keys() == graph.values.keys()
    for node in graph.nodes[:-1]:
        values, deviation = dict(samples.values), 1e-3 * float(samples.values[node.output].std())
        inside = values[node.output] > 0 if node.op.clamp == RELU else True
        noisy = values[node.output] + np.where(inside, deviation * rng.normal(size=values[node.output].shape), 0).astype(np.float32)
        values[node.output] = noisy
        for later in graph.nodes[graph.nodes.index(node) + 1 :]:
            values[later.output] = later.op.reference(*(values[name] for name in later.inputs))
        change, wanted = values[output] - samples.values[output], samples.values[output]
        relative = float((change.astype(np.float64) ** 2).sum() / 200 / (wanted.astype(np.float64) ** 2).mean())
        assert deviation**2 * found.energy[node.output].sum() == pytest.approx(relative, rel=0.3), node.name


def test_scaled_channels_have_the_sensitivity_of_the_scaled_network():
    graph = residual()
    samples = collect(graph, data(graph, 12))
    found = measure(graph, samples, seen(graph, samples), 12)
    name, by = graph.nodes[0].output, np.arange(1.0, 9.0)
    scaled = found.divided({name: by})
    np.testing.assert_allclose(scaled.gradients[name], found.gradients[name] * by, rtol=1e-5)
    np.testing.assert_allclose(scaled.energy[name], found.energy[name] * by**2, rtol=1e-5)
    np.testing.assert_allclose(scaled.squares[name], found.squares[name] * by**2, rtol=1e-5)
    assert scaled.energy["x"] is found.energy["x"]


def test_equalization_goes_on_with_the_sensitivity_of_what_it_has_scaled(monkeypatch):
    """By the network as it stands when each stream is looked at, of which sensitivity is measured anew."""
    graph, looked_at = residual(), []
    first = graph.nodes[0]
    uneven = first.op.weight * (4.0 ** np.arange(8) / 256).astype(np.float32).reshape(-1, 1, 1, 1)
    graph = with_node(graph, replace(first, op=replace(first.op, weight=uneven)))
    noise = equalization._Noise

    def looks(now, stream, ranges, energy, options):
        looked_at.append((now, dict(energy)))
        return noise(now, stream, ranges, energy, options)

    monkeypatch.setattr(equalization, "_Noise", looks)
    x = data(graph, 16)
    samples = collect(graph, x)
    energy = measure(graph, samples, seen(graph, samples), 16).energy
    _, scales = equalization.equalize(graph, samples.channels(), QuantizeOptions(), additions=True, energy=energy)
    now, kept = looked_at[-1]
    again = collect(now, x)
    anew = measure(now, again, seen(now, again), 16).energy
    assert any(np.abs(np.log(by)).max() > 0.5 for by in scales.values())
    for name, expected in anew.items():
        np.testing.assert_allclose(kept[name], expected, rtol=1e-3)


def test_nothing_is_said_of_values_whose_whole_way_to_the_outputs_is_not_known():
    b = FloatBuilder(TensorType(6, 6, 4))
    first = b.conv("x", 4, SAME, clamp=RELU)
    gate = b.conv(first, 4, POINT)
    joined = b.node(Mul(), b.conv(first, 4, SAME), gate)
    last = b.conv(joined, 3, POINT)
    graph = b.graph(last)
    samples = collect(graph, data(graph, 5))
    assert measure(graph, samples, seen(graph, samples), 5).energy.keys() == {joined, last}


def test_inputs_that_reach_farthest_are_measured_and_count_for_themselves():
    graph = random_float_graph(0)
    samples = collect(graph, data(graph, 60))
    found = measure(graph, samples, seen(graph, samples), 10)
    for value in samples.values.values():
        rows = value.reshape(60, -1)
        for number in (int(rows.max(1).argmax()), int(rows.min(1).argmin())):
            assert found.weights[list(found.numbers).index(number)] == 1
    assert found.weights.sum() == pytest.approx(60) and found.weights.max() > 1
    assert len(found.numbers) < 60 and all(len(array) == len(found.numbers) for array in found.gradients.values())
