"""Quantized nodes that cannot be taken apart: each reason, by a model that has no other fault."""

import numpy as np
import pytest
from foreign_models import BIAS, WEIGHT, Foreign, conv_model
from onnx import TensorProto

from hwgen.errors import QuantizationError, UnsupportedError
from hwgen.frontend.qdq import import_quantized_model

SHAPE = ["N", 2, 6, 6]


def started():
    """A model whose input is quantized as `q` with the constants a_s, a_z."""
    f = Foreign(SHAPE)
    f.node("QuantizeLinear", ["x", *f.pair("a", 0.1)], "q")
    return f


def codes_quantized_again():
    f = started()
    f.node("QuantizeLinear", ["q", "a_s", "a_z"], "r")
    f.node("DequantizeLinear", ["r", "a_s", "a_z"], "y")
    return f


def real_values_dequantized():
    f = started()
    f.node("DequantizeLinear", ["x", "a_s", "a_z"], "y")
    return f


def sum_of_codes_and_real_values():
    f = started()
    f.node("QLinearAdd", ["q", "a_s", "a_z", "x", "a_s", "a_z", "a_s", "a_z"], "r", domain="com.microsoft")
    f.node("DequantizeLinear", ["r", "a_s", "a_z"], "y")
    return f


def scale_that_is_computed():
    f = Foreign(SHAPE)
    f.node("ReduceMax", ["x"], "s", keepdims=0)
    f.node("QuantizeLinear", ["x", "s"], "q")
    f.node("DequantizeLinear", ["q", "s"], "y")
    return f


def gemm_of_another_domain():
    f = started()
    f.node("QGemm", ["q", "a_s", "a_z", f.const("w", WEIGHT), "a_s", "a_z"], "y")
    return f


def average_over_channels_last():
    f = started()
    f.node("QLinearGlobalAveragePool", ["q", "a_s", "a_z", "a_s", "a_z"], "r", domain="com.microsoft", channels_last=1)
    f.node("DequantizeLinear", ["r", "a_s", "a_z"], "y")
    return f


def weights_that_are_real():
    f = started()
    f.node("QLinearConv", ["q", "a_s", "a_z", f.const("w", WEIGHT.astype(np.float32)), "a_s", "a_z", "a_s", "a_z"], "r")
    f.node("DequantizeLinear", ["r", "a_s", "a_z"], "y")
    return f


def bias_of_another_length():
    f = Foreign(SHAPE)
    x, w = f.qdq("x", 0.05), f.weight("w", WEIGHT, 0.01)
    f.node("Conv", [x, w], "h", kernel_shape=[3, 3])
    f.node("Add", ["h", f.weight("b", BIAS.reshape(4, 1, 1), [1e-3, 2e-3], axis=1)], "c")
    f.node("Identity", [f.qdq("c", 0.1)], "y")
    return f


REASONS = {
    codes_quantized_again: "QuantizeLinear 'QuantizeLinear_r': its input holds codes already",
    real_values_dequantized: "DequantizeLinear 'DequantizeLinear_y': its input 'x' is not quantized",
    sum_of_codes_and_real_values: "QLinearAdd 'QLinearAdd_r': input 3 must be an activation, 'x' is not",
    scale_that_is_computed: "QuantizeLinear 'QuantizeLinear_q': input 1 must be a constant, 's' is not",
    gemm_of_another_domain: "QGemm 'QGemm_y': must be of the domain com.microsoft",
    average_over_channels_last: "QLinearGlobalAveragePool 'QLinearGlobalAveragePool_r': attribute channels_last must be 0",
    weights_that_are_real: "QLinearConv 'QLinearConv_r': constant 'w' must hold integers, not float32",
    bias_of_another_length: "DequantizeLinear 'DequantizeLinear_b_dq': the 2 scales of 'b' must be one for each of its channels, shape [4, 1, 1], axis 1",
}


@pytest.mark.parametrize(("build", "reason"), REASONS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_reason(build, reason):
    with pytest.raises(UnsupportedError) as caught:
        import_quantized_model(build().model(), "m")
    assert str(caught.value) == f"1 node is not supported:\n  {reason}"


def test_a_bias_that_no_integer_holds():
    f = Foreign(SHAPE)
    x, w = f.qdq("x", 0.05), f.weight("w", WEIGHT, 1e-9)
    f.node("Conv", [x, w, f.const("b", np.full(4, 1e12, np.float32))], "c", kernel_shape=[3, 3])
    f.node("Identity", [f.qdq("c", 0.1)], "y")
    with pytest.raises(QuantizationError, match=r"^Conv 'c': the bias must fit int32 at the scale of the products; quantize again$"):
        import_quantized_model(f.model(), "m")


def test_a_bias_beyond_int32():
    f = conv_model()
    f.constants = [entry for entry in f.constants if entry.name != "b"]
    f.const("b", np.full(4, 2**31, np.int64))
    with pytest.raises(QuantizationError, match=r"^Conv 'c': the bias must fit int32 at the scale of the products, reaches 2147483648; quantize again$"):
        import_quantized_model(f.model(kind=TensorProto.FLOAT), "m")
