"""Resize and Upsample to nearest pixels against ONNX Runtime."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from float_graphs import FloatBuilder, data
from onnx_models import assert_equal_to_onnxruntime, feeds_of, imported, model, node, normal, operators, shape_of
from openset_support import session

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import ModelError
from hwgen.frontend.onnx import import_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.concat import Concat
from hwgen.ops.golden import golden, golden_codes
from hwgen.ops.resize import Resize
from hwgen.quantize import quantize

X = {"x": ["N", 3, 5, 4]}
W = {"w": normal(3, 3, 3, 3)}
CONV = node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1])
F = np.float32
POSITIONS = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_half_pixel_for_nn", "half_pixel_symmetric")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def test_every_mode_equals_onnxruntime() -> None:
    """By factors 2, 3 and 1/2: on the accelerator what replicates, else by copies on the processor."""
    accelerated = copied = 0
    for position, rounding, scales in product(POSITIONS, ROUNDINGS, ((2, 2), (3, 2), (1, 4), (2, 0.5))):
        attributes = {"mode": "nearest", "coordinate_transformation_mode": position, "nearest_mode": rounding}
        opset = 11 if position == "tf_half_pixel_for_nn" else 19
        proto = model([CONV, node("Resize", ["h", "roi", "s"], "y", **attributes)], X, {**W, "roi": F([]), "s": F([1, 1, *scales])}, opset=opset)
        graph = assert_equal_to_onnxruntime(proto)
        accelerated += len(graph.nodes) > 1
        copied += len(graph.nodes) == 1  # at an output the processor's copies are no operator
    assert accelerated > 25 and copied > 25


@pytest.mark.parametrize(
    ("operands", "constants", "attributes", "opset"),
    [
        (["h", "", "", "s"], {"s": shape_of(7, 3, 10, 8)}, {}, 13),
        (["h", "", "", "s"], {"s": shape_of(10, 8)}, {"axes": [2, 3]}, 18),
        (["h", "", "s"], {"s": F([2])}, {"axes": [-1]}, 18),
        (["h", "s"], {"s": F([1, 1, 2, 3])}, {}, 10),
    ],
)
def test_sizes_scales_and_axes(operands: list[str], constants: dict[str, np.ndarray], attributes: dict[str, list[int]], opset: int) -> None:
    proto = model([CONV, node("Resize", operands, "y", mode="nearest", **attributes)], X, {**W, **constants}, opset=opset)
    if opset == 13:  # its sizes hold a batch of 7
        expected = session(proto.SerializeToString()).run(None, feeds_of(proto, 7))[0]
        assert expected.shape == (7, 3, 10, 8)
        assert operators(imported(proto)) == ["Conv", "Resize"]
        return
    assert operators(assert_equal_to_onnxruntime(proto)) == ["Conv", "Resize"]


@pytest.mark.parametrize("opset", [7, 9])
def test_upsample(opset: int) -> None:
    upsample = (
        node("Upsample", ["h"], "y", mode="nearest", scales=[1.0, 1.0, 2.0, 3.0]) if opset == 7 else node("Upsample", ["h", "s"], "y", mode="nearest")
    )
    graph = assert_equal_to_onnxruntime(model([CONV, upsample], X, {**W, "s": F([1, 1, 2, 3])}, opset=opset))
    assert [one.op for one in graph.nodes[1:]] == [Resize(factors=(2, 3))]


def test_smaller_and_larger_at_once() -> None:
    attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    graph = assert_equal_to_onnxruntime(model([CONV, node("Resize", ["h", "", "s"], "y", **attributes)], X, {**W, "s": F([1, 1, 0.5, 2])}))
    assert operators(graph) == ["Conv", "Slice", "Resize"]


REFUSED = {
    "crop": (
        {"coordinate_transformation_mode": "tf_crop_and_resize"},
        [1, 1, 2, 2],
        "Resize 'y', attribute coordinate_transformation_mode: must be one of half_pixel, .*, not tf_crop_and_resize",
    ),
    "rounding": ({"nearest_mode": "up"}, [1, 1, 2, 2], "Resize 'y': attribute nearest_mode must be one of round_prefer_floor, .*, not 'up'"),
    "batch": ({}, [2, 1, 1, 1], "Resize 'y', attribute scales: must not resize the batch"),
    "negative": ({}, [1, 1, -1, 1], r"Resize 'y': needs a positive scale or a size for each of 4 dimensions, not \[1.0, 1.0, -1.0, 1.0\]"),
    "too_few": ({}, [2, 2], r"Resize 'y': needs a positive scale or a size for each of 4 dimensions, not \[2.0, 2.0\]"),
    "to_nothing": ({}, [1, 1, 0.1, 1], "Resize 'y': must leave at least one element in each dimension, not 0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    attributes, scales, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        import_model(model([CONV, node("Resize", ["h", "", "s"], "y", **{"mode": "nearest", **attributes})], X, {**W, "s": F(scales)}), "test")


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
def test_quantized_forms(form) -> None:
    """An enlarged image beside a skip connection, as in U-Nets: one quantization for all three, equal in ONNX Runtime, and read back."""
    b = FloatBuilder(TensorType(6, 8, 3))
    skip = b.conv("x", 4, Window(kernel=(3, 3), pads=(1, 1, 1, 1)))
    deep = b.conv(skip, 5, Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)))
    joined = b.node(Concat(), b.node(Resize(factors=(2, 2)), deep), skip)
    graph = b.graph(joined)
    x = data(graph, 10)
    quantized = quantize(graph, x)
    proto = form(quantized)
    again = import_quantized_model(proto, "net")
    codes = {"x": quantized.values["x"].quantized.quantize(x["image"].transpose(0, 2, 3, 1))}
    first, second = (golden_codes(each, codes, keep=each.values) for each in (quantized, again))
    for name in first:
        np.testing.assert_array_equal(second[name], first[name])
    q = quantized.values[joined].quantized
    found = session(proto.SerializeToString()).run(None, x)[0]
    assert np.abs(found - q.dequantize(golden(quantized, x)[joined]).transpose(0, 3, 1, 2)).max() <= 1.01 * q.scale
