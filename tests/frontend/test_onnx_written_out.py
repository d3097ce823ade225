"""Normalizations and activations that a file writes out: found as one operator where they are exactly that, and as ONNX Runtime computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import assert_equal_to_onnxruntime, imported, model, node, normal, operators, shape_of

from hwgen.errors import ModelError
from hwgen.ops.normalize import Normalize

X = {"x": ["N", 4, 6, 5]}
CONV = node("Conv", ["x", "w"], "h")  # (N, 6, 4, 3)
NUMBERS = {"two": 2.0, "three": 3.0, "one": 1.0, "half": 0.5, "minus_half": -0.5, "eps": 1e-3, "zero": 0.0, "six": 6.0, "root2": math.sqrt(2), "least": 0.7}
NUMBERS |= {"minus": -1e-3, "cubic": 0.044715, "root2pi": math.sqrt(2 / math.pi), "sixth": 1 / 6}
CONSTANTS = {
    **{"w": normal(6, 4, 3, 3), "s": normal(6, 1, 1), "o": normal(6, 1, 1, seed=1), "v": normal(2, 6, 1, 1)},
    **{name: np.float32(number) for name, number in NUMBERS.items()},
    **{"a1": shape_of(1), "shape": shape_of(1, 6, 4, 3), "large": shape_of(2, 6, 4, 3), "high": np.float32([[[[[2.0]]]]]), "third": np.float32(1 / 3)},
}
Nodes = list[onnx.NodeProto]


def centered(x: str = "h", axes: Sequence[int] = (1,)) -> Nodes:
    return [node("ReduceMean", [x], "m", axes=list(axes)), node("Sub", [x, "m"], "d")]


def variance(of: str = "d", axes: Sequence[int] = (1,), epsilon: str = "eps") -> Nodes:
    return [node("Pow", [of, "two"], "q"), node("ReduceMean", ["q"], "v2", axes=list(axes)), node("Add", ["v2", epsilon], "e")]


DIVIDED = [node("Sqrt", ["e"], "t"), node("Div", ["d", "t"], "y")]
INVERSE = [node("Sqrt", ["e"], "t"), node("Reciprocal", ["t"], "r")]
SQUARED = [node("Mul", ["h", "h"], "q"), node("ReduceMean", ["q"], "v2", axes=[1]), node("Add", ["v2", "eps"], "e"), node("Sqrt", ["e"], "t")]

FOUND: dict[str, tuple[Nodes, list[str]]] = {
    "layers": ([*centered(), *variance(), *DIVIDED], ["Conv", "Normalize"]),
    "scale and offset": (
        [*centered(), *variance(), node("Sqrt", ["e"], "t"), node("Div", ["d", "t"], "n"), node("Mul", ["n", "s"], "u"), node("Add", ["o", "u"], "y")],
        ["Conv", "Normalize"],
    ),
    "all dimensions": ([*centered(axes=[1, 2, 3]), *variance(axes=[3, 2, 1]), *DIVIDED], ["Conv", "Normalize"]),
    "last dimension": ([*centered(axes=[-1]), *variance(axes=[-1]), *DIVIDED], ["Conv", "Normalize"]),
    "of tokens": (
        [
            node("Reshape", ["h", "tokens"], "f"),
            node("Transpose", ["f"], "g", perm=[0, 2, 1]),
            *centered("g", [-1]),
            *variance(axes=[-1]),
            *(node("Sqrt", ["e"], "t"), node("Div", ["d", "t"], "n"), node("MatMul", ["n", "matrix"], "y")),
        ],
        ["Conv", "Normalize", "Conv"],
    ),
    "of five dimensions": (
        [
            *(node("Reshape", ["h", "five"], "f"), *centered("f", [-1]), *variance(axes=[-1]), *DIVIDED[:-1]),
            *(node("Div", ["d", "t"], "n"), node("Flatten", ["n"], "y")),
        ],
        ["Conv", "Move", "Normalize"],
    ),
    "mean taken twice": (
        [*centered(), node("ReduceMean", ["h"], "m2", axes=[1]), node("Sub", ["m2", "h"], "d2"), *variance("d2"), *DIVIDED],
        ["Conv", "Normalize"],
    ),
    "reciprocal": ([*centered(), *variance(), *INVERSE, node("Mul", ["r", "d"], "y")], ["Conv", "Normalize"]),
    "one divided": ([*centered(), *variance(), node("Sqrt", ["e"], "t"), node("Div", ["one", "t"], "r"), node("Mul", ["d", "r"], "y")], ["Conv", "Normalize"]),
    "power": ([*centered(), *variance(), node("Pow", ["e", "minus_half"], "r"), node("Mul", ["d", "r"], "y")], ["Conv", "Normalize"]),
    "square root as power": ([*centered(), *variance(), node("Pow", ["e", "half"], "t"), node("Div", ["d", "t"], "y")], ["Conv", "Normalize"]),
    "product, casts and copies": (
        [
            node("Cast", ["h"], "c", to=onnx.TensorProto.FLOAT),
            *centered("c"),
            *(node("Identity", ["d"], "d2"), node("Mul", ["d2", "d"], "q"), node("ReduceMean", ["q"], "v2", axes=[1]), node("Add", ["eps", "v2"], "e")),
            *DIVIDED,
        ],
        ["Conv", "Normalize"],
    ),
    "by moments": (
        [
            *centered(),
            *variance(),
            *INVERSE,
            *(node("Mul", ["s", "r"], "i"), node("Mul", ["i", "h"], "xi")),
            *(node("Mul", ["m", "i"], "mi"), node("Sub", ["o", "mi"], "p"), node("Add", ["xi", "p"], "y")),
        ],
        ["Conv", "Normalize"],
    ),
    "by moments, no factors": (
        [
            *centered(), *variance(), *INVERSE, node("Mul", ["h", "r"], "xi"),
            *(node("Mul", ["r", "m"], "mi"), node("Neg", ["mi"], "p"), node("Add", ["p", "xi"], "y")),
        ],
        ["Conv", "Normalize"],
    ),
    "mean square": ([*SQUARED, node("Div", ["h", "t"], "n"), node("Mul", ["n", "s"], "y")], ["Conv", "Normalize"]),
    "mean square, reciprocal": ([*SQUARED, node("Reciprocal", ["t"], "r"), node("Mul", ["h", "r"], "n"), node("Mul", ["s", "n"], "y")], ["Conv", "Normalize"]),
    "mean square of what is read elsewhere": ([*centered(), *variance(), *DIVIDED[:-1], node("Div", ["d", "t"], "n"), node("Add", ["n", "d"], "y")], []),
    "length": ([node("ReduceL2", ["h"], "t", axes=[1]), node("Div", ["h", "t"], "y")], ["Conv", "Normalize"]),
    "length, at least": (
        [
            *(node("ReduceL2", ["h"], "t", axes=[1]), node("Clip", ["t", "least"], "l"), node("Shape", ["h"], "z"), node("Expand", ["l", "z"], "k")),
            node("Div", ["h", "k"], "y"),
        ],
        ["Conv", "Normalize"],
    ),
    "length, at least, a constant shape": (
        [*(node("ReduceL2", ["h"], "t", axes=[1]), node("Clip", ["t", "least"], "l"), node("Expand", ["l", "shape"], "k")), node("Div", ["h", "k"], "y")],
        ["Conv", "Normalize"],
    ),
    "sum of squares, at least": (
        [
            *(node("Mul", ["h", "h"], "q"), node("ReduceSum", ["q", "a1"], "k"), node("Max", ["k", "least"], "l"), node("Sqrt", ["l"], "t")),
            *(node("Reciprocal", ["t"], "r"), node("Mul", ["h", "r"], "y")),
        ],
        ["Conv", "Normalize"],
    ),
    "sum of squares, divided": (
        [
            *(node("ReduceSumSquare", ["h"], "k", axes=[1]), node("Div", ["k", "three"], "l")),
            *(node("Add", ["l", "eps"], "e"), node("Sqrt", ["e"], "t"), node("Div", ["h", "t"], "y")),
        ],
        ["Conv", "Normalize"],
    ),
    "relu and convolution behind it": (
        [*centered(), *variance(), *DIVIDED[:-1], node("Div", ["d", "t"], "n"), node("Relu", ["n"], "k"), node("Conv", ["k", "v"], "y")],
        ["Conv", "Normalize", "Conv"],
    ),
}
MORE = {"tokens": shape_of(0, 6, 12), "matrix": normal(6, 2), "five": shape_of(0, 2, 3, 4, 3)}


@pytest.mark.parametrize("case", FOUND)
def test_found_and_as_onnx_runtime_computes_it(case: str) -> None:
    nodes, expected = FOUND[case]
    proto = model([CONV, *nodes], X, {**CONSTANTS, **MORE})
    graph = assert_equal_to_onnxruntime(proto, tolerance=3e-5, batch=1 if "constant shape" in case else 2)
    if expected:
        assert operators(graph) == expected
    else:
        assert [node.op.centered for node in graph.nodes if isinstance(node.op, Normalize)] == [False]


def test_a_constant_may_be_a_node() -> None:
    constants = {name: array for name, array in CONSTANTS.items() if name not in ("two", "eps")}
    given = [node("Constant", [], "two", value_float=2.0), node("Constant", [], "eps", value=onnx.numpy_helper.from_array(np.float32([1e-3])))]
    graph = assert_equal_to_onnxruntime(model([*given, CONV, *centered(), *variance(), *DIVIDED], X, constants), tolerance=3e-5)
    assert operators(graph) == ["Conv", "Normalize"]


def test_axes_as_inputs() -> None:
    nodes = [node("ReduceMean", ["h", "a1"], "m"), node("Sub", ["h", "m"], "d"), node("Mul", ["d", "d"], "q"), node("ReduceMean", ["q", "a1"], "v2")]
    graph = assert_equal_to_onnxruntime(model([CONV, *nodes, node("Add", ["v2", "eps"], "e"), *DIVIDED], X, CONSTANTS, opset=18), tolerance=3e-5)
    assert operators(graph) == ["Conv", "Normalize"]


def test_epsilon_and_names_are_those_of_the_file() -> None:
    proto = model([CONV, *centered(), *variance(), *DIVIDED], X, CONSTANTS)
    nodes = proto.graph.node[1:]
    for index, each in enumerate(nodes):
        each.name = f"n{index}"
    graph = imported(proto)
    (found,) = (each for each in graph.nodes if isinstance(each.op, Normalize))
    assert found.op.epsilon == float(np.float32(1e-3))
    assert found.source == tuple(f"n{index}" for index in range(len(nodes)))


NEAR_MISSES: dict[str, Nodes] = {
    "another power": [*centered(), node("Pow", ["d", "three"], "q"), *variance()[1:], *DIVIDED],
    "other axes": [*centered(axes=[2]), *variance(), *DIVIDED],
    "another divisor": [*centered(), *variance("h"), *DIVIDED],
    "mean of another tensor": [node("ReduceMean", ["h2"], "m", axes=[1]), node("Sub", ["h", "m"], "d"), *variance(), *DIVIDED],
    "product of two": [*centered(), node("Mul", ["d", "h"], "q"), *variance()[1:], *DIVIDED],
    "added behind the root": [*centered(), *variance()[:-1], node("Sqrt", ["v2"], "u"), node("Add", ["u", "eps"], "t"), DIVIDED[-1]],
    "divided the other way": [*centered(), *variance(), node("Sqrt", ["e"], "t"), node("Div", ["t", "d"], "y")],
    "reciprocal divided": [*centered(), *variance(), *INVERSE, node("Div", ["d", "r"], "y")],
    "two divided": [*centered(), *variance(), node("Sqrt", ["e"], "t"), node("Div", ["two", "t"], "r"), node("Mul", ["d", "r"], "y")],
    "root of another power": [*centered(), *variance(), node("Pow", ["e", "third"], "t"), DIVIDED[-1]],
    "by moments, another mean": [
        *centered(),
        node("ReduceMean", ["h"], "m2", axes=[2]),
        *variance(),
        *INVERSE,
        *(node("Mul", ["h", "r"], "xi"), node("Mul", ["r", "m2"], "mi"), node("Sub", ["o", "mi"], "p"), node("Add", ["xi", "p"], "y")),
    ],
    "by moments, another factor": [
        *centered(),
        *variance(),
        *INVERSE,
        *(node("Mul", ["s", "r"], "i"), node("Mul", ["i", "h"], "xi")),
        *(node("Mul", ["m", "r"], "mi"), node("Sub", ["o", "mi"], "p"), node("Add", ["xi", "p"], "y")),
    ],
    "limited from above": [*centered(), *variance(), node("Min", ["e", "six"], "e2"), node("Sqrt", ["e2"], "t"), DIVIDED[-1]],
    "both limits": [*centered(), *variance(), node("Clip", ["e", "least", "six"], "e2"), node("Sqrt", ["e2"], "t"), DIVIDED[-1]],
    "mean taken away, at least": [*centered(), *variance(), node("Max", ["e", "least"], "e2"), node("Sqrt", ["e2"], "t"), DIVIDED[-1]],
    "subtracted": [*centered(), *variance()[:-1], node("Sub", ["v2", "minus"], "e"), *DIVIDED],
}


@pytest.mark.parametrize("case", NEAR_MISSES)
def test_what_is_nearly_one_keeps_its_meaning(case: str) -> None:
    """Either it is refused, or it computes what ONNX Runtime computes; it is never one Normalize of the convolution's result less its mean."""
    first = node("Conv", ["x", "w2"], "h2")
    proto = model([CONV, first, *NEAR_MISSES[case]], X, {**CONSTANTS, "w2": normal(6, 4, 3, 3, seed=3)})
    try:
        graph = assert_equal_to_onnxruntime(proto, tolerance=3e-4)
    except ModelError:
        return
    assert not any(isinstance(each.op, Normalize) and each.op.centered for each in graph.nodes)


@pytest.mark.parametrize("output", ["m", "d", "q", "v2", "e", "t"])
def test_a_value_in_between_that_is_an_output_stays(output: str) -> None:
    """The whole is then computed as it is written, or divides what is an output by its own root mean square."""
    proto = model([CONV, *centered(), *variance(), *DIVIDED], X, CONSTANTS, outputs=["y", output])
    graph = assert_equal_to_onnxruntime(proto, tolerance=3e-4)
    assert [each.op.centered for each in graph.nodes if isinstance(each.op, Normalize)] == ([False] if output in ("m", "d") else [])


ODD: dict[str, tuple[Nodes, Mapping[str, Any], str]] = {
    "batch": ([*centered(axes=[0, 1]), *variance(axes=[0, 1]), *DIVIDED], {}, "LayerNormalization 'y', attribute axes: must not run over the batch"),
    "axis": ([*centered(axes=[7]), *variance(axes=[7]), *DIVIDED], {}, "LayerNormalization 'y': attribute axes must lie within the 4 dimensions, not 7"),
    "nan": ([*centered(), *variance(), *DIVIDED], {"eps": np.float32(np.nan)}, "initializer 'eps': must be finite, but holds NaN"),
    "huge epsilon": ([*centered(), *variance(), *DIVIDED], {"eps": np.float64(1e300)}, "Normalize: epsilon must be a number of at least 0, not inf"),
    "enlarging shape": (
        [node("ReduceL2", ["h"], "t", axes=[1]), node("Expand", ["t", "large"], "k"), node("Div", ["h", "k"], "y")],
        {},
        "RMSNormalization 'y': the divisor is expanded to [2, 6, 4, 3], which must fit the operand's ['N', 6, 4, 3]",
    ),
    "large exponent": (
        [*centered(), node("Pow", ["d", "high"], "q"), *variance()[1:], *DIVIDED],
        {},
        "Pow 'q': the constant of shape [1, 1, 1, 1, 1] must broadcast to the operand's ['N', 6, 4, 3] without enlarging it",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_ones_are_refused_with_the_reason(case: str) -> None:
    nodes, constants, message = ODD[case]
    with pytest.raises(ModelError) as caught:
        imported(model([CONV, *nodes], X, {**CONSTANTS, **constants}))
    assert message in str(caught.value)


def test_a_negative_epsilon_is_none() -> None:
    graph = imported(model([CONV, *centered(), *variance(epsilon="minus"), *DIVIDED], X, CONSTANTS))
    assert "Normalize" not in operators(graph)


def test_no_epsilon_divides_zero_to_zero() -> None:
    graph = imported(model([CONV, *centered(), *variance()[:-1], node("Sqrt", ["v2"], "t"), DIVIDED[-1]], X, CONSTANTS))
    (op,) = (each.op for each in graph.nodes if isinstance(each.op, Normalize))
    assert op.epsilon == 0 and not op.reference(np.ones((1, 2, 2, 6), np.float32)).any()


ACTIVATIONS: dict[str, Nodes] = {
    "gelu": [
        *(node("Div", ["h", "root2"], "a"), node("Erf", ["a"], "b"), node("Add", ["b", "one"], "c")),
        *(node("Mul", ["h", "c"], "d"), node("Mul", ["d", "half"], "y")),
    ],
    "gelu, half first": [
        *(node("Div", ["h", "root2"], "a"), node("Erf", ["a"], "b")),
        *(node("Add", ["one", "b"], "c"), node("Mul", ["half", "h"], "d"), node("Mul", ["d", "c"], "y")),
    ],
    "gelu by tanh": [
        *(node("Pow", ["h", "three"], "a"), node("Mul", ["a", "cubic"], "b"), node("Add", ["h", "b"], "c"), node("Mul", ["c", "root2pi"], "d")),
        *(node("Tanh", ["d"], "e"), node("Add", ["e", "one"], "f"), node("Mul", ["h", "half"], "g"), node("Mul", ["g", "f"], "y")),
    ],
    "gelu by tanh, products": [
        *(node("Mul", ["h", "h"], "a"), node("Mul", ["a", "cubic"], "b")),
        *(node("Add", ["b", "one"], "c"), node("Mul", ["h", "c"], "c2"), node("Mul", ["c2", "root2pi"], "d")),
        *(node("Tanh", ["d"], "e"), node("Add", ["e", "one"], "f"), node("Mul", ["h", "f"], "g"), node("Mul", ["g", "half"], "y")),
    ],
    "silu": [node("Sigmoid", ["h"], "a"), node("Mul", ["a", "h"], "y")],
    "silu by exponential": [node("Neg", ["h"], "a"), node("Exp", ["a"], "b"), node("Add", ["b", "one"], "c"), node("Div", ["h", "c"], "y")],
    "hard swish": [node("Add", ["h", "three"], "a"), node("Clip", ["a", "zero", "six"], "b"), node("Mul", ["h", "b"], "c"), node("Div", ["c", "six"], "y")],
    "hard swish, factor first": [
        *(node("Add", ["h", "three"], "a"), node("Clip", ["a", "zero", "six"], "b"), node("Mul", ["b", "sixth"], "c"), node("Mul", ["h", "c"], "y"))
    ],
    "hard swish by hard sigmoid": [node("HardSigmoid", ["h"], "a", alpha=1 / 6, beta=0.5), node("Mul", ["h", "a"], "y")],
}


@pytest.mark.parametrize("case", ACTIVATIONS)
def test_written_out_activations_are_one_table(case: str) -> None:
    assert operators(assert_equal_to_onnxruntime(model([CONV, *ACTIVATIONS[case]], X, CONSTANTS))) == ["Conv", "Lookup"]
