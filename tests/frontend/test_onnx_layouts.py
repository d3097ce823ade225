"""Reshape, Transpose and their kin only relabel dimensions; NHWC graphs need no transposition at run time."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import assert_equal_to_onnxruntime, model, node, normal, operators, shape_of

from hwgen.ir import host

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(3, 4, 3, 3)}
CONV = node("Conv", ["x", "w"], "h")  # (N, 3, 4, 3)


def flattened(*shape_nodes: onnx.NodeProto, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    """Conv, then nodes from h to f, then a fully connected layer."""
    return model([CONV, *shape_nodes, node("MatMul", ["f", "m"], "y")], X, {**W, "m": normal(36, 5), **constants})


FLATTENINGS = {
    "flatten": ([node("Flatten", ["h"], "f")], {}),
    "flatten_axis": ([node("Flatten", ["h"], "f", axis=-3)], {}),
    "reshape": ([node("Reshape", ["h", "s"], "f")], {"s": shape_of(0, -1)}),
    "reshape_batch_computed": ([node("Reshape", ["h", "s"], "f")], {"s": shape_of(-1, 36)}),
    "reshape_in_steps": ([node("Reshape", ["h", "s"], "g"), node("Reshape", ["g", "t"], "f")], {"s": shape_of(0, 0, -1), "t": shape_of(0, 36)}),
    "channels_last": ([node("Transpose", ["h"], "g", perm=[0, 2, 3, 1]), node("Flatten", ["g"], "f")], {}),
    "columns_first": ([node("Transpose", ["h"], "g", perm=[0, 3, 1, 2]), node("Flatten", ["g"], "f")], {}),
    "unsqueeze": ([node("Unsqueeze", ["h", "a"], "g"), node("Flatten", ["g"], "f")], {"a": shape_of(1, -1)}),
    "shape_arithmetic": (
        [
            node("Shape", ["h"], "a"),
            node("Gather", ["a", "zero"], "n"),
            node("Unsqueeze", ["n", "axis"], "u"),
            node("Concat", ["u", "rest"], "s", axis=0),
            node("Reshape", ["h", "s"], "f"),
        ],
        {"zero": np.int64(0), "axis": shape_of(0), "rest": shape_of(-1)},
    ),
    "shape_product": (
        [
            node("Shape", ["h"], "a"),
            node("Slice", ["a", "one", "end"], "b"),
            node("ReduceProd", ["b"], "p"),
            node("Concat", ["all", "p"], "s", axis=0),
        ]
        + [node("Reshape", ["h", "s"], "f")],
        {"one": shape_of(1), "end": shape_of(9), "all": shape_of(-1)},
    ),
}


@pytest.mark.parametrize("case", FLATTENINGS)
def test_a_matrix_behind_a_flattening_is_a_convolution_with_permuted_weights(case: str) -> None:
    nodes, constants = FLATTENINGS[case]
    graph = assert_equal_to_onnxruntime(flattened(*nodes, constants=constants))
    assert operators(graph) == ["Conv", "Conv"]
    assert graph.nodes[1].op.window.kernel == (4, 3)


def test_reshape_with_allowzero() -> None:
    proto = model(
        [CONV, node("Reshape", ["h", "s"], "f", allowzero=1), node("MatMul", ["f", "m"], "y")],
        X,
        {**W, "m": normal(36, 5), "s": shape_of(-1, 36)},
        opset=14,
    )
    assert_equal_to_onnxruntime(proto)


def test_fixed_batch_and_reshape_that_names_it() -> None:
    nodes = [CONV, node("Reshape", ["h", "s"], "f"), node("MatMul", ["f", "m"], "y")]
    proto = model(nodes, {"x": [1, 4, 6, 5]}, {**W, "m": normal(36, 5), "s": shape_of(1, 36)})
    graph = assert_equal_to_onnxruntime(proto, batch=1)
    assert graph.outputs[0].shape == (-1, 5)


def test_nhwc_graph_needs_no_transposition() -> None:
    nodes = [
        node("Transpose", ["x"], "a", perm=[0, 3, 1, 2]),
        node("Conv", ["a", "w"], "h", pads=[1, 1, 1, 1]),
        node("Transpose", ["h"], "b", perm=[0, 2, 3, 1]),
        node("Add", ["b", "c"], "d"),
        node("Relu", ["d"], "e"),
        node("MatMul", ["e", "m"], "f"),
        node("ReduceMean", ["f"], "g", axes=[1, 2], keepdims=0),
        node("MatMul", ["g", "n"], "y"),
    ]
    graph = assert_equal_to_onnxruntime(model(nodes, {"x": ["N", 6, 5, 4]}, {**W, "c": normal(3), "m": normal(3, 7), "n": normal(7, 2)}))
    assert operators(graph) == ["Conv", "Conv", "AveragePool", "Conv"]
    assert graph.inputs[0].steps == ()
    assert graph.outputs[0].steps == (host.Reshape(shape=(2,)),)


def test_elementwise_operator_before_the_layout_is_known() -> None:
    """Relu comes first, the transposition behind it tells that the input is channels-last."""
    nodes = [node("Relu", ["x"], "a"), node("Transpose", ["a"], "b", perm=[0, 3, 1, 2]), node("Conv", ["b", "w"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, {"x": ["N", 6, 5, 4]}, W))
    assert graph.inputs[0].steps == ()
    nodes = [node("Relu", ["x"], "a"), node("Conv", ["a", "w"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, W))
    assert graph.inputs[0].steps == (host.Transpose(permutation=(0, 2, 3, 1)),)


def test_rows_and_columns_exchanged() -> None:
    """A transposition of the image moves into the kernels, strides and pads."""
    nodes = [
        CONV,
        node("Transpose", ["h"], "t", perm=[0, 1, 3, 2]),
        node("Conv", ["t", "v"], "u", strides=[1, 2], pads=[1, 0, 0, 2]),
        node("MaxPool", ["u"], "p", kernel_shape=[1, 2]),
        node("AveragePool", ["p"], "y", kernel_shape=[2, 1], pads=[1, 0, 0, 0], count_include_pad=1),
    ]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {**W, "v": normal(2, 3, 2, 3)}))
    assert graph.outputs[0].steps == (host.Transpose(permutation=(0, 3, 2, 1)),)


def test_space_joined_to_a_sequence() -> None:
    """(N, C, H, W) -> (N, C, H * W) -> (N, H * W, C) -> MatMul, as transformers and pointwise 1-D convolutions have it."""
    nodes = [CONV, node("Reshape", ["h", "s"], "a"), node("Conv", ["a", "v"], "b"), node("Transpose", ["b"], "c", perm=[0, 2, 1])]
    nodes += [node("MatMul", ["c", "m"], "d"), node("ReduceMean", ["d"], "y", axes=[1], keepdims=0)]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {**W, "s": shape_of(0, 3, -1), "v": normal(7, 3, 1), "m": normal(7, 2)}))
    assert operators(graph) == ["Conv", "Conv", "Conv", "AveragePool"]


def test_squeeze_and_unsqueeze() -> None:
    nodes = [node("Conv", ["x", "w"], "h"), node("Squeeze", ["h", "a"], "s"), node("Conv", ["s", "v"], "b"), node("Unsqueeze", ["b", "c"], "y")]
    constants = {"w": normal(3, 4, 1, 5), "a": shape_of(3), "v": normal(2, 3, 2), "c": shape_of(-1, 1)}
    assert_equal_to_onnxruntime(model(nodes, X, constants))
    old = [node("Conv", ["x", "w"], "h"), node("Squeeze", ["h"], "s", axes=[3]), node("Unsqueeze", ["s"], "y", axes=[1, 2])]
    assert_equal_to_onnxruntime(model(old, X, {"w": constants["w"]}, opset=11))


def test_single_channel_image_as_a_matrix() -> None:
    nodes = [node("Conv", ["x", "w"], "h"), node("Squeeze", ["h", "a"], "s"), node("MatMul", ["s", "m"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(1, 4, 3, 3), "a": shape_of(1), "m": normal(3, 6)}))
    assert graph.nodes[1].op.window.kernel == (1, 3)


@pytest.mark.parametrize(
    "tail",
    [
        [node("Transpose", ["h"], "y", perm=[0, 2, 3, 1])],
        [node("Transpose", ["h"], "y", perm=[0, 3, 2, 1])],
        [node("Reshape", ["h", "s"], "y")],
        [node("Softmax", ["h"], "a", axis=1), node("Transpose", ["a"], "y", perm=[0, 2, 3, 1])],
        [node("Softmax", ["h"], "a", axis=1), node("Reshape", ["a", "s"], "b"), node("Unsqueeze", ["b", "one"], "y")],
        [node("Softmax", ["h"], "a", axis=1), node("Mul", ["a", "two"], "y")],
    ],
)
def test_what_follows_the_last_accelerated_operator_runs_on_the_processor(tail: list[onnx.NodeProto]) -> None:
    constants = {**W, "s": shape_of(0, 2, -1, 9), "one": shape_of(1), "two": np.float32(2)}
    assert operators(assert_equal_to_onnxruntime(model([CONV, *tail], X, constants))) == ["Conv"]


@pytest.mark.parametrize(
    ("steps", "shape"),
    [
        ([node("Reshape", ["x", "s"], "a")], ["N", 120]),
        ([node("Reshape", ["x", "t"], "b"), node("Transpose", ["b"], "a", perm=[0, 3, 1, 2])], ["N", 6, 20]),
        ([node("Transpose", ["x"], "b", perm=[0, 3, 1, 2]), node("Transpose", ["b"], "a", perm=[0, 1, 3, 2])], ["N", 6, 5, 4]),
    ],
)
def test_any_reshape_or_transpose_of_an_input_runs_on_the_processor(steps: list[onnx.NodeProto], shape: list[int | str]) -> None:
    constants = {**W, "s": shape_of(0, 4, 6, 5), "t": shape_of(-1, 6, 5, 4)}
    assert operators(assert_equal_to_onnxruntime(model([*steps, node("Conv", ["a", "w"], "y")], {"x": shape}, constants))) == ["Conv"]


def test_input_read_by_several_operators_of_one_layout() -> None:
    nodes = [node("Conv", ["x", "w"], "a"), node("MaxPool", ["x"], "b", kernel_shape=[3, 3]), node("Concat", ["a", "b"], "y", axis=1)]
    assert len(assert_equal_to_onnxruntime(model(nodes, X, W)).inputs) == 1


def test_input_read_in_two_layouts_is_moved_by_the_processor() -> None:
    nodes = [node("Conv", ["x", "w"], "a"), node("Flatten", ["x"], "f"), node("MatMul", ["f", "m"], "b")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {**W, "m": normal(120, 2)}, outputs=["a", "b"]))
    assert operators(graph) == ["Conv", "Move", "Conv"]


def test_input_read_scaled_and_unscaled() -> None:
    nodes = [node("Mul", ["x", "s"], "a"), node("Conv", ["a", "w"], "h", pads=[1, 1, 1, 1]), node("Conv", ["x", "w"], "b", pads=[1, 1, 1, 1])]
    proto = model([*nodes, node("Add", ["h", "b"], "y")], X, {**W, "s": normal(4, 1, 1)})
    graph = assert_equal_to_onnxruntime(proto)
    assert operators(graph) == ["Conv", "Conv", "Add"]


def test_several_inputs_and_outputs() -> None:
    nodes = [node("Conv", ["x", "w"], "a"), node("Conv", ["z", "w"], "b"), node("Add", ["a", "b"], "y"), node("Relu", ["b"], "r")]
    graph = assert_equal_to_onnxruntime(model(nodes, {"x": ["N", 4, 6, 5], "z": ["N", 4, 6, 5]}, W, outputs=["y", "r", "a"]))
    assert [graph_input.name for graph_input in graph.inputs] == ["x", "z"]


@pytest.mark.parametrize(
    ("middle", "kinds"),
    [
        ([node("Reshape", ["h", "s"], "g")], ["Move"]),
        ([node("Transpose", ["h"], "g", perm=[0, 2, 1, 3])], ["Move"]),
        ([node("Softmax", ["h"], "g", axis=1)], ["Softmax"]),
        ([node("Reshape", ["h", "t"], "a"), node("Transpose", ["a"], "b", perm=[0, 3, 2, 1, 4]), node("Reshape", ["b", "s"], "g")], ["Move"]),
        (
            [node("Reshape", ["h", "s"], "a"), node("Softmax", ["a"], "b", axis=2), node("Transpose", ["b"], "g", perm=[0, 2, 1, 3])],
            ["Move", "Softmax", "Move"],
        ),
    ],
)
def test_what_moves_data_in_the_middle_runs_on_the_processor(middle: list[onnx.NodeProto], kinds: list[str]) -> None:
    channels = 3 if middle[-1].op_type == "Softmax" else 3 if kinds[-1] == "Move" and len(kinds) == 3 else 4
    constants = {**W, "s": shape_of(0, 4, 3, 3), "t": shape_of(0, 3, 2, 2, 3), "v": normal(1, channels, 1, 1)}
    graph = assert_equal_to_onnxruntime(model([CONV, *middle, node("Conv", ["g", "v"], "y")], X, constants))
    assert operators(graph) == ["Conv", *kinds, "Conv"]


@pytest.mark.parametrize("opset", [9, 11, 12])
def test_shape_arithmetic_of_older_opsets(opset: int) -> None:
    """What exporters of older opsets write for x.view(x.size(0), -1): operators whose axes are still attributes."""
    nodes = [
        CONV,
        node("Shape", ["h"], "s"),
        node("Gather", ["s", "zero"], "n", axis=0),
        node("Unsqueeze", ["n"], "u", axes=[0]),
        node("Unsqueeze", ["u"], "u2", axes=[1]),
        node("Squeeze", ["u2"], "u3", axes=[1]),
        node("Concat", ["u3", "rest"], "t", axis=0),
        node("Reshape", ["h", "t"], "f"),
        node("MatMul", ["f", "m"], "y"),
    ]
    constants = {**W, "zero": np.int64(0), "rest": shape_of(-1), "m": normal(36, 5)}
    assert_equal_to_onnxruntime(model(nodes, X, constants, opset=opset))
