"""Every refusal and every contradiction, with its message; all refusals of a model are reported together."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import imported, model, node, normal, shape_of

from hwgen.errors import ModelError, UnsupportedError
from hwgen.frontend.onnx import import_model
from hwgen.frontend.onnx_constants import fold
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Constant

X = {"x": ["N", 4, 6, 5]}
W = {"w": normal(3, 4, 3, 3)}
CONV = node("Conv", ["x", "w"], "h")
OTHER = node("Conv", ["x", "w"], "g")
MATRIX = normal(3, 2)


def refusal(*nodes: onnx.NodeProto, constants: dict[str, Any] | None = None, opset: int = 13, inputs: Any = None, checked: bool = True) -> str:
    proto = model(nodes, inputs or X, {**W, **(constants or {})}, opset=opset)
    with pytest.raises(ModelError) as caught:
        imported(proto) if checked else import_model(proto, "test")
    return str(caught.value)


def test_all_offending_nodes_are_listed_at_once() -> None:
    nodes = [
        node("Conv", ["x", "w"], "h", name="first"),
        node("LpNormalization", ["h"], "a", name="gate", p=3),
        node("Hardmax", ["a"], "b", name="odds"),
        node("Pad", ["b", "p"], "c", name="mirror", mode="constant"),
        node("Conv", ["c", "w3"], "d", name="volume"),
        node("CumSum", ["d", "k"], "e", name="grow"),
        node("TopK", ["e", "k"], ["f", "i"], name="best"),
        node("Softmax", ["f"], "y", axis=0),
    ]
    constants = {"p": shape_of(1, 0, 1, 1, 0, 0, 1, 1), "w3": normal(2, 3, 1, 1, 1), "s": np.ones(4, np.float32), "k": shape_of(1)}
    proto = model(nodes, X, {**W, **constants})
    with pytest.raises(UnsupportedError) as caught:
        imported(proto)
    assert [(problem.node, problem.operator, problem.attribute) for problem in caught.value.problems] == [
        ("gate", "LpNormalization", "p"),
        ("odds", "Hardmax", ""),
        ("mirror", "Pad", "pads"),
        ("volume", "Conv", ""),
        ("grow", "CumSum", ""),
        ("best", "TopK", ""),
    ]
    assert str(caught.value).startswith("6 nodes are not supported:\n  LpNormalization 'gate', attribute p: must be 1 or 2, not 3\n")


def test_a_node_behind_an_unknown_one_is_not_blamed() -> None:
    """Experience: what cannot be known for lack of an operand is no second problem."""
    proto = model([CONV, node("CumSum", ["h", "s"], "a"), node("Div", ["c", "a"], "y")], X, {**W, "s": np.int64(1), "c": np.float32(1)})
    with pytest.raises(UnsupportedError) as caught:
        imported(proto)
    assert [problem.operator for problem in caught.value.problems] == ["CumSum"]


def test_unknown_operators_and_domains() -> None:
    proto = model([CONV, node("NoSuchThing", ["h"], "a"), onnx.helper.make_node("FusedConv", ["a"], ["y"], domain="com.microsoft")], X, W)
    with pytest.raises(UnsupportedError) as caught:
        imported(proto)
    assert [problem.operator for problem in caught.value.problems] == ["NoSuchThing", "com.microsoft:FusedConv"]


def test_nodes_that_no_output_needs_are_no_obstacle() -> None:
    assert len(imported(model([CONV, node("Sigmoid", ["h"], "z"), node("Relu", ["h"], "y")], X, W)).nodes) == 1


REFUSED = {
    "conv_3d": ([node("Conv", ["x", "v"], "y")], {"v": normal(3, 4, 1, 1, 1)}, "Conv 'y': must be 1-D or 2-D, not 3-D"),
    "pool_3d": ([CONV, node("MaxPool", ["h"], "y", kernel_shape=[1, 1, 1])], {}, "MaxPool 'y', attribute kernel_shape: must be 1-D or 2-D, not 3-D"),
    "conv_computed_weight": ([CONV, node("Conv", ["h", "h"], "y")], {}, "Conv 'y': the weight must be constant, but 'h' is computed at run time"),
    "clip_computed_limit": ([CONV, node("Clip", ["h", "h"], "y")], {}, "Clip 'y': min must be constant, but 'h' is computed at run time"),
    "matrix_product_of_ranks": (
        [CONV, node("GlobalAveragePool", ["h"], "g"), node("Flatten", ["g"], "f"), node("MatMul", ["h", "f"], "y")],
        {},
        "MatMul 'y': both operands must have one rank of at least 3, not ['N', 3, 4, 3] and ['N', 3]: the first dimension is the batch",
    ),
    "product_of_ranks": (
        [CONV, node("GlobalAveragePool", ["h"], "g"), node("Flatten", ["g"], "f"), node("Mul", ["h", "f"], "y")],
        {},
        "Mul 'y': both operands must have equally many dimensions, not ['N', 3, 4, 3] and ['N', 3]; the first of them is the batch",
    ),
    "stack_of_matrices": (
        [CONV, node("MatMul", ["h", "m"], "y")],
        {"m": normal(3, 3, 2)},
        "MatMul 'y': the constant must be one matrix, not of shape [3, 3, 2]",
    ),
    "matmul_over_the_batch": ([node("MatMul", ["m", "v"], "y")], {"m": MATRIX}, "MatMul 'y': must not contract the batch"),
    "divided_constant_varies": ([CONV, node("Div", ["c", "h"], "y")], {"c": normal(4, 3)}, "Div 'y': a constant that is divided must be one number"),
    "exponent_varies": ([CONV, node("Pow", ["h", "c"], "y")], {"c": normal(3)}, "Pow 'y': the exponent must be one number, not of shape [3]"),
    "exponent_computed": ([CONV, node("Pow", ["h", "h"], "y")], {}, "Pow 'y': the exponent must be constant, but 'h' is computed at run time"),
    "constant_enlarges": (
        [CONV, node("GlobalAveragePool", ["h"], "g"), node("Add", ["g", "c"], "y")],
        {"c": normal(3, 2, 2)},
        "Add 'y': the constant of shape [3, 2, 2] must broadcast to the operand's ['N', 3, 1, 1] without enlarging it",
    ),
    "constant_over_batch": (
        [CONV, node("Add", ["h", "c"], "y")],
        {"c": normal(2, 1, 1, 1)},
        "Add 'y': the constant of shape [2, 1, 1, 1] must broadcast",
    ),
    "gemm_trans_a": (
        [node("Gemm", ["v", "m"], "y", transA=1)],
        {"m": MATRIX},
        "Gemm 'y', attribute transA: must be 0 where A is computed at run time",
    ),
    "gemm_c_matrix": (
        [node("Gemm", ["v", "m", "c"], "y")],
        {"m": MATRIX, "c": normal(3, 2)},
        "Gemm 'y': C must be one row of 2 numbers, not of shape [3, 2]",
    ),
    "min_per_row": (
        [CONV, node("Min", ["h", "c"], "y")],
        {"c": np.float32([[[1], [2], [3], [4]]])},
        "Min 'y': the constant must be one number per channel, but varies over height or width",
    ),
    "max_that_enlarges": ([CONV, node("Max", ["h", "c"], "y")], {"c": normal(2, 1, 1, 1, 1)}, "Max 'y': the constant of shape [2, 1, 1, 1, 1] must broadcast"),
    "sum_of_constant": ([CONV, node("Sum", ["h", "c"], "y")], {"c": np.float32(1)}, "Sum 'y': must not have constant operands; use Add"),
    "reduce_batch": ([CONV, node("ReduceMean", ["h"], "y", axes=[0])], {}, "ReduceMean 'y', attribute axes: must not reduce the batch"),
    "reduce_all": (
        [CONV, node("ReduceMean", ["h"], "y")],
        {},
        "ReduceMean 'y', attribute axes: must not reduce the batch; give the other axes",
    ),
    "batch_norm_training": (
        [CONV, node("BatchNormalization", ["h", "c", "c", "c", "c"], "y", training_mode=1)],
        {"c": np.ones(3, np.float32)},
        "BatchNormalization 'y', attribute training_mode: must be 0",
    ),
    "dropout_training": (
        [CONV, node("Dropout", ["h", "r", "t"], "y")],
        {"r": np.float32(0.5), "t": np.bool_(True)},
        "Dropout 'y', attribute training_mode: must be false",
    ),
    "cast_to_integer": (
        [CONV, node("Cast", ["h"], "y", to=onnx.TensorProto.INT32)],
        {},
        "Cast 'y', attribute to: must be a floating-point type, not INT32",
    ),
    "softmax_batch": ([CONV, node("Softmax", ["h"], "y", axis=0)], {}, "Softmax 'y', attribute axis: must not run over the batch"),
    "pad_channels": (
        [CONV, node("Pad", ["h", "p"], "y")],
        {"p": shape_of(0, 1, 0, 0, 0, 0, 0, 0)},
        "Pad 'y', attribute pads: must pad height and width only, not channels",
    ),
    "pad_batch": ([CONV, node("Pad", ["h", "p"], "y")], {"p": shape_of(1, 0, 0, 0, 0, 0, 0, 0)}, "Pad 'y', attribute pads: must not pad the batch"),
    "concat_batch": ([CONV, node("Concat", ["h", "h"], "y", axis=0)], {}, "Concat 'y', attribute axis: must not join batches"),
    "concat_flattened": (
        [CONV, node("Flatten", ["h"], "f"), node("Concat", ["f", "f"], "y", axis=1)],
        {},
        "Concat 'y', attribute axis: splits or joins channels with other dimensions",
    ),
    "concat_with_constant": (
        [CONV, node("Concat", ["h", "c"], "y", axis=1)],
        {"c": normal(1, 3, 4, 3)},
        "Concat 'y': input 'c' must be computed from a graph input",
    ),
    "transpose_batch": (
        [CONV, node("Transpose", ["h"], "y", perm=[1, 0, 2, 3])],
        {},
        "Transpose 'y', attribute perm: must keep the batch as the first dimension",
    ),
    "flatten_batch": (
        [CONV, node("Flatten", ["h"], "y", axis=0)],
        {},
        "Flatten 'y', attribute axis: must keep the batch as its first dimension, alone",
    ),
    "squeeze_all": ([CONV, node("Squeeze", ["h"], "y")], {}, "Squeeze 'y', attribute axes: must be given"),
    "squeeze_batch": ([CONV, node("Squeeze", ["h", "a"], "y")], {"a": shape_of(0)}, "Squeeze 'y', attribute axes: must not remove the batch"),
    "unsqueeze_batch": (
        [CONV, node("Unsqueeze", ["h", "a"], "y")],
        {"a": shape_of(0)},
        "Unsqueeze 'y', attribute axes: must keep the batch as the first dimension",
    ),
    "reshape_batch": (
        [CONV, node("Reshape", ["h", "s"], "y")],
        {"s": shape_of(-1)},
        "Reshape 'y': target [-1] must keep the batch as its first dimension",
    ),
    "reshape_computed": ([CONV, node("Reshape", ["h", "h"], "y")], {}, "Reshape 'y': the target shape must be constant but for the batch"),
    "reshape_batch_inside": (
        [CONV, node("Shape", ["h"], "a"), node("Gather", ["a", "i"], "s"), node("Reshape", ["h", "s"], "y")],
        {"i": shape_of(1, 0, 2, 3)},
        "Reshape 'y': the batch must stay the first dimension, alone",
    ),
    "reshape_batch_times_two": (
        [CONV, node("Shape", ["h"], "a"), node("Mul", ["a", "i"], "s"), node("Reshape", ["h", "s"], "y")],
        {"i": shape_of(2, 1, 1, 1)},
        "Reshape 'y': the first dimension must be the batch itself, not a number computed from it",
    ),
    "constant_depends_on_batch": (
        [CONV, node("Shape", ["h"], "a"), node("Cast", ["a"], "b", to=1), node("Gather", ["b", "i"], "c"), node("Add", ["h", "c"], "y")],
        {"i": np.int64(0)},
        "Add 'y': operand must not depend on the batch size",
    ),
    "operator_on_constants": (
        [CONV, node("Resize", ["c", "", "c"], "d"), node("Add", ["h", "d"], "y")],
        {"c": np.ones(4, np.float32)},
        "Resize 'd': is not supported on constants",
    ),
    "second_output": (
        [node("MaxPool", ["x"], ["h", "i"], kernel_shape=[2, 2]), node("Cast", ["i"], "y", to=1)],
        {},
        "MaxPool 'h': only the first output is supported, but 'i' is read",
    ),
    "text_constant": (
        [CONV, node("Constant", [], "c", value_string=b"a"), node("Add", ["h", "c"], "y")],
        {},
        "Constant 'c', attribute value_string: only numbers are supported",
    ),
    "stride_over_joined_space": (
        [CONV, node("Reshape", ["h", "s"], "a"), node("Conv", ["a", "v"], "y", strides=[2])],
        {"s": shape_of(0, 3, -1), "v": normal(2, 3, 1)},
        "Conv 'y': would need its input reshaped at run time: a spatial dimension joins rows and columns",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusal(case: str) -> None:
    nodes, constants, message = REFUSED[case]
    inputs = {"v": ["N", 3]} if any("v" in entry.input and entry.op_type in ("Gemm", "MatMul") for entry in nodes) else X
    assert message in refusal(*nodes, constants=constants, inputs=inputs, opset=15)


MALFORMED = {
    "clip_min_above_max": ([node("Clip", ["x"], "y", min=2.0, max=1.0)], {}, 10, "Clip 'y': min must not exceed max, but min is 2.0 and max 1.0"),
    "clip_vector": ([node("Clip", ["x", "c"], "y")], {"c": np.ones(4, np.float32)}, 13, "Clip 'y': min must be one number, not of shape [4]"),
    "group_0": (
        [node("Conv", ["x", "w"], "y", group=0)],
        {},
        13,
        "Conv 'y': attribute group must be at least 1 and divide the 3 output channels, not 0",
    ),
    "group_indivisible": (
        [node("Conv", ["x", "w"], "y", group=2)],
        {},
        13,
        "Conv 'y': attribute group must be at least 1 and divide the 3 output channels, not 2",
    ),
    "channel_mismatch": (
        [node("Conv", ["x", "v"], "y")],
        {"v": normal(3, 5, 3, 3)},
        13,
        "Conv 'y': input channels must be 5 x group 1 as in the weight, not 4",
    ),
    "bias_shape": ([node("Conv", ["x", "w", "b"], "y")], {"b": normal(4)}, 13, "Conv 'y': the bias must be of shape [3], not [4]"),
    "kernel_shape": (
        [node("Conv", ["x", "w"], "y", kernel_shape=[5, 5])],
        {},
        13,
        "Conv 'y': attribute kernel_shape must be that of the weight, [3, 3], not [5, 5]",
    ),
    "kernel_too_large": (
        [node("Conv", ["x", "v"], "y")],
        {"v": normal(3, 4, 7, 7)},
        13,
        "Conv: kernel (7, 7) with pads (0, 0, 0, 0) is larger than the image 6x5",
    ),
    "stride_0": ([node("Conv", ["x", "w"], "y", strides=[0, 1])], {}, 13, "Conv 'y': attribute strides must be at least 1, not [0, 1]"),
    "pads_count": ([node("Conv", ["x", "w"], "y", pads=[1, 1])], {}, 13, "Conv 'y': attribute pads must hold 4 numbers, not 2"),
    "pads_negative": ([node("Conv", ["x", "w"], "y", pads=[0, 0, -1, 0])], {}, 13, "Conv 'y': attribute pads must be at least 0, not [0, 0, -1, 0]"),
    "pads_enormous": ([node("Conv", ["x", "w"], "y", pads=[1 << 40, 0, 0, 0])], {}, 13, "must hold at most 268435456 elements"),
    "auto_pad": (
        [node("Conv", ["x", "w"], "y", auto_pad="SOME")],
        {},
        13,
        "Conv 'y': attribute auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not 'SOME'",
    ),
    "pool_rank": ([node("MaxPool", ["x"], "y", kernel_shape=[2])], {}, 13, "MaxPool 'y': input must have 3 dimensions, not 4"),
    "pool_only_padding": (
        [node("MaxPool", ["x"], "y", kernel_shape=[2, 2], pads=[3, 0, 0, 0])],
        {},
        13,
        "MaxPool: every window must meet the image 6x5",
    ),
    "batch_norm_shape": (
        [node("BatchNormalization", ["x", *"cccc"], "y")],
        {"c": np.ones(3, np.float32)},
        13,
        "parameters must be of shape [4], not [3]",
    ),
    "variance": (
        [node("BatchNormalization", ["x", *"cccc"], "y")],
        {"c": -np.ones(4, np.float32)},
        13,
        "BatchNormalization 'y': variance + epsilon must be above 0, not -0.99999",
    ),
    "divisor_0": ([CONV, node("Div", ["h", "c"], "y")], {"c": np.float32(0)}, 13, "Div 'y': the divisor must not hold 0"),
    "matmul_rows": (
        [CONV, node("Flatten", ["h"], "f"), node("MatMul", ["f", "m"], "y")],
        {"m": MATRIX},
        13,
        "MatMul 'y': the matrix must have 36 rows as its operand has columns, not 3",
    ),
    "gemm_b_rank": ([node("Gemm", ["x", "w"], "y")], {}, 13, "Gemm 'y': B must have 2 dimensions, not 4"),
    "gemm_a_rank": ([CONV, node("Gemm", ["h", "m"], "y")], {"m": MATRIX}, 13, "Gemm 'y': A must have 2 dimensions, not 4"),
    "softmax_axis": ([CONV, node("Softmax", ["h"], "y", axis=4)], {}, 13, "Softmax 'y': attribute axis must lie within the 4 dimensions, not 4"),
    "reduce_axis": ([CONV, node("ReduceMean", ["h"], "y", axes=[4])], {}, 13, "ReduceMean 'y': axes must lie within the 4 dimensions, not [4]"),
    "flatten_axis": ([CONV, node("Flatten", ["h"], "y", axis=5)], {}, 13, "Flatten 'y': attribute axis must lie within the 4 dimensions, not 5"),
    "transpose_perm": (
        [CONV, node("Transpose", ["h"], "y", perm=[0, 1, 1, 2])],
        {},
        13,
        "Transpose 'y': attribute perm must order the 4 dimensions, not [0, 1, 1, 2]",
    ),
    "squeeze_size": ([CONV, node("Squeeze", ["h", "a"], "y")], {"a": shape_of(1)}, 13, "Squeeze 'y': axes [1] must be of size 1 in ['N', 3, 4, 3]"),
    "unsqueeze_twice": (
        [CONV, node("Unsqueeze", ["h", "a"], "y")],
        {"a": shape_of(1, 1)},
        13,
        "Unsqueeze 'y': axes must be different and lie within the 6 dimensions, not [1, 1]",
    ),
    "reshape_two_unknown": (
        [CONV, node("Reshape", ["h", "s"], "y")],
        {"s": shape_of(0, -1, -1)},
        13,
        "Reshape 'y': target [0, -1, -1] must hold at most one -1",
    ),
    "reshape_divides": (
        [CONV, node("Reshape", ["h", "s"], "y")],
        {"s": shape_of(0, -1, 7)},
        13,
        "Reshape 'y': target [0, -1, 7] does not divide the 36 elements of one input",
    ),
    "reshape_copies": (
        [CONV, node("Reshape", ["h", "s"], "y")],
        {"s": shape_of(1, 36, 1, 1, 0)},
        13,
        "target [1, 36, 1, 1, 0] copies dimension 4, which the input ['N', 3, 4, 3] has not",
    ),
    "pad_count": ([node("Pad", ["x", "p"], "y")], {"p": shape_of(1, 2)}, 13, "Pad 'y': pads must hold 8 numbers, not [1, 2]"),
    "pad_crops_all": (
        [node("Pad", ["x", "p"], "y")],
        {"p": shape_of(0, 0, -3, 0, 0, 0, -3, 0)},
        13,
        "Pad: pads (-3, 0, -3, 0) must leave something of the image 6x5",
    ),
    "concat_axis": (
        [CONV, node("Concat", ["h", "h"], "y", axis=4)],
        {},
        13,
        "Concat 'y': inputs must have one rank and axis lie within it, not 4 and ranks [4, 4]",
    ),
    "concat_sizes": ([CONV, node("Concat", ["h", "x"], "y", axis=1)], {}, 13, "Concat: inputs must agree in all dimensions but 2"),
    "fold_fails": (
        [CONV, node("Reshape", ["c", "s"], "d"), node("Add", ["h", "d"], "y")],
        {"c": normal(3), "s": shape_of(2)},
        13,
        "Reshape 'd': cannot be evaluated on its constants",
    ),
    "fold_broadcast": (
        [CONV, node("Mul", ["c", "s"], "d"), node("Add", ["h", "d"], "y")],
        {"c": normal(3), "s": normal(2)},
        13,
        "Mul 'd': operands of shapes [(3,), (2,)] do not broadcast",
    ),
    "fold_explodes": (
        [CONV, node("ConstantOfShape", ["s"], "d"), node("Add", ["h", "d"], "y")],
        {"s": shape_of(1 << 20, 1 << 20)},
        13,
        "ConstantOfShape 'd': a constant must hold at most 268435456 elements, not 1099511627776",
    ),
    "fold_often": (
        [CONV, *(node("ConstantOfShape", ["s"], f"d{k}") for k in range(3)), node("Sum", ["d0", "d1", "d2"], "d"), node("Add", ["h", "d"], "y")],
        {"s": shape_of(1 << 11, 1 << 11)},
        13,
        "ConstantOfShape 'd2': the constants computed so far are far larger than the model's own; a few bytes must not ask for gigabytes",
    ),
    "sum_name_taken": (
        [CONV, node("Relu", ["h"], "y.part1"), node("Sum", ["h", "h", "y.part1"], "y")],
        {},
        13,
        "Sum 'y': the name 'y.part1' must be free for a partial result; rename the tensor that has it",
    ),
    "constant_output": ([CONV, node("Identity", ["w"], "y")], {}, 13, "output 'y': must be computed by an operator of the accelerator"),
    "weights_overflow": (
        [CONV, node("Mul", ["h", "c"], "g"), node("Mul", ["g", "c"], "y")],
        {"c": np.float32(1e30)},
        13,
        "Conv 'y': weight must be finite, but holds NaN or infinity",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_contradiction(case: str) -> None:
    nodes, constants, opset, message = MALFORMED[case]
    assert message in refusal(*nodes, constants=constants, opset=opset)


def test_contradictions_that_the_checker_finds_first() -> None:
    """Import itself refuses them too: other callers may not have run the checker."""
    missing = onnx.helper.make_node("MaxPool", ["x"], ["y"])
    assert refusal(missing, checked=False) == "MaxPool 'y': needs attribute kernel_shape"
    assert refusal(onnx.helper.make_node("Conv", ["x"], ["y"]), checked=False) == "Conv 'y': needs input 1"
    assert refusal(onnx.helper.make_node("Concat", [], ["y"], axis=1), checked=False) == "Concat 'y': needs an input"
    assert refusal(node("Unsqueeze", ["x"], "y"), checked=False) == "Unsqueeze 'y': needs axes"
    assert refusal(onnx.helper.make_node("Constant", [], ["y"]), checked=False) == "Constant 'y': must hold a value"
    wrong = node("Conv", ["x", "w"], "y", group="many")
    assert refusal(wrong, checked=False) == "Conv 'y': attribute group must be int, not bytes"


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            ["N", 4, "height", 5],
            "input 'x': dimension 2 must have a fixed size, but is 'height'; fix it at export, or with onnxruntime.tools.make_dynamic_shape_fixed",
        ),
        (["N", 4, None, 5], "input 'x': dimension 2 must have a fixed size, but is 'unknown'"),
        ([None, 4, 0, 5], "input 'x': dimension 2 must have a fixed size"),
        (["N", 1 << 20, 1 << 20, 5], "input 'x': must hold at most 268435456 elements, not 5497558138880"),
        ([4], "input 'x': must have a batch dimension and at least one more, not 1 in all"),
        (["N", 4, 1, 6, 5], "Relu 'h': inputs must have 2 to 4 dimensions with the batch, not 5"),
    ],
)
def test_input_shapes(shape: list[int | str | None], message: str) -> None:
    assert message in refusal(node("Relu", ["x"], "h"), node("Relu", ["h"], "y"), inputs={"x": shape})


def test_input_that_is_no_tensor_of_numbers() -> None:
    proto = model([CONV, node("Relu", ["h"], "y")], X, W)
    proto.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.STRING
    with pytest.raises(ModelError, match="input 'x': elements must be numbers, not object"):
        import_model(proto, "test")
    proto.graph.input[0].type.tensor_type.elem_type = 99
    with pytest.raises(ModelError, match="input 'x': element type 99 is not known"):
        import_model(proto, "test")
    proto.graph.input[0].type.sequence_type.elem_type.tensor_type.elem_type = 1
    with pytest.raises(ModelError, match="input 'x': must be a tensor of declared shape; declare it in the model"):
        import_model(proto, "test")


def test_names_are_untrusted_text() -> None:
    name = "*/ \"'\n<script>"
    graph = imported(model([node("Conv", ["x", "w"], "y", name=name)], X, W))
    assert graph.nodes[0].source == (name,)


def test_gather_that_would_explode_is_refused() -> None:
    gather = OnnxNode.read(node("Gather", ["a", "i"], "y"), 13)
    with pytest.raises(ModelError, match=r"Gather 'y': a constant must hold at most 268435456 elements, not 100000000000000"):
        fold(gather, [Constant.of(np.broadcast_to(np.float32(0), (10000000,))), Constant.of(np.broadcast_to(np.int64(0), (10000000,)))])
