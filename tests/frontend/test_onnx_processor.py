"""What the processor computes between operators of the accelerator, or moves: imported as ONNX Runtime understands it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import assert_equal_to_onnxruntime, imported, model, node, normal, operators, shape_of

from hwgen.errors import UnsupportedError

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(3, 4, 3, 3)}
CONV = node("Conv", ["x", "w"], "h")  # (N, 3, 4, 3)
OTHER = node("Sigmoid", ["h"], "g")

PAIRS: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any], list[str]]] = {
    "product": (
        [node("MaxPool", ["x"], "p", kernel_shape=[3, 3]), node("Conv", ["p", "s"], "g"), node("Mul", ["h", "g"], "y")],
        {"s": normal(3, 4, 1, 1)},
        ["Mul"],
    ),
    "squeeze and excitation": (
        [
            node("GlobalAveragePool", ["h"], "p"),
            node("Conv", ["p", "s"], "q"),
            node("HardSigmoid", ["q"], "g"),
            node("Mul", ["h", "g"], "m"),
            node("Conv", ["m", "s"], "y"),
        ],
        {"s": normal(3, 3, 1, 1)},
        ["Mul"],
    ),
    "sum that broadcasts": ([node("GlobalAveragePool", ["h"], "g"), node("Add", ["h", "g"], "y")], {}, ["Move"]),
    "difference": ([node("Conv", ["x", "v"], "g"), node("Sub", ["h", "g"], "y")], {"v": normal(3, 4, 3, 3, seed=1)}, []),
    "difference that broadcasts": ([node("GlobalMaxPool", ["h"], "g"), node("Sub", ["g", "h"], "y")], {}, ["Move"]),
    "quotient": ([node("Exp", ["h"], "e"), node("GlobalAveragePool", ["e"], "g"), node("Div", ["h", "g"], "y")], {}, ["Div"]),
    "greatest of three": (
        [node("Conv", ["x", "v"], "g"), node("Neg", ["g"], "n"), node("Max", ["h", "g", "n"], "y")],
        {"v": normal(3, 4, 3, 3, seed=1)},
        ["Extremum"] * 2,
    ),
    "greatest of one": ([node("Max", ["h"], "m"), node("Conv", ["m", "s"], "y")], {"s": normal(3, 3, 1, 1)}, []),
    "transposed residual": (
        [node("Conv", ["x", "v"], "q"), node("Transpose", ["q"], "t", perm=[0, 1, 3, 2]), node("Add", ["q", "t"], "y")],
        {"v": normal(2, 4, 4, 3)},
        ["Move"],
    ),
    "constant for each element": ([node("Add", ["h", "c"], "y")], {"c": normal(3, 4, 3)}, ["Move"]),
    "slope for each element": ([node("PRelu", ["h", "c"], "y")], {"c": normal(3, 4, 3)}, ["Move"]),
    "attention": (
        [
            node("Reshape", ["h", "flat"], "f"),
            node("Transpose", ["f"], "q", perm=[0, 2, 1]),
            node("MatMul", ["q", "f"], "s"),
            node("Softmax", ["s"], "a", axis=-1),
            node("MatMul", ["a", "q"], "y"),
        ],
        {"flat": shape_of(0, 3, -1)},
        ["MatMul", "Softmax", "MatMul"],
    ),
    "matrices of several heads": (
        [
            node("Reshape", ["h", "heads"], "q"),
            node("Transpose", ["q"], "k", perm=[0, 1, 3, 2]),
            node("MatMul", ["q", "k"], "y"),
        ],
        {"heads": shape_of(0, 3, 2, 6)},
        ["MatMul"],
    ),
    "matrix along the rows": ([node("MatMul", ["h", "m"], "y")], {"m": normal(3, 2)}, ["Move"]),
    "mean over channels": ([node("ReduceMean", ["h"], "m", axes=[1]), node("Relu", ["m"], "y")], {}, []),
    "sum over rows": ([node("ReduceSum", ["h", "a"], "m"), node("Relu", ["m"], "y")], {"a": shape_of(2)}, []),
    "greatest over channels": ([node("ReduceMax", ["h"], "m", axes=[1, 2]), node("Relu", ["m"], "y")], {}, ["Move"]),
    "mean of two": ([node("Conv", ["x", "v"], "g"), node("Mean", ["h", "g"], "y")], {"v": normal(3, 4, 3, 3, seed=1)}, []),
}


@pytest.mark.parametrize("case", PAIRS)
def test_pairs_of_activations(case: str) -> None:
    nodes, constants, expected = PAIRS[case]
    graph = assert_equal_to_onnxruntime(model([CONV, *nodes], X, {**W, **constants}))
    kinds = [kind for kind in operators(graph) if kind in ("Mul", "Div", "Extremum", "MatMul", "Softmax", "Move")]
    assert [kind for kind in kinds if kind != "Move"] == [kind for kind in expected if kind != "Move"]
    assert "Move" in kinds or "Move" not in expected


MOVES: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any]]] = {
    "gather": ([node("Gather", ["h", "i"], "y", axis=2)], {"i": shape_of(3, 0, -1, 1, 1)}),
    "gather one": ([node("Gather", ["h", "i"], "y", axis=1)], {"i": np.int64(2)}),
    "slice with steps": (
        [node("Slice", ["h", "b", "e", "a", "s"], "y")],
        {"b": shape_of(3, 0), "e": shape_of(-9, 3), "a": shape_of(2, 3), "s": shape_of(-2, 2)},
    ),
    "tile": ([node("Tile", ["h", "r"], "y")], {"r": shape_of(1, 2, 1, 3)}),
    "expand": ([node("GlobalMaxPool", ["h"], "g"), node("Expand", ["g", "s"], "y")], {"s": shape_of(1, 3, 2, 5)}),
    "depth to space": ([node("Conv", ["x", "v"], "g"), node("DepthToSpace", ["g"], "y", blocksize=2)], {"v": normal(8, 4, 1, 1)}),
    "depth to space, columns first": ([node("Conv", ["x", "v"], "g"), node("DepthToSpace", ["g"], "y", blocksize=2, mode="CRD")], {"v": normal(8, 4, 1, 1)}),
    "space to depth": ([node("Conv", ["x", "v"], "g"), node("SpaceToDepth", ["g"], "y", blocksize=2)], {"v": normal(2, 4, 3, 2)}),
    "edges": ([node("Pad", ["h", "p"], "y", mode="edge")], {"p": shape_of(0, 1, 2, 0, 0, 0, 1, 3)}),
    "reflections": ([node("Pad", ["h", "p"], "y", mode="reflect")], {"p": shape_of(0, 0, 2, 1, 0, 0, 1, 2)}),
    "nearest": ([node("Resize", ["h", "", "s"], "y", mode="nearest")], {"s": np.float32([1, 1, 2, 1.5])}),
    "linear": ([node("Resize", ["h", "", "s"], "y", mode="linear")], {"s": np.float32([1, 1, 2, 1.5])}),
    "linear, corners aligned": (
        [node("Resize", ["h", "", "s"], "y", mode="linear", coordinate_transformation_mode="align_corners")],
        {"s": np.float32([1, 1, 2, 3])},
    ),
    "cubic": ([node("Resize", ["h", "", "s"], "y", mode="cubic")], {"s": np.float32([1, 1, 2, 2])}),
}


@pytest.mark.parametrize("case", MOVES)
@pytest.mark.parametrize("behind", [False, True])
def test_moves(case: str, behind: bool) -> None:
    """At the output, and in front of another operator."""
    nodes, constants = MOVES[case]
    tail = [node("Sigmoid", ["z"], "y")] if behind else []
    last = onnx.NodeProto()
    last.CopyFrom(nodes[-1])
    last.output[0] = "z" if behind else "y"
    graph = assert_equal_to_onnxruntime(model([CONV, *nodes[:-1], last, *tail], X, {**W, **constants}), tolerance=2e-5)
    if behind:
        assert operators(graph)[-1] == "Lookup"


def test_indices_of_more_dimensions() -> None:
    proto = model([CONV, node("Gather", ["h", "i"], "y", axis=3)], X, {**W, "i": shape_of(0, 1, 2, 1).reshape(2, 2)})
    assert operators(assert_equal_to_onnxruntime(proto)) == ["Conv"]


def test_split_gives_every_part() -> None:
    nodes = [CONV, node("Split", ["h", "s"], ["a", "b"], axis=2), node("Sigmoid", ["b"], "c"), node("Mul", ["c", "b2"], "y"), node("Relu", ["a"], "b2")]
    nodes = [*nodes[:3], nodes[4], nodes[3]]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {**W, "s": shape_of(2, 2)}, outputs=["y", "a"]))
    assert operators(graph).count("Mul") == 1


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("attributes", [{}, {"keepdims": 0}, {"select_last_index": 1}])
def test_indices_at_an_output(operator: str, attributes: dict[str, int]) -> None:
    """As real numbers."""
    proto = model([CONV, node(operator, ["h"], "i", axis=1, **attributes), node("Cast", ["i"], "y", to=onnx.TensorProto.FLOAT)], X, W)
    assert operators(assert_equal_to_onnxruntime(proto)) == ["Conv"]


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_logarithm_of_softmax_at_an_output(axis: int) -> None:
    assert operators(assert_equal_to_onnxruntime(model([CONV, node("LogSoftmax", ["h"], "y", axis=axis)], X, W))) == ["Conv"]


def test_a_model_of_moves_alone_is_a_copy_and_host_steps() -> None:
    graph = assert_equal_to_onnxruntime(model([node("Transpose", ["x"], "y", perm=[0, 2, 1, 3]), node("Flatten", ["x"], "z")], X, {}, outputs=["y", "z"]))
    assert operators(graph) == ["Clamp"]


def test_the_processor_has_no_part_where_the_accelerator_can_do_all() -> None:
    """A second guess at the layout of an input comes before a move."""
    nodes = [node("Relu", ["x"], "a"), node("Transpose", ["a"], "b", perm=[0, 3, 1, 2]), node("Conv", ["b", "v"], "y")]
    assert operators(assert_equal_to_onnxruntime(model(nodes, X, {"v": normal(2, 5, 3, 3)}))) == ["Clamp", "Conv"]


REFUSED: dict[str, tuple[list[onnx.NodeProto], Mapping[str, Any], str]] = {
    "slice_the_batch": (
        [node("Slice", ["h", "b", "e", "a"], "y")],
        {"b": shape_of(1), "e": shape_of(2), "a": shape_of(0)},
        "Slice 'y', attribute axes: must not slice the batch",
    ),
    "tile_the_batch": ([node("Tile", ["h", "r"], "y")], {"r": shape_of(2, 1, 1, 1)}, "Tile 'y', attribute repeats: must not repeat the batch"),
    "computed_indices": ([node("Gather", ["h", "h"], "y", axis=1)], {}, "Gather 'y': the indices must be constant, but 'h' is computed at run time"),
    "crop_and_resize": (
        [node("Resize", ["h", "r", "s"], "y", coordinate_transformation_mode="tf_crop_and_resize")],
        {"r": np.float32([0] * 4 + [1] * 4), "s": np.float32([1, 1, 2, 2])},
        "Resize 'y', attribute coordinate_transformation_mode: must be one of half_pixel,",
    ),
    "corners_of_a_fraction": (
        [node("Resize", ["h", "", "s"], "y", mode="linear", coordinate_transformation_mode="align_corners")],
        {"s": np.float32([1, 1, 0.6, 0.6])},
        "Resize 'y', attribute scales: must give whole numbers of elements where corners are aligned, not a fraction",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(UnsupportedError) as caught:
        imported(model([CONV, *nodes], X, {**W, **constants}))
    assert message in str(caught.value)


def test_integers_are_not_divided() -> None:
    proto = model(
        [node("Div", ["x", "c"], "a"), node("Cast", ["a"], "f", to=onnx.TensorProto.FLOAT), node("Conv", ["f", "w"], "y")],
        X,
        {**W, "c": np.int32(2)},
        dtype=onnx.TensorProto.INT32,
    )
    proto.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    with pytest.raises(UnsupportedError, match="Div 'a': must divide real numbers: a quotient of integers is cut off; cast them to float first"):
        imported(proto)
