"""Tables of 256 codes against ONNX Runtime, which computes in float32 between DequantizeLinear and QuantizeLinear: one code apart at most."""

from __future__ import annotations

from dataclasses import replace

import golden_witness
import numpy as np
import onnx
import pytest
from float_graphs import FloatBuilder, data, random_float_graph
from openset_support import session
from random_graphs import random_graph

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import ModelError
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.golden import golden_codes
from hwgen.ops.lookup import Function, Lookup, Step
from hwgen.quantize import quantize

STEPS = [example.op.steps for example in Lookup.examples()]
NAMES = ["-".join(step.function.value for step in steps) for steps in STEPS]
QUANTIZATIONS = [
    (Quantization(scale=np.float32(0.05), zero_point=0), Quantization(scale=np.float32(1 / 256), zero_point=-128, unsigned=True)),
    (Quantization(scale=np.float32(0.0313), zero_point=-17, unsigned=True), Quantization(scale=np.float32(0.021), zero_point=9)),
    (Quantization(scale=np.float32(0.5), zero_point=127), Quantization(scale=np.float32(0.25), zero_point=-3)),
]


def network(steps: tuple[Step, ...], x: Quantization, y: Quantization):
    """A Lookup alone, from an input of 256 pixels."""
    b = FloatBuilder(TensorType(16, 16, 1))
    output = b.node(Lookup(steps=steps), "x")
    graph = b.graph(output)
    return replace(graph, values={name: replace(value, quantization=x if name == "x" else y) for name, value in graph.values.items()})


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
@pytest.mark.parametrize("steps", STEPS, ids=NAMES)
def test_every_code_equals_onnxruntime_but_for_a_tie(steps, form):
    different = 0
    for x, y in QUANTIZATIONS:
        graph = network(steps, x, y)
        codes = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
        (found,) = golden_codes(graph, {"x": codes}).values()
        model = form(graph)
        onnx.checker.check_model(model)
        real = session(model.SerializeToString()).run(None, {"image": x.dequantize(codes).transpose(0, 3, 1, 2)})[0]
        theirs = np.rint(real.reshape(-1).astype(np.float64) / float(y.scale)) + y.zero_point
        distance = np.abs(theirs - found.reshape(-1))
        assert distance.max() <= 1
        different += int((distance > 0).sum())
    assert different <= 2  # of 768: where a result lies between two codes within float32's last digits


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
@pytest.mark.parametrize("steps", STEPS, ids=NAMES)
def test_what_was_written_comes_back(steps, form):
    graph = network(steps, *QUANTIZATIONS[1])
    again = import_quantized_model(form(graph), "net")
    assert [type(node.op) for node in again.nodes] == [Lookup]
    codes = {"x": np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)}
    (first,), (second,) = golden_codes(graph, codes).values(), golden_codes(again, codes).values()
    np.testing.assert_array_equal(first, second)


def test_a_rounding_between_steps_is_written_and_comes_back():
    """x * quantized(sigmoid(x)): two codes of x that differ may give one factor."""
    rounding = Step(function=Function.QUANTIZE, operands=(1,), parameters=(0.1, -128.0))
    steps = (Step(function=Function.SIGMOID), rounding, Step(function=Function.MUL, operands=(0, 2)))
    graph = network(steps, *QUANTIZATIONS[1])
    again = import_quantized_model(to_qdq(graph), "net")
    assert [node.op for node in again.nodes] == [Lookup(steps=steps)]


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
@pytest.mark.parametrize("seed", range(12))
def test_networks_with_tables_come_back_the_same(seed, form):
    graph = random_float_graph(seed, tables=True)
    quantized = quantize(graph, data(graph, 10, seed))
    again = import_quantized_model(form(quantized), "net")
    rng = np.random.default_rng(0)
    codes = {"x": rng.integers(-128, 128, (3, *graph.values["x"].type.shape)).astype(np.int8)}
    first, second = (golden_codes(each, codes, keep=each.values) for each in (quantized, again))
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(second[name], first[name], err_msg=name)


def test_golden_equals_the_witness_on_random_networks():
    seen = 0
    for seed in range(20):
        graph = random_graph(seed, nodes=3, tables=True, moves=seed % 2 == 1, gaps=seed % 3 == 1)
        if sum(value.type.elements for value in graph.values.values()) > 6000:
            continue
        seen += sum(isinstance(node.op, Lookup) for node in graph.nodes)
        codes = {"v0": np.random.default_rng(seed).integers(-128, 128, (1, *graph.values["v0"].type.shape)).astype(np.int8)}
        expected, found = golden_witness.run(graph, codes), golden_codes(graph, codes, keep=graph.values)
        for name in graph.values:
            np.testing.assert_array_equal(found[name], expected[name], err_msg=f"seed {seed}, value {name}")
    assert seen >= 5


def test_what_has_no_result_is_zero_and_what_is_infinite_saturates():
    x, y = Quantization(scale=np.float32(1), zero_point=0), Quantization(scale=np.float32(0.5), zero_point=3)
    root = Lookup(steps=(Step(function=Function.SQRT),)).table(x, y)
    assert root[:128].tolist() == [3] * 128 and root[128 + 9] == 9
    logarithm = Lookup(steps=(Step(function=Function.LOG),)).table(x, y)
    assert logarithm[128] == -128 and logarithm[0] == 3
    assert Lookup(steps=(Step(function=Function.EXP),)).table(x, y)[255] == 127
    assert Lookup(steps=(Step(function=Function.RECIPROCAL),)).table(x, y)[128] == 127


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((), "Lookup: needs at least one step"),
        ((Step(function=Function.TANH, operands=(1,)),), r"Lookup: step 1 (Tanh) must read 1 earlier results, not (1,)"),
        ((Step(function=Function.MUL),), "Lookup: step 1 (Mul) must read 2 earlier results, not (0,)"),
        ((Step(function=Function.ELU),), "Lookup: step 1 (Elu) must have 1 finite parameters, not ()"),
        ((Step(function=Function.SCALE, parameters=(1e300,)),), "Lookup: step 1 (scale) must have 1 finite parameters, not (inf,)"),
        ((Step(function=Function.CLIP, parameters=(np.nan, 1)),), "Lookup: step 1 (Clip) must have 2 finite parameters, not (nan, 1.0)"),
    ],
)
def test_illegal_steps(steps, message):
    with pytest.raises(ModelError) as caught:
        Lookup(steps=steps).infer(TensorType(1, 1, 1))
    assert str(caught.value) == message
