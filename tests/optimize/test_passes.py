"""When each pass applies and, more important, when it must not. That meaning is kept is tested beside the front end, on random networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx_models import assert_equal_to_onnxruntime, model, node, normal, operators, shape_of

from hwgen.frontend.onnx import import_model
from hwgen.ir.graph import Graph
from hwgen.ir.verify import verify
from hwgen.optimize import PASSES
from hwgen.optimize.fold_batch_norm import fold_batch_norm
from hwgen.optimize.fuse_activation import fuse_activation
from hwgen.optimize.fuse_pad import fuse_pad
from hwgen.optimize.remove_dead import remove_dead
from hwgen.optimize.remove_identity import remove_identity

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(3, 4, 3, 3), "v": normal(2, 3, 3, 3), "s": normal(3, 1, 1)}
CONV = node("Conv", ["x", "w"], "h")


def graph_of(*nodes: onnx.NodeProto, outputs: Any = ("y",), opset: int = 10, **constants: Any) -> Graph:
    proto = model(nodes, X, {**W, **constants}, outputs=outputs, opset=opset)
    assert_equal_to_onnxruntime(proto, tolerance=1e-4)
    return import_model(proto, "test")


def test_every_pass_leaves_a_sound_graph() -> None:
    nodes = [
        CONV,
        node("Mul", ["h", "s"], "a"),
        node("Relu", ["a"], "b"),
        node("Pad", ["b"], "c", pads=[0, 0, 1, 1, 0, 0, 1, 1]),
        node("Identity", ["c"], "d"),
    ]
    graph = graph_of(*nodes, node("Conv", ["d", "v"], "e"), node("Clip", ["e"], "y", min=0.0, max=6.0))
    assert operators(graph) == ["Conv", "Conv", "Clamp", "Pad", "Conv", "Clamp"]
    for rewrite in PASSES:
        graph = rewrite(graph)
        assert {node.output for node in graph.nodes} | {"x"} == set(graph.values)
    verify(graph)
    assert operators(graph) == ["Conv", "Conv"]
    assert [node.name for node in graph.nodes] == ["b", "y"]
    assert [node.source for node in graph.nodes] == [("h", "a", "b"), ("c", "e", "y")]


def test_batch_norm_folds_into_a_convolution_behind_it_unless_that_pads() -> None:
    pool = node("MaxPool", ["h"], "p", kernel_shape=[2, 2])
    behind = fold_batch_norm(graph_of(CONV, pool, node("Add", ["p", "s"], "a"), node("Conv", ["a", "v"], "y", pads=[0, 1, 1, 0])))
    assert operators(behind) == ["Conv", "MaxPool", "Conv", "Conv"]
    scaled = fold_batch_norm(graph_of(CONV, pool, node("Mul", ["p", "s"], "a"), node("Conv", ["a", "v"], "y", pads=[0, 1, 1, 0])))
    assert operators(scaled) == ["Conv", "MaxPool", "Conv"]


def test_batch_norm_stays_where_another_reader_needs_the_value() -> None:
    two_readers = fold_batch_norm(graph_of(CONV, node("Mul", ["h", "s"], "a"), node("Add", ["a", "h"], "y")))
    assert operators(two_readers) == ["Conv", "Conv", "Add"]
    is_output = fold_batch_norm(graph_of(CONV, node("Mul", ["h", "s"], "y"), outputs=["y", "h"]))
    assert operators(is_output) == ["Conv", "Conv"]


def test_batch_norm_does_not_pass_a_clamp() -> None:
    graph = graph_of(CONV, node("Relu", ["h"], "r"), node("Mul", ["r", "s"], "a"), node("MaxPool", ["a"], "y", kernel_shape=[2, 2]))
    for rewrite in (fuse_activation, fold_batch_norm):
        graph = rewrite(graph)
    assert operators(graph) == ["Conv", "Conv", "MaxPool"]


def test_activation_stays_where_another_reader_needs_the_value() -> None:
    assert operators(fuse_activation(graph_of(CONV, node("Relu", ["h"], "r"), node("Add", ["r", "h"], "y")))) == ["Conv", "Clamp", "Add"]
    assert operators(fuse_activation(graph_of(CONV, node("Relu", ["h"], "y"), outputs=["y", "h"]))) == ["Conv", "Clamp"]


def test_activation_behind_a_concatenation_stays() -> None:
    graph = fuse_activation(graph_of(CONV, node("Concat", ["h", "h"], "c", axis=1), node("Relu", ["c"], "y")))
    assert operators(graph) == ["Conv", "Concat", "Clamp"]


def test_clamps_in_a_row_become_one() -> None:
    low_then_high = fuse_activation(
        graph_of(CONV, node("Clip", ["h"], "a", min=-1.0, max=2.0), node("Relu", ["a"], "b"), node("Clip", ["b"], "y", max=1.0))
    )
    assert operators(low_then_high) == ["Conv"]
    assert low_then_high.nodes[0].op.clamp == (0.0, 1.0)
    disjoint = fuse_activation(graph_of(CONV, node("Clip", ["h"], "a", min=-2.0, max=-1.0), node("Relu", ["a"], "y")))
    assert disjoint.nodes[0].op.clamp == (0.0, 0.0)


def pad(value: float = 0.0) -> onnx.NodeProto:
    return node("Pad", ["h"], "p", pads=[0, 0, 1, 2, 0, 0, 0, 1], value=value)


def fused(*nodes: onnx.NodeProto, **settings: Any) -> list[str]:
    return operators(remove_dead(fuse_pad(fuse_activation(graph_of(CONV, *nodes, **settings)))))


def test_pad_of_zeros_joins_each_reader_that_can_take_it() -> None:
    conv = node("Conv", ["p", "v"], "y")
    assert fused(pad(), conv) == ["Conv", "Conv"]
    assert fused(pad(), conv, node("Relu", ["p"], "r"), outputs=["y", "r"]) == ["Conv", "Pad", "Conv", "Clamp"]


def test_pad_of_another_value_stays() -> None:
    assert fused(pad(0.5), node("Conv", ["p", "v"], "y")) == ["Conv", "Pad", "Conv"]
    assert fused(pad(0.5), node("AveragePool", ["p"], "y", kernel_shape=[3, 3])) == ["Conv", "Pad", "AveragePool"]


def test_pad_that_crops_stays() -> None:
    crop = node("Pad", ["h"], "p", pads=[0, 0, -1, 2, 0, 0, 1, 0])
    assert fused(crop, node("Conv", ["p", "v"], "y")) == ["Conv", "Pad", "Conv"]


def test_pad_joins_a_max_pool_only_below_the_smallest_element() -> None:
    pool = node("MaxPool", ["p"], "y", kernel_shape=[3, 3])
    assert fused(pad(), pool) == ["Conv", "Pad", "MaxPool"]
    relu = node("Relu", ["h"], "r")
    after_relu = node("Pad", ["r"], "p", pads=[0, 0, 1, 2, 0, 0, 0, 1])
    assert fused(relu, after_relu, pool) == ["Conv", "MaxPool"]
    only_padding = node("MaxPool", ["p"], "y", kernel_shape=[1, 2])
    assert fused(relu, after_relu, only_padding) == ["Conv", "Pad", "MaxPool"]


def test_pad_far_below_every_value_joins_a_max_pool() -> None:
    """Exporters write the padding of a MaxPool as minus infinity or the least float32; kept, it would be the range of the value."""
    for fill in (-np.inf, float(np.finfo(np.float32).min), -1e30):
        assert fused(pad(fill), node("MaxPool", ["p"], "y", kernel_shape=[3, 3])) == ["Conv", "MaxPool"]
    assert fused(pad(-1e10), node("MaxPool", ["p"], "y", kernel_shape=[3, 3])) == ["Conv", "Pad", "MaxPool"]


def test_pad_as_large_as_the_kernel_stays_before_a_pooling() -> None:
    dilated = node("MaxPool", ["p"], "y", kernel_shape=[2, 2], dilations=[1, 2])
    assert fused(node("Relu", ["h"], "r"), node("Pad", ["r"], "p", pads=[0, 0, 0, 2, 0, 0, 0, 0]), dilated) == ["Conv", "Pad", "MaxPool"]
    assert fused(node("Relu", ["h"], "r"), node("Pad", ["r"], "p", pads=[0, 0, 0, 1, 0, 0, 0, 0]), dilated) == ["Conv", "MaxPool"]


def test_copies_are_removed() -> None:
    ones = np.ones((3, 1, 1), np.float32)
    copies = {
        "pool": node("MaxPool", ["h"], "c", kernel_shape=[1, 1]),
        "average": node("AveragePool", ["h"], "c", kernel_shape=[1, 1]),
        "concat": node("Concat", ["h"], "c", axis=1),
        "clip": node("Clip", ["h"], "c"),
        "scale": node("Mul", ["h", "one"], "c"),
    }
    for copy in copies.values():
        graph = graph_of(CONV, copy, node("Relu", ["c"], "y"), one=ones)
        assert operators(remove_identity(graph)) == ["Conv", "Clamp"]
    strided = graph_of(CONV, node("MaxPool", ["h"], "c", kernel_shape=[1, 1], strides=[2, 2]), node("Relu", ["c"], "y"))
    assert operators(remove_identity(strided)) == ["Conv", "MaxPool", "Clamp"]


def test_the_last_copy_stays() -> None:
    proto = model([node("MaxPool", ["x"], "y", kernel_shape=[1, 1])], X)
    assert operators(assert_equal_to_onnxruntime(proto)) == ["MaxPool"]


def test_copy_that_is_an_output() -> None:
    nodes = [CONV, node("MaxPool", ["h"], "c", kernel_shape=[1, 1]), node("Relu", ["c"], "y")]
    graph = remove_identity(graph_of(*nodes, outputs=["y", "c", "h"]))
    assert operators(graph) == ["Conv", "Clamp"]
    assert [output.value for output in graph.outputs] == ["y", "h", "h"]


def test_dead_code_is_removed() -> None:
    graph = graph_of(CONV, node("Relu", ["h"], "y"), node("Conv", ["h", "v"], "z"), outputs=["y", "z"])
    assert operators(remove_dead(Graph(**{**vars(graph), "outputs": graph.outputs[:1]}))) == ["Conv", "Clamp"]
    assert shape_of(1).dtype == np.int64
