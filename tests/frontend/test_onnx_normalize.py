"""Normalizations by what the values give, and logarithms and indices in the middle: as ONNX Runtime understands them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import assert_equal_to_onnxruntime, imported, model, node, normal, operators, shape_of

from hwgen.errors import ModelError

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(6, 4, 3, 3), "c": normal(6), "d": normal(6, seed=1), "v": normal(2, 6, 1, 1)}
CONV = node("Conv", ["x", "w"], "h")  # (N, 6, 4, 3)

CASES: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any], list[str], int]] = {
    "instances": ([node("InstanceNormalization", ["h", "c", "d"], "y", epsilon=1e-2)], {}, ["Conv", "Normalize"], 13),
    "instances, limited": (
        [node("InstanceNormalization", ["h", "c", "d"], "n"), node("Relu", ["n"], "r"), node("Conv", ["r", "v"], "y")],
        {},
        ["Conv", "Normalize", "Conv"],
        13,
    ),
    "instances of a sequence": (
        [node("Reshape", ["h", "s"], "f"), node("InstanceNormalization", ["f", "c", "d"], "y")],
        {"s": shape_of(0, 6, -1)},
        ["Conv", "Normalize"],
        13,
    ),
    "scale and offset behind it": (
        [
            node("InstanceNormalization", ["h", "c", "d"], "n"),
            node("Mul", ["n", "s"], "m"),
            node("Add", ["m", "o"], "a"),
            node("Sigmoid", ["a"], "y"),
        ],
        {"s": normal(6, 1, 1), "o": normal(6, 4, 3)},
        ["Conv", "Normalize", "Lookup"],
        13,
    ),
    "layers": ([node("LayerNormalization", ["h", "s", "o"], "y", axis=1)], {"s": normal(6, 4, 3), "o": normal(6, 4, 3, seed=1)}, ["Conv", "Normalize"], 17),
    "layers, last dimension": (
        [node("Transpose", ["h"], "t", perm=[0, 2, 3, 1]), node("LayerNormalization", ["t", "c"], "n"), node("MatMul", ["n", "m"], "y")],
        {"m": normal(6, 2)},
        ["Conv", "Normalize", "Conv"],
        17,
    ),
    "layers of the columns": ([node("LayerNormalization", ["h", "s", "o"], "y")], {"s": normal(3), "o": normal(3, seed=1)}, ["Conv", "Normalize"], 17),
    "layers of five dimensions": (
        [node("Reshape", ["h", "five"], "f"), node("LayerNormalization", ["f", "s", "o"], "n", axis=3), node("Flatten", ["n"], "y")],
        {"five": shape_of(0, 2, 3, 4, 3), "s": normal(4, 3), "o": normal(3)},
        ["Conv", "Move", "Normalize"],
        17,
    ),
    "mean square": ([node("RMSNormalization", ["h", "s"], "y", axis=1, epsilon=1e-2)], {"s": normal(6, 4, 3)}, ["Conv", "Normalize"], 23),
    "mean square of the columns": ([node("RMSNormalization", ["h", "s"], "y")], {"s": normal(3)}, ["Conv", "Normalize"], 23),
    "mean square of five dimensions": (
        [node("Reshape", ["h", "five"], "f"), node("RMSNormalization", ["f", "s"], "n", axis=3), node("Flatten", ["n"], "y")],
        {"five": shape_of(0, 2, 3, 4, 3), "s": normal(4, 3)},
        ["Conv", "Move", "Normalize"],
        23,
    ),
    "length": ([node("LpNormalization", ["h"], "y", axis=1)], {}, ["Conv", "Normalize"], 13),
    "magnitudes": ([node("LpNormalization", ["h"], "y", axis=1, p=1)], {}, ["Conv", "Lookup", "Conv", "Div"], 13),
    "magnitudes of the columns": ([node("LpNormalization", ["h"], "n", p=1), node("Conv", ["n", "v"], "y")], {}, ["Conv", "Lookup", "Conv", "Div", "Conv"], 13),
    "magnitudes of nothing": (
        [node("Relu", ["h"], "r"), node("Mul", ["r", "zero"], "z"), node("LpNormalization", ["z"], "n", axis=1, p=1), node("Conv", ["n", "v"], "y")],
        {"zero": np.float32(0)},
        [],
        13,
    ),
    "length of the columns": ([node("LpNormalization", ["h"], "y", p=2)], {}, ["Conv", "Normalize"], 22),
    "groups": ([node("GroupNormalization", ["h", "c", "d"], "y", num_groups=3, epsilon=1e-3)], {}, ["Conv", "Move", "Normalize"], 21),
    "groups, written out": (
        [
            node("Reshape", ["h", "s"], "f"),
            node("InstanceNormalization", ["f", "one", "zero"], "n"),
            node("Reshape", ["n", "b"], "g"),
            node("Mul", ["g", "k"], "y"),
        ],
        {"s": shape_of(0, 2, -1), "b": shape_of(-1, 6, 4, 3), "one": np.ones(2, np.float32), "zero": np.zeros(2, np.float32), "k": normal(6, 1, 1)},
        ["Conv", "Move", "Normalize", "Move", "Conv"],
        13,
    ),
    "neighbours": ([node("LRN", ["h"], "y", size=5, alpha=0.3, beta=0.6, bias=0.5)], {}, ["Conv", "LocalResponse"], 13),
    "neighbours of a vector": (
        [node("GlobalMaxPool", ["h"], "p"), node("LRN", ["p"], "y", size=3, alpha=0.3)],
        {},
        ["Conv", "MaxPool", "LocalResponse"],
        13,
    ),
    "logarithm of softmax": ([node("LogSoftmax", ["h"], "l", axis=1), node("Conv", ["l", "v"], "y")], {}, ["Conv", "LogSoftmax", "Conv"], 13),
    "softmax, scaled": (
        [node("Softmax", ["h"], "s", axis=1), node("Mul", ["s", "k"], "m"), node("Add", ["m", "d3"], "a"), node("Conv", ["a", "v"], "y")],
        {"k": np.float32(3), "d3": normal(6, 1, 1)},
        ["Conv", "Softmax", "Conv"],
        13,
    ),
    "softmax, scaled element by element, two readers": (
        [node("Softmax", ["h"], "s", axis=2), node("Mul", ["s", "k"], "m"), node("Conv", ["m", "v"], "a"), node("MaxPool", ["m"], "y", kernel_shape=[1, 1])],
        {"k": normal(6, 4, 3)},
        [],
        13,
    ),
    "softmax of five dimensions, scaled": (
        [
            *(node("Reshape", ["h", "five"], "f"), node("Softmax", ["f"], "s", axis=2), node("Mul", ["s", "k"], "m")),
            *(node("Flatten", ["m"], "g"), node("Relu", ["g"], "y")),
        ],
        {"k": normal(3, 4, 3), "five": shape_of(0, 2, 3, 4, 3)},
        [],
        13,
    ),
    "two readers of one softmax": (
        [node("Softmax", ["h"], "s", axis=1), node("Transpose", ["s"], "t", perm=[0, 1, 3, 2]), node("MatMul", ["t", "s"], "y")],
        {},
        ["Conv", "Softmax", "Move", "Move", "MatMul"],
        13,
    ),
    "index": (
        [node("ArgMax", ["h"], "i", axis=1), node("Cast", ["i"], "f", to=onnx.TensorProto.FLOAT), node("Conv", ["f", "k"], "y")],
        {"k": normal(2, 1, 1, 1)},
        ["Conv", "ArgExtremum", "Conv"],
        13,
    ),
    "index of another dimension, without it": (
        [node("ArgMin", ["h"], "i", axis=2, keepdims=0), node("Cast", ["i"], "f", to=onnx.TensorProto.FLOAT), node("MatMul", ["f", "k"], "y")],
        {"k": normal(3, 2)},
        ["Conv", "ArgExtremum", "Move", "Conv"],
        13,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_imported_as_onnx_runtime_computes_it(case: str) -> None:
    nodes, constants, expected, opset = CASES[case]
    graph = assert_equal_to_onnxruntime(model([CONV, *nodes], X, {**W, **constants}, opset=opset), tolerance=3e-5)
    assert not expected or operators(graph) == expected


REFUSED: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any], str]] = {
    "batch": (
        [node("LayerNormalization", ["h", "s"], "y", axis=0)],
        {"s": np.ones((), np.float32)},
        "LayerNormalization 'y', attribute axis: must not run over the batch",
    ),
    "batch of squares": ([node("RMSNormalization", ["h", "c"], "y", axis=0)], {}, "RMSNormalization 'y', attribute axis: must not run over the batch"),
    "computed scale of squares": ([node("RMSNormalization", ["h", "h"], "y")], {}, "RMSNormalization 'y': the scale must be constant, but 'h' is computed"),
    "scale of squares": (
        [node("RMSNormalization", ["h", "e"], "y")],
        {"e": normal(5)},
        "RMSNormalization 'y': the constant of shape [5] must broadcast to the operand's ['N', 6, 4, 3] without enlarging it",
    ),
    "infinite epsilon": (
        [node("RMSNormalization", ["h", "e"], "y", epsilon=float("inf"))],
        {"e": normal(3)},
        "Normalize: epsilon must be a number of at least 0, not inf",
    ),
    "scale that is no number": (
        [node("RMSNormalization", ["h", "e"], "y")],
        {"e": np.float32([1, np.nan, 1])},
        "initializer 'e': must be finite, but holds NaN",
    ),
    "batch of lengths": ([node("LpNormalization", ["h"], "y", axis=-4)], {}, "LpNormalization 'y', attribute axis: must not run over the batch"),
    "axis of lengths": (
        [node("LpNormalization", ["h"], "y", axis=-5)],
        {},
        "LpNormalization 'y': attribute axis must lie within the 4 dimensions, not -5",
    ),
    "axis": ([node("LayerNormalization", ["h", "c"], "y", axis=4)], {}, "LayerNormalization 'y': attribute axis must lie within the 4 dimensions, not 4"),
    "computed scale": ([node("LayerNormalization", ["h", "h"], "y")], {}, "LayerNormalization 'y': the scale must be constant, but 'h' is computed"),
    "scale of five dimensions": (
        [node("Reshape", ["h", "five"], "f"), node("LayerNormalization", ["f", "e"], "y", axis=3)],
        {"five": shape_of(0, 2, 3, 4, 3), "e": normal(4)},
        "LayerNormalization 'y': scale and bias must broadcast to the normalized dimensions [4, 3], not be of shape [4]",
    ),
    "shape of scales": (
        [node("InstanceNormalization", ["h", "c", "e"], "y")],
        {"e": normal(5)},
        "InstanceNormalization 'y': scale and bias must be of shape [6], not [5]",
    ),
    "no space": (
        [node("Flatten", ["h"], "f"), node("InstanceNormalization", ["f", "e", "e"], "y")],
        {"e": normal(72)},
        "InstanceNormalization 'y': its operand must have at least 3 dimensions, not 2",
    ),
    "second output": (
        [node("LayerNormalization", ["h", "e"], ["z", "mean"]), node("Add", ["z", "mean"], "y")],
        {"e": normal(3)},
        "LayerNormalization 'z': only the first output is supported, but 'mean' is read",
    ),
    "number of groups": (
        [node("GroupNormalization", ["h", "c", "d"], "y", num_groups=4)],
        {},
        "GroupNormalization 'y': attribute num_groups must be at least 1 and divide the 6 channels, not 4",
    ),
    "scales of groups": (
        [node("GroupNormalization", ["h", "e", "d"], "y", num_groups=3)],
        {"e": normal(2)},
        "GroupNormalization 'y': scale and bias must be of shape [6], not [2]",
    ),
    "power": ([node("LRN", ["h"], "y", size=3, beta=1.5)], {}, "LRN 'y': LocalResponse: alpha must be at least 0, beta above 0 and at most 1, bias above 0"),
    "window": ([node("LRN", ["h"], "y", size=0)], {}, "LRN 'y': LocalResponse: size must be 1 to 4096, not 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(ModelError) as caught:
        imported(model([CONV, *nodes], X, {**W, **constants}, opset=23))
    assert message in str(caught.value)
