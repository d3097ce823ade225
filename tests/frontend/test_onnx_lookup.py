"""Activations and arithmetic between functions of one value: each becomes one table, equal to ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from foreign_models import Foreign, conv_model
from onnx.reference import ReferenceEvaluator
from onnx_models import assert_equal_to_onnxruntime, feeds_of, imported, model, node, normal, operators

from hwgen.errors import ModelError
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.evaluate import evaluate
from hwgen.ops.lookup import Function, Lookup

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(3, 4, 3, 3), "b": normal(3)}
CONV = node("Conv", ["x", "w", "b"], "h")
F = np.float32

ALONE = {
    "Abs": {}, "Celu": {"alpha": 0.6}, "Cos": {}, "Elu": {"alpha": 0.7}, "Erf": {}, "Exp": {}, "Ceil": {}, "Floor": {}, "HardSigmoid": {"alpha": 0.3},
    "HardSwish": {}, "LeakyRelu": {"alpha": 0.2}, "Mish": {}, "Neg": {}, "Round": {}, "Selu": {}, "Sigmoid": {}, "Sign": {}, "Sin": {}, "Softplus": {},
    "Softsign": {}, "Tanh": {}, "ThresholdedRelu": {"alpha": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("operator", ALONE)
def test_an_operator_behind_a_convolution(operator: str) -> None:
    graph = assert_equal_to_onnxruntime(model([CONV, node(operator, ["h"], "y", **ALONE[operator])], X, W, opset=18))
    assert operators(graph) == ["Conv", "Lookup"]


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate: str) -> None:
    graph = assert_equal_to_onnxruntime(model([CONV, node("Gelu", ["h"], "y", approximate=approximate)], X, W, opset=20))
    assert operators(graph) == ["Conv", "Lookup"]


def test_gelu_of_another_kind_is_refused() -> None:
    with pytest.raises(ModelError, match="Gelu 'y': attribute approximate must be none or tanh, not 'sigmoid'"):
        imported(model([CONV, node("Gelu", ["h"], "y", approximate="sigmoid")], X, W, opset=20))


@pytest.mark.parametrize("alpha", [1.0, 1.702])
def test_swish_equals_its_definition(alpha: float) -> None:
    """Of opset 24, which this ONNX Runtime does not have."""
    proto = model([CONV, node("Swish", ["h"], "y", alpha=alpha)], X, W, opset=24)
    expected = ReferenceEvaluator(model([CONV], X, W, outputs=("h",))).run(None, feeds_of(proto))[0]
    graph = imported(proto)
    np.testing.assert_allclose(evaluate(graph, feeds_of(proto))["y"], expected / (1 + np.exp(-alpha * expected)), atol=1e-5)


POSITIVE = [node("Exp", ["h"], "e")]
WRITTEN_OUT = {
    "silu": ([node("Sigmoid", ["h"], "s"), node("Mul", ["h", "s"], "y")], {}),
    "silu_the_other_way": ([node("Sigmoid", ["h"], "s"), node("Mul", ["s", "h"], "y")], {}),
    "silu_by_division": (
        [node("Neg", ["h"], "n"), node("Exp", ["n"], "e"), node("Add", ["e", "one"], "d"), node("Div", ["h", "d"], "y")],
        {"one": F(1)},
    ),
    "sigmoid_by_division": (
        [node("Neg", ["h"], "n"), node("Exp", ["n"], "e"), node("Add", ["e", "one"], "d"), node("Div", ["one", "d"], "y")],
        {"one": F(1)},
    ),
    "hard_swish": (
        [node("Add", ["h", "three"], "a"), node("Clip", ["a", "zero", "six"], "c"), node("Mul", ["h", "c"], "m"), node("Div", ["m", "six"], "y")],
        {"zero": F(0), "three": F(3), "six": F(6)},
    ),
    "hard_swish_by_hard_sigmoid": ([node("HardSigmoid", ["h"], "s", alpha=1 / 6), node("Mul", ["h", "s"], "y")], {}),
    "gelu": (
        [
            node("Div", ["h", "root"], "a"), node("Erf", ["a"], "e"), node("Add", ["e", "one"], "p"),
            node("Mul", ["h", "p"], "m"), node("Mul", ["m", "half"], "y"),
        ],
        {"root": F(np.sqrt(2)), "one": F(1), "half": F(0.5)},
    ),
    "gelu_half_first": (
        [
            node("Mul", ["h", "half"], "g"), node("Div", ["h", "root"], "a"), node("Erf", ["a"], "e"), node("Add", ["e", "one"], "p"),
            node("Mul", ["g", "p"], "y"),
        ],
        {"root": F(np.sqrt(2)), "one": F(1), "half": F(0.5)},
    ),
    "gelu_by_tanh": (
        [
            node("Pow", ["h", "three"], "c"), node("Mul", ["c", "k"], "d"), node("Add", ["h", "d"], "s"), node("Mul", ["s", "r"], "u"),
            node("Tanh", ["u"], "t"), node("Add", ["t", "one"], "p"), node("Mul", ["h", "p"], "m"), node("Mul", ["m", "half"], "y"),
        ],
        {"three": F(3), "k": F(0.044715), "r": F(np.sqrt(2 / np.pi)), "one": F(1), "half": F(0.5)},
    ),
    "mish": ([node("Softplus", ["h"], "s"), node("Tanh", ["s"], "t"), node("Mul", ["h", "t"], "y")], {}),
    "leaky_by_max": ([node("Mul", ["h", "tenth"], "s"), node("Max", ["h", "s"], "y")], {"tenth": F(0.1)}),
    "relu_by_min": ([node("Mul", ["h", "minus"], "s"), node("Min", ["h", "s"], "y")], {"minus": F(-0.5)}),
    "tanh_shrink": ([node("Tanh", ["h"], "s"), node("Sub", ["h", "s"], "y")], {}),
    "square": ([node("Mul", ["h", "h"], "y")], {}),
    "root": ([*POSITIVE, node("Sqrt", ["e"], "y")], {}),
    "logarithm": ([*POSITIVE, node("Log", ["e"], "y")], {}),
    "inverse": ([*POSITIVE, node("Reciprocal", ["e"], "y")], {}),
    "two_over": ([*POSITIVE, node("Div", ["two", "e"], "y")], {"two": F(2)}),
    "power": ([*POSITIVE, node("Pow", ["e", "two"], "y")], {"two": F(1.5)}),
    "clipped": ([node("Tanh", ["h"], "t"), node("Relu", ["t"], "y")], {}),
}  # fmt: skip


@pytest.mark.parametrize("case", WRITTEN_OUT)
def test_functions_that_are_written_out_become_one_table(case: str) -> None:
    nodes, constants = WRITTEN_OUT[case]
    graph = assert_equal_to_onnxruntime(model([CONV, *nodes], X, {**W, **constants}))
    assert operators(graph) == ["Conv", "Lookup"]


def test_functions_of_an_input_that_nothing_else_reads() -> None:
    graph = assert_equal_to_onnxruntime(model([node("Sigmoid", ["x"], "s"), node("Mul", ["x", "s"], "y")], X))
    assert operators(graph) == ["Lookup"]


def test_a_factor_that_another_reader_wants_too() -> None:
    nodes = [CONV, node("Sigmoid", ["h"], "s"), node("Mul", ["h", "s"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, W, outputs=("y", "s")))
    assert operators(graph) == ["Conv", "Lookup", "Lookup"]


def test_a_scale_before_a_table_goes_into_the_convolution() -> None:
    graph = assert_equal_to_onnxruntime(model([CONV, node("Mul", ["h", "c"], "s"), node("Tanh", ["s"], "y")], X, {**W, "c": F(0.3)}))
    assert [len(one.op.steps) for one in graph.nodes if isinstance(one.op, Lookup)] == [1]


@pytest.mark.parametrize(("slope", "found"), [(np.full((3, 1, 1), 0.2, F), ["Conv", "Lookup"]), (normal(3, 1, 1), ["Conv", "Clamp", "Clamp", "Conv", "Add"])])
def test_prelu(slope: np.ndarray, found: list[str]) -> None:
    """One slope is a table; one per channel a depthwise convolution of the negative part."""
    graph = assert_equal_to_onnxruntime(model([CONV, node("PRelu", ["h", "s"], "y")], X, {**W, "s": slope}))
    assert operators(graph) == found


def test_a_name_that_a_part_needs_must_be_free() -> None:
    nodes = [CONV, node("Relu", ["h"], "y.positive"), node("PRelu", ["y.positive", "s"], "y")]
    with pytest.raises(ModelError, match="PRelu 'y': the name 'y.positive' must be free for a partial result; rename the tensor that has it"):
        imported(model(nodes, X, {**W, "s": normal(3, 1, 1)}))


def test_two_quantized_functions_of_one_value_keep_both_roundings() -> None:
    """Quantizers put a rounding behind Sigmoid and one behind Mul: the table does both."""
    f = Foreign(["N", 2, 6, 6])
    x = f.qdq("x", 0.1)
    f.node("Sigmoid", [x], "s")
    f.node("Mul", [x, f.qdq("s", 1 / 16)], "m")
    f.qdq("m", 0.1)
    graph = import_quantized_model(f.model("m_dq"), "m")
    (only,) = graph.nodes
    assert isinstance(only.op, Lookup)
    assert [step.function for step in only.op.steps] == [Function.SIGMOID, Function.QUANTIZE, Function.MUL]


@pytest.mark.parametrize(("operator", "function"), [("Add", Function.OFFSET), ("Mul", Function.SCALE)])
def test_one_number_on_a_quantized_value_is_a_table(operator: str, function: Function) -> None:
    f = conv_model()
    f.node(operator, ["c_dq", f.const("k", np.float32(3))], "r")
    f.qdq("r", 0.2)
    _, last = import_quantized_model(f.model("r_dq"), "m").nodes
    assert isinstance(last.op, Lookup) and [step.function for step in last.op.steps] == [function]
