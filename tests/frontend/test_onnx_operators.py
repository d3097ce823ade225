"""Each ONNX operator and attribute that the front end accepts, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import assert_equal_to_onnxruntime, model, node, normal, operators, shape_of

X = {"x": ["N", 4, 9, 7]}


def conv_model(weight: np.ndarray, x: tuple[int, ...] = (4, 9, 7), bias: bool = True, **attributes: object) -> onnx.ModelProto:
    constants = {"w": weight, **({"b": normal(len(weight))} if bias else {})}
    return model([node("Conv", ["x", *constants], "y", **attributes)], {"x": ["N", *x]}, constants)


CONVS = {
    "plain": (normal(5, 4, 3, 3), {}),
    "kernel_attribute": (normal(5, 4, 3, 2), {"kernel_shape": [3, 2]}),
    "pads_top_left_bottom_right": (normal(5, 4, 3, 3), {"pads": [2, 0, 1, 3]}),
    "asymmetric_pads_0101_with_stride_2": (normal(5, 4, 3, 3), {"pads": [0, 1, 0, 1], "strides": [2, 2]}),
    "asymmetric_pads_0011_with_stride_2": (normal(5, 4, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
    "strides_differ": (normal(5, 4, 3, 3), {"strides": [3, 1]}),
    "dilation": (normal(5, 4, 3, 2), {"dilations": [2, 3]}),
    "group_2": (normal(6, 2, 3, 3), {"group": 2}),
    "depthwise": (normal(4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "depthwise_multiplier_2": (normal(8, 1, 3, 3), {"group": 4}),
    "same_upper": (normal(5, 4, 2, 4), {"auto_pad": "SAME_UPPER"}),
    "same_lower": (normal(5, 4, 2, 4), {"auto_pad": "SAME_LOWER"}),
    "same_upper_stride": (normal(5, 4, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 3]}),
    "same_lower_stride": (normal(5, 4, 3, 4), {"auto_pad": "SAME_LOWER", "strides": [2, 3]}),
    "same_upper_kernel_below_stride": (normal(5, 4, 1, 1), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "valid": (normal(5, 4, 3, 4), {"auto_pad": "VALID", "strides": [2, 2]}),
    "kernel_covers_image": (normal(5, 4, 9, 7), {}),
    "pointwise": (normal(5, 4, 1, 1), {}),
}


@pytest.mark.parametrize("case", CONVS)
def test_conv(case: str) -> None:
    weight, attributes = CONVS[case]
    graph = assert_equal_to_onnxruntime(conv_model(weight, **attributes))
    assert operators(graph) == ["Conv"]


def test_conv_without_bias_and_with_group_omitted() -> None:
    assert_equal_to_onnxruntime(conv_model(normal(5, 4, 3, 3), bias=False))


@pytest.mark.parametrize("attributes", [{}, {"pads": [1, 2]}, {"strides": [2], "dilations": [2]}, {"group": 2}, {"auto_pad": "SAME_LOWER"}])
def test_conv_1d_as_2d(attributes: dict[str, object]) -> None:
    weight = normal(6, 2 if "group" in attributes else 4, 3)
    graph = assert_equal_to_onnxruntime(conv_model(weight, x=(4, 15), **attributes))
    assert graph.values[graph.inputs[0].value].type.shape == (1, 15, 4)


POOLS = {
    "plain": {"kernel_shape": [2, 3]},
    "strides": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 0, 2, 1]},
    "ceil_mode": {"kernel_shape": [3, 2], "strides": [2, 2], "ceil_mode": 1},
    "ceil_mode_pads": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "ceil_mode_drops_window_in_padding": {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "same_upper": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "same_lower": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "valid": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"},
}


@pytest.mark.parametrize("case", POOLS)
def test_max_pool(case: str) -> None:
    assert_equal_to_onnxruntime(model([node("MaxPool", ["x"], "y", **POOLS[case])], X))


@pytest.mark.parametrize("extra", [{"dilations": [2, 3]}, {"dilations": [2, 2], "ceil_mode": 1, "strides": [2, 2]}])
def test_max_pool_dilations(extra: dict[str, object]) -> None:
    assert_equal_to_onnxruntime(model([node("MaxPool", ["x"], "y", kernel_shape=[2, 2], **extra)], X))


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("case", POOLS)
def test_average_pool(case: str, include: int) -> None:
    proto = model([node("AveragePool", ["x"], "y", count_include_pad=include, **POOLS[case])], X, opset=19)
    assert_equal_to_onnxruntime(proto)


def test_average_pool_dilations() -> None:
    proto = model([node("AveragePool", ["x"], "y", kernel_shape=[2, 2], dilations=[3, 2], pads=[1, 1, 1, 1])], X, opset=19)
    assert_equal_to_onnxruntime(proto)


def test_pool_1d() -> None:
    assert_equal_to_onnxruntime(model([node("MaxPool", ["x"], "y", kernel_shape=[3], strides=[2], pads=[1, 0])], {"x": ["N", 4, 9]}))
    assert_equal_to_onnxruntime(model([node("AveragePool", ["x"], "y", kernel_shape=[3], strides=[2], pads=[1, 0])], {"x": ["N", 4, 9]}))


@pytest.mark.parametrize("operator", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools(operator: str) -> None:
    assert_equal_to_onnxruntime(model([node(operator, ["x"], "y")], X))
    assert_equal_to_onnxruntime(model([node(operator, ["x"], "y")], {"x": ["N", 4, 9]}))


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [2], [3], [1, 2]])
def test_reduce_mean_as_global_pooling(axes: list[int], keepdims: int) -> None:
    """AdaptiveAvgPool and ReduceMean are seen as global pooling; over dimensions 1 and 2 the input is channels-last."""
    graph = assert_equal_to_onnxruntime(model([node("ReduceMean", ["x"], "y", axes=axes, keepdims=keepdims)], X))
    assert operators(graph) == ["AveragePool"]
    by_input = model([node("ReduceMean", ["x", "axes"], "y", keepdims=keepdims)], X, {"axes": shape_of(*axes)}, opset=18)
    assert_equal_to_onnxruntime(by_input)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [1, 2, 3], [1, 3]])
@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceSum"])
def test_reductions_over_channels_are_convolutions(operator: str, axes: list[int], keepdims: int) -> None:
    convolution, constants = node("Conv", ["x", "w"], "h"), {"w": normal(5, 4, 1, 1), "axes": shape_of(*axes)}
    graph = assert_equal_to_onnxruntime(model([convolution, node(operator, ["h", "axes"], "y", keepdims=keepdims)], X, constants, opset=18))
    assert operators(graph) == ["Conv", "Conv"]


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", [[1], [1, 2, 3], [2, 3], [-1]])
@pytest.mark.parametrize("operator", ["ReduceMin", "ReduceL1", "ReduceL2", "ReduceSumSquare"])
def test_reductions_of_functions(operator: str, axes: list[int], keepdims: int) -> None:
    nodes = [node("Conv", ["x", "w"], "h"), node(operator, ["h", "axes"], "y", keepdims=keepdims)]
    proto = model(nodes, X, {"w": normal(5, 4, 1, 1), "axes": shape_of(*axes)}, opset=18)
    kinds = [kind for kind in operators(assert_equal_to_onnxruntime(proto)) if kind != "Move"]
    assert kinds == {
        "ReduceMin": ["Conv", "MaxPool", "Conv"],  # the first convolution takes the sign
        "ReduceL1": ["Conv", "Lookup", "Conv"],
        "ReduceL2": ["Conv", "Lookup", "Conv", "Lookup"],
        "ReduceSumSquare": ["Conv", "Lookup", "Conv"],
    }[operator]


@pytest.mark.parametrize("operator", ["ReduceMin", "ReduceL2"])
def test_reductions_of_the_input_and_of_nothing(operator: str) -> None:
    assert_equal_to_onnxruntime(model([node(operator, ["x", "axes"], "h"), node("Relu", ["h"], "y")], X, {"axes": shape_of(1, 2)}, opset=18))
    assert_equal_to_onnxruntime(model([node(operator, ["x"], "h", noop_with_empty_axes=1), node("Relu", ["h"], "y")], X, opset=18))


@pytest.mark.parametrize("axes", [[2, 3], [2], [-1]])
def test_reduce_sum_over_the_image_is_a_depthwise_convolution(axes: list[int]) -> None:
    convolution, constants = node("Conv", ["x", "w"], "h"), {"w": normal(5, 4, 1, 1), "axes": shape_of(*axes)}
    graph = assert_equal_to_onnxruntime(model([convolution, node("ReduceSum", ["h", "axes"], "y")], X, constants))
    assert operators(graph) == ["Conv", "Conv"] and graph.nodes[1].op.is_depthwise


@pytest.mark.parametrize("axes", [[2, 3], [-2, -1], [1, 2]])
def test_reduce_max_as_global_pooling(axes: list[int]) -> None:
    """Exporters write AdaptiveMaxPool of one cell as ReduceMax."""
    graph = assert_equal_to_onnxruntime(model([node("ReduceMax", ["x", "axes"], "y", keepdims=0)], X, {"axes": shape_of(*axes)}, opset=18))
    assert operators(graph) == ["MaxPool"]


def test_reduce_mean_without_axes_that_does_nothing() -> None:
    nodes = [node("ReduceMean", ["x"], "h", noop_with_empty_axes=1), node("Relu", ["h"], "y")]
    assert_equal_to_onnxruntime(model(nodes, X, opset=18))


GEMMS = {
    "plain": ({"b": normal(6, 5), "c": normal(5)}, {}),
    "trans_b": ({"b": normal(5, 6), "c": normal(5)}, {"transB": 1}),
    "alpha_beta": ({"b": normal(6, 5), "c": normal(1, 5)}, {"alpha": 0.5, "beta": -2.0}),
    "no_c": ({"b": normal(6, 5)}, {}),
    "scalar_c": ({"b": normal(6, 5), "c": np.float32(3)}, {}),
    "one_c": ({"b": normal(6, 5), "c": normal(1)}, {}),
}


@pytest.mark.parametrize("case", GEMMS)
def test_gemm_on_a_rank_2_graph_input(case: str) -> None:
    constants, attributes = GEMMS[case]
    assert_equal_to_onnxruntime(model([node("Gemm", ["x", *constants], "y", **attributes)], {"x": ["N", 6]}, constants))


@pytest.mark.parametrize("shape", [(6,), (7, 6), (3, 7, 6)])
def test_matmul_with_bias(shape: tuple[int, ...]) -> None:
    nodes = [node("MatMul", ["x", "w"], "h"), node("Add", ["b", "h"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, {"x": ["N", *shape]}, {"w": normal(6, 5), "b": normal(5)}))
    assert operators(graph) == ["Conv"]


def test_matmul_with_the_constant_first() -> None:
    graph = assert_equal_to_onnxruntime(model([node("MatMul", ["w", "x"], "y")], {"x": ["N", 6, 7]}, {"w": normal(5, 6)}))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize("first", ["Conv", "MatMul"])
def test_batch_normalization_is_folded(first: str) -> None:
    norm = {"s": normal(5), "o": normal(5, seed=1), "m": normal(5, seed=2), "v": np.abs(normal(5, seed=3))}
    weight, x = (normal(5, 4, 3, 3), (4, 9, 7)) if first == "Conv" else (normal(4, 5), (4,))
    nodes = [node(first, ["x", "w"], "h"), node("BatchNormalization", ["h", *norm], "y", epsilon=1e-3)]
    graph = assert_equal_to_onnxruntime(model(nodes, {"x": ["N", *x]}, {"w": weight, **norm}))
    assert operators(graph) == ["Conv"]
    assert graph.nodes[0].output == "y"


def test_batch_normalization_of_the_input() -> None:
    norm = {"s": normal(4), "o": normal(4, seed=1), "m": normal(4, seed=2), "v": np.abs(normal(4, seed=3))}
    nodes = [node("BatchNormalization", ["x", *norm], "h"), node("Conv", ["h", "w"], "y", pads=[1, 1, 1, 1])]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3), **norm}))
    assert operators(graph) == ["Conv"]


def activation_model(activation: onnx.NodeProto, constants: dict[str, np.ndarray], opset: int) -> onnx.ModelProto:
    return model([node("Conv", ["x", "w"], "h"), activation], X, {"w": normal(5, 4, 3, 3), **constants}, opset=opset)


@pytest.mark.parametrize(
    ("activation", "constants", "opset", "clamp"),
    [
        (node("Relu", ["h"], "y"), {}, 13, (0.0, np.inf)),
        (node("Clip", ["h"], "y", min=0.0, max=6.0), {}, 10, (0.0, 6.0)),
        (node("Clip", ["h"], "y", max=1.0), {}, 7, (-np.inf, 1.0)),
        (node("Clip", ["h", "low", "high"], "y"), {"low": np.float32(0), "high": np.float32(6)}, 13, (0.0, 6.0)),
        (node("Clip", ["h", "", "high"], "y"), {"high": np.float32(1)}, 11, (-np.inf, 1.0)),
        (node("Clip", ["h", "low"], "y"), {"low": np.float32(-1)}, 12, (-1.0, np.inf)),
        (node("Clip", ["h"], "y"), {}, 12, (-np.inf, np.inf)),
    ],
)
def test_activations_become_clamps(activation: onnx.NodeProto, constants: dict[str, np.ndarray], opset: int, clamp: tuple[float, float]) -> None:
    graph = assert_equal_to_onnxruntime(activation_model(activation, constants, opset))
    assert operators(graph) == ["Conv"]
    assert graph.nodes[0].op.clamp == clamp


ARITHMETIC = {
    "add_channel": ("Add", ["h", "c"], normal(5, 1, 1)),
    "add_full_rank": ("Add", ["c", "h"], normal(1, 5, 1, 1)),
    "add_scalar": ("Add", ["h", "c"], np.float32(0.5)),
    "add_repeated": ("Add", ["h", "c"], np.broadcast_to(normal(5, 1, 1), (5, 7, 5)).copy()),
    "sub": ("Sub", ["h", "c"], normal(5, 1, 1)),
    "sub_from_constant": ("Sub", ["c", "h"], normal(5, 1, 1)),
    "mul": ("Mul", ["c", "h"], normal(5, 1, 1)),
    "mul_zero": ("Mul", ["c", "h"], np.float32(0)),
    "div": ("Div", ["h", "c"], np.abs(normal(5, 1, 1)) + 1),
}


@pytest.mark.parametrize("case", ARITHMETIC)
def test_arithmetic_with_constants_is_folded(case: str) -> None:
    operator, inputs, constant = ARITHMETIC[case]
    nodes = [node("Conv", ["x", "w"], "h"), node(operator, inputs, "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3), "c": constant}))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize("case", ARITHMETIC)
def test_arithmetic_between_other_operators(case: str) -> None:
    """Behind a pooling nothing can take it up: it becomes a depthwise convolution, unless the next convolution can."""
    operator, inputs, constant = ARITHMETIC[case]
    before = [node("Conv", ["x", "w"], "p"), node("MaxPool", ["p"], "h", kernel_shape=[1, 1]), node("Relu", ["p"], "q"), node(operator, inputs, "a")]
    after = [node("Conv", ["a", "v"], "b", pads=[1, 1, 1, 1]), node("Conv", ["a", "v"], "c2"), node("Relu", ["a"], "d"), node("Add", ["d", "q"], "y")]
    constants = {"w": normal(5, 4, 3, 3), "v": normal(3, 5, 3, 3), "c": constant}
    assert_equal_to_onnxruntime(model([*before, *after], X, constants, outputs=["y", "b", "c2"]))
    assert_equal_to_onnxruntime(model([*before, after[1]], X, constants, outputs=["c2"]))
    assert_equal_to_onnxruntime(model([*before, after[0]], X, constants, outputs=["b"]))


def test_image_normalization_stays_outside() -> None:
    nodes = [node("Sub", ["x", "m"], "a"), node("Div", ["a", "s"], "b"), node("Conv", ["b", "w"], "y", pads=[1, 1, 1, 1])]
    constants = {"m": normal(4, 1, 1), "s": np.abs(normal(4, 1, 1)) + 1, "w": normal(5, 4, 3, 3)}
    graph = assert_equal_to_onnxruntime(model(nodes, X, constants))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 1), (5, 1, 1)])
def test_relu6_as_max_and_min(shape: tuple[int, ...]) -> None:
    """Import: ReLU6 unknown. Some converters write it as Max and Min by constants, in either order of operands."""
    nodes = [node("Conv", ["x", "w"], "h"), node("Max", ["h", "low"], "a"), node("Min", ["high", "a"], "y")]
    constants = {"w": normal(5, 4, 3, 3), "low": np.zeros(shape, np.float32), "high": np.full(shape, 0.75, np.float32)}
    graph = assert_equal_to_onnxruntime(model(nodes, X, constants))
    assert [node.op.clamp for node in graph.nodes] == [(0.0, 0.75)]


@pytest.mark.parametrize("order", [("Max", "Min"), ("Min", "Max")])
def test_limits_per_channel_as_max_and_min(order: tuple[str, str]) -> None:
    ends = {"Max": np.float32([-0.5, -0.25, 0, 0.1, -1]).reshape(5, 1, 1), "Min": np.float32([0.5, 0.25, 0.75, 0.2, 1]).reshape(5, 1, 1)}
    nodes = [node("Conv", ["x", "w"], "h"), node(order[0], ["h", "first"], "a"), node(order[1], ["second", "a"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3), "first": ends[order[0]], "second": ends[order[1]]}))
    assert [node.op.clamp for node in graph.nodes] == [tuple(tuple(ends[name].reshape(-1).tolist()) for name in ("Max", "Min"))]


@pytest.mark.parametrize("operands", [["h", "x"], ["x", "h"], ["h", "h"]])
def test_residual_add(operands: list[str]) -> None:
    nodes = [node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1]), node("Add", operands, "a"), node("Relu", ["a"], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(4, 4, 3, 3)}))
    assert operators(graph) == ["Conv", "Add"]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_sum_is_a_chain_of_additions(count: int) -> None:
    nodes = [node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1]), node("Sum", ["h", "x", "h", "x"][:count], "y")]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(4, 4, 3, 3)}))
    assert operators(graph) == ["Conv", *["Add"] * (count - 1)]


@pytest.mark.parametrize("axis", [1, 2, 3, -1, -3])
def test_concat(axis: int) -> None:
    nodes = [node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1]), node("Concat", ["x", "h", "x"], "y", axis=axis)]
    assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(4, 4, 3, 3)}))


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_concat_of_single_pixels(axis: int) -> None:
    nodes = [node("GlobalMaxPool", ["x"], "a"), node("GlobalAveragePool", ["x"], "b"), node("Concat", ["a", "b"], "y", axis=axis)]
    assert_equal_to_onnxruntime(model(nodes, X))


def test_concat_of_vectors() -> None:
    nodes = [node("Gemm", ["x", "a"], "p"), node("Gemm", ["x", "b"], "q"), node("Concat", ["p", "q"], "h", axis=1), node("Gemm", ["h", "c"], "y")]
    assert_equal_to_onnxruntime(model(nodes, {"x": ["N", 6]}, {"a": normal(6, 3), "b": normal(6, 4), "c": normal(7, 2)}))


PADS = {
    "attributes": (node("Pad", ["x"], "h", pads=[0, 0, 1, 2, 0, 0, 2, 0]), {}, 10),
    "value": (node("Pad", ["x"], "h", pads=[0, 0, 1, 2, 0, 0, 2, 0], value=2.5), {}, 7),
    "inputs": (node("Pad", ["x", "p"], "h"), {"p": shape_of(0, 0, 1, 2, 0, 0, 2, 0)}, 13),
    "inputs_value": (node("Pad", ["x", "p", "v"], "h"), {"p": shape_of(0, 0, 1, 2, 0, 0, 2, 0), "v": np.float32(-1)}, 13),
    "axes": (node("Pad", ["x", "p", "", "a"], "h"), {"p": shape_of(2, 1, 0, 2), "a": shape_of(3, -2)}, 18),
    "crop": (node("Pad", ["x", "p"], "h"), {"p": shape_of(0, 0, -1, 2, 0, 0, -2, -3)}, 13),
    "nothing": (node("Pad", ["x", "p"], "h"), {"p": shape_of(0, 0, 0, 0, 0, 0, 0, 0)}, 13),
}


@pytest.mark.parametrize("case", PADS)
@pytest.mark.parametrize("reader", ["Conv", "MaxPool", "AveragePool", "Relu"])
def test_pad_in_every_form(case: str, reader: str) -> None:
    pad, constants, opset = PADS[case]
    inputs, attributes = (["h", "w"], {}) if reader == "Conv" else (["h"], {} if reader == "Relu" else {"kernel_shape": [3, 3], "strides": [2, 1]})
    if reader == "Conv":
        constants = {**constants, "w": normal(3, 4, 3, 3)}
    graph = assert_equal_to_onnxruntime(model([pad, node(reader, inputs, "y", **attributes)], X, constants, opset=opset))
    if case in ("attributes", "inputs", "axes") and reader in ("Conv", "AveragePool"):
        assert operators(graph) == [reader]


def test_pad_that_joins_an_average_pool_with_pads_of_its_own() -> None:
    for include in (0, 1):
        pool = node("AveragePool", ["h"], "y", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=include)
        pad = node("Pad", ["x"], "h", pads=[0, 0, 1, 0, 0, 0, 1, 1])
        graph = assert_equal_to_onnxruntime(model([pad, pool], X, opset=10))
        assert operators(graph) == ["AveragePool"]


def test_pad_between_relu_and_max_pool_is_fused() -> None:
    nodes = [node("Conv", ["x", "w"], "a"), node("Relu", ["a"], "x2"), node("Pad", ["x2"], "h", pads=[0, 0, 1, 1, 0, 0, 1, 1])]
    proto = model([*nodes, node("MaxPool", ["h"], "y", kernel_shape=[3, 3])], X, {"w": normal(5, 4, 3, 3)}, opset=10)
    assert operators(assert_equal_to_onnxruntime(proto)) == ["Conv", "MaxPool"]


def test_pad_with_minus_infinity_before_max_pool() -> None:
    pad = node("Pad", ["x", "p", "v"], "h")
    constants = {"p": shape_of(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(-np.inf)}
    graph = assert_equal_to_onnxruntime(model([pad, node("MaxPool", ["h"], "y", kernel_shape=[3, 3])], X, constants))
    assert operators(graph) == ["MaxPool"]


@pytest.mark.parametrize("cast", [node("Identity", ["h"], "i"), node("Dropout", ["h"], "i"), node("Cast", ["h"], "i", to=onnx.TensorProto.FLOAT)])
def test_copies_vanish(cast: onnx.NodeProto) -> None:
    nodes = [node("Conv", ["x", "w"], "h"), cast, node("Relu", ["i"], "y")]
    assert operators(assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3)}))) == ["Conv"]


def test_integer_input_is_cast_and_scaled_outside() -> None:
    nodes = [node("Cast", ["x"], "f", to=onnx.TensorProto.FLOAT), node("Mul", ["f", "s"], "g"), node("Conv", ["g", "w"], "y")]
    proto = model(nodes, X, {"s": np.float32(1 / 255), "w": normal(5, 4, 3, 3)}, dtype=onnx.TensorProto.UINT8)
    assert assert_equal_to_onnxruntime(proto).inputs[0].dtype == "uint8"


@pytest.mark.parametrize(("opset", "axis"), [(11, None), (11, 1), (11, 2), (11, -1), (13, None), (13, 1), (13, 2), (13, -2)])
def test_softmax_of_old_and_new_opsets(opset: int, axis: int | None) -> None:
    """Before opset 13 every dimension from the axis on is taken together."""
    attributes = {} if axis is None else {"axis": axis}
    nodes = [node("Conv", ["x", "w"], "h"), node("Softmax", ["h"], "y", **attributes)]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3)}, opset=opset))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize(
    "constant",
    [
        {"value": onnx.numpy_helper.from_array(np.float32(2))},
        {"value_float": 2.0},
        {"value_floats": [2.0]},
    ],
)
def test_constants_in_every_form(constant: dict[str, object]) -> None:
    nodes = [node("Constant", [], "c", **constant), node("Conv", ["x", "w"], "h"), node("Mul", ["h", "c"], "y")]
    assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(5, 4, 3, 3)}))


@pytest.mark.parametrize("constant", [{"value_ints": [0, -1]}, {"value": onnx.numpy_helper.from_array(shape_of(0, -1))}])
def test_integer_constants_in_every_form(constant: dict[str, object]) -> None:
    nodes = [node("Constant", [], "c", **constant), node("Relu", ["x"], "h"), node("Reshape", ["h", "c"], "y")]
    assert_equal_to_onnxruntime(model(nodes, X))


def test_constant_int_is_a_scalar() -> None:
    nodes = [node("Constant", [], "i", value_int=3), node("Cast", ["i"], "c", to=1), node("Relu", ["x"], "h"), node("Mul", ["h", "c"], "y")]
    assert_equal_to_onnxruntime(model(nodes, X))


def test_weight_normalization_is_folded() -> None:
    """What an exporter writes for weights g * v / |v|: arithmetic on constants."""
    nodes = [
        node("ReduceL2", ["v"], "n", axes=[1, 2, 3], keepdims=1),
        node("Div", ["v", "n"], "u"),
        node("Mul", ["u", "g"], "w"),
        node("Conv", ["x", "w"], "y"),
    ]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"v": normal(5, 4, 3, 3), "g": normal(5, 1, 1, 1)}))
    assert operators(graph) == ["Conv"]
