"""ConvTranspose against ONNX Runtime, in float and in quantized models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder, data
from onnx_models import assert_equal_to_onnxruntime, model, node, normal, operators
from openset_support import session

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import ModelError
from hwgen.frontend.onnx import import_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.ops.golden import golden, golden_codes
from hwgen.quantize import certificates, quantize

X = {"x": ["N", 4, 5, 6]}

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "plain": (normal(4, 3, 3, 3), {}),
    "stride_2": (normal(4, 3, 2, 2), {"strides": [2, 2]}),
    "stride_2_kernel_4": (normal(4, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "output_padding": (normal(4, 3, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
    "kernel_below_stride": (normal(4, 3, 1, 2), {"strides": [3, 3]}),
    "pads_differ": (normal(4, 3, 4, 3), {"strides": [2, 3], "pads": [0, 1, 2, 0]}),
    "dilation": (normal(4, 3, 3, 2), {"strides": [2, 2], "dilations": [2, 3]}),
    "dilation_and_stride_3": (normal(4, 3, 3, 3), {"strides": [3, 2], "dilations": [2, 2], "pads": [1, 0, 2, 1]}),
    "group_2": (normal(4, 3, 3, 3), {"strides": [2, 2], "group": 2}),
    "depthwise": (normal(4, 1, 4, 4), {"strides": [2, 2], "group": 4, "pads": [1, 1, 1, 1]}),
    "same_upper": (normal(4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "same_lower": (normal(4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    "valid": (normal(4, 3, 3, 3), {"strides": [2, 2], "auto_pad": "VALID"}),
    "output_shape": (normal(4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
    "output_shape_upper": (normal(4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12], "auto_pad": "SAME_UPPER"}),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_conv_transpose(case: str, bias: bool) -> None:
    weight, attributes = CASES[case]
    channels = weight.shape[1] * attributes.get("group", 1)
    constants = {"w": weight, **({"b": normal(channels)} if bias else {})}
    graph = assert_equal_to_onnxruntime(model([node("ConvTranspose", ["x", *constants], "y", **attributes)], X, constants))
    assert operators(graph) == ["Conv"]


def test_one_dimension() -> None:
    constants = {"w": normal(4, 3, 5), "b": normal(3)}
    assert_equal_to_onnxruntime(model([node("ConvTranspose", ["x", "w", "b"], "y", strides=[2], pads=[1, 2])], {"x": ["N", 4, 9]}, constants))


def test_normalization_and_activation_are_fused_behind_it() -> None:
    nodes = [
        node("ConvTranspose", ["x", "w"], "h", strides=[2, 2]),
        node("BatchNormalization", ["h", "s", "o", "m", "v"], "n"),
        node("Relu", ["n"], "y"),
    ]
    constants = {"w": normal(4, 3, 2, 2), "s": normal(3), "o": normal(3, seed=1), "m": normal(3, seed=2), "v": np.abs(normal(3, seed=3))}
    assert operators(assert_equal_to_onnxruntime(model(nodes, X, constants))) == ["Conv"]


def test_an_offset_before_it_stays_outside() -> None:
    """Between the pixels there is nothing that it could be added to."""
    nodes = [node("MaxPool", ["x"], "p", kernel_shape=[1, 2]), node("Add", ["p", "c"], "h"), node("ConvTranspose", ["h", "w"], "y", strides=[2, 2])]
    graph = assert_equal_to_onnxruntime(model(nodes, X, {"w": normal(4, 3, 1, 1), "c": normal(4, 1, 1)}))
    assert operators(graph) == ["MaxPool", "Conv", "Conv"]


REFUSED = {
    "3d": (normal(4, 3, 1, 1, 1), {}, "ConvTranspose 'y': must be 1-D or 2-D, not 3-D"),
    "group": (normal(4, 3, 2, 2), {"group": 3}, "ConvTranspose 'y': attribute group must be at least 1 and divide the 4 input channels, not 3"),
    "channels": (normal(5, 3, 2, 2), {}, "ConvTranspose 'y': input channels must be 5 as in the weight, not 4"),
    "kernel": (normal(4, 3, 2, 2), {"kernel_shape": [3, 3]}, r"ConvTranspose 'y': attribute kernel_shape must be that of the weight, \[2, 2\]"),
    "stride": (normal(4, 3, 2, 2), {"strides": [0, 1]}, r"ConvTranspose 'y': attribute strides must be at least 1, not \[0, 1\]"),
    "mode": (normal(4, 3, 2, 2), {"auto_pad": "SAME"}, "ConvTranspose 'y': attribute auto_pad must be NOTSET, VALID, .* not 'SAME'"),
    "pads": (normal(4, 3, 2, 2), {"pads": [2, 0, 0, 0]}, "ConvTranspose 'y', attribute pads: must be 0 to 1, what the kernel reaches .* not 2 and 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    weight, attributes, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        import_model(model([node("ConvTranspose", ["x", "w"], "y", **attributes)], X, {"w": weight}), "test")
    with pytest.raises(ModelError, match=r"ConvTranspose 'y': the bias must be of shape \[3\], not \[2\]"):
        import_model(model([node("ConvTranspose", ["x", "w", "b"], "y")], X, {"w": normal(4, 3, 2, 2), "b": normal(2)}), "test")


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
def test_quantized_forms(form: Any) -> None:
    b = FloatBuilder(TensorType(6, 8, 3))
    trunk = b.conv("x", 5, Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), clamp=RELU)
    weight, bias = normal(4, 4, 4, 5) * np.float32(0.2), normal(4)
    grown = b.node(Conv(weight=weight, bias=bias, window=Window(kernel=(4, 4), pads=(2, 2, 2, 3)), spread=(2, 2), clamp=RELU), trunk)
    graph = b.graph(b.conv(grown, 2, Window(kernel=(1, 1))))
    x = data(graph, 10)
    quantized = quantize(graph, x)
    assert not any(record.certified for record in certificates(quantized) if record.layer == quantized.nodes[1].name)
    proto = form(quantized)
    again = import_quantized_model(proto, "net")
    codes = {"x": quantized.values["x"].quantized.quantize(x["image"].transpose(0, 2, 3, 1))}
    first, second = (golden_codes(each, codes, keep=each.values) for each in (quantized, again))
    assert set(first) == set(second)
    for name in first:
        np.testing.assert_array_equal(second[name], first[name])
    value = quantized.outputs[0].value
    q = quantized.values[value].quantized
    found = session(proto.SerializeToString()).run(None, x)[0]
    assert np.abs(found - q.dequantize(golden(quantized, x)[value]).transpose(0, 3, 1, 2)).max() <= 1.01 * q.scale
