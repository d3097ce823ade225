"""Slice and Split against ONNX Runtime, in float and in quantized models."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from float_graphs import FloatBuilder, data
from onnx_models import assert_equal_to_onnxruntime, imported, model, node, normal, operators, shape_of
from openset_support import session

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.errors import ModelError
from hwgen.frontend.qdq import import_quantized_model
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.golden import golden, golden_codes
from hwgen.ops.lookup import Function, Lookup, Step
from hwgen.ops.slice import Slice
from hwgen.quantize import quantize

X = {"x": ["N", 4, 9, 7]}
W = {"w": normal(6, 4, 3, 3)}
CONV = node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1])
WHOLE = 1 << 62

SLICES = {
    "rows": {"starts": [2], "ends": [8], "axes": [2]},
    "rows_from_the_end": {"starts": [-3], "ends": [WHOLE], "axes": [-2]},
    "columns_in_steps": {"starts": [1], "ends": [WHOLE], "axes": [3], "steps": [3]},
    "channels": {"starts": [1], "ends": [4], "axes": [1]},
    "channels_in_steps": {"starts": [0], "ends": [WHOLE], "axes": [1], "steps": [2]},
    "all_at_once": {"starts": [0, 1, 2, 0], "ends": [WHOLE, 5, 9, -1], "steps": [1, 2, 3, 2], "axes": [0, 1, 2, 3]},
}


@pytest.mark.parametrize("case", SLICES)
def test_slice(case: str) -> None:
    constants = {name: shape_of(*numbers) for name, numbers in SLICES[case].items()}
    operands = [name if name in constants else "" for name in ("starts", "ends", "axes", "steps")]
    graph = assert_equal_to_onnxruntime(model([CONV, node("Slice", ["h", *operands], "y")], X, {**W, **constants}))
    assert operators(graph) == ["Conv", "Slice"]


def test_slice_of_old_opsets_and_without_effect() -> None:
    graph = assert_equal_to_onnxruntime(model([CONV, node("Slice", ["h"], "y", starts=[1], ends=[4], axes=[1])], X, W, opset=9))
    assert operators(graph) == ["Conv", "Slice"]
    nothing = {"starts": shape_of(0), "ends": shape_of(WHOLE), "axes": shape_of(2)}
    graph = assert_equal_to_onnxruntime(model([CONV, node("Slice", ["h", *nothing], "s"), node("Relu", ["s"], "y")], X, {**W, **nothing}))
    assert operators(graph) == ["Conv"]


@pytest.mark.parametrize(
    ("attributes", "given", "opset"),
    [({"axis": 1}, None, 13), ({"axis": 1}, [1, 2, 3], 13), ({"axis": -1}, [4, 2, 1], 13), ({"axis": 1, "num_outputs": 3}, None, 18), ({"axis": 2}, None, 11)],
)
def test_split(attributes: dict[str, Any], given: list[int] | None, opset: int) -> None:
    constants = {**W, **({"split": shape_of(*given)} if given else {})}
    split = node("Split", ["h", *(["split"] if given else [])], ["a", "b", "c"], **attributes)
    readers = [node("Relu", ["a"], "y0"), node("Neg", ["c"], "y1")]
    graph = assert_equal_to_onnxruntime(model([CONV, split, *readers], X, constants, outputs=("y0", "y1"), opset=opset))
    assert operators(graph).count("Slice") == 2


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space(mode: str) -> None:
    """Sub-pixel convolutions (PixelShuffle) end like this."""
    convolution = node("Conv", ["x", "w"], "h", pads=[1, 1, 1, 1])
    graph = assert_equal_to_onnxruntime(
        model([convolution, node("DepthToSpace", ["h"], "y", blocksize=2, mode=mode)], X, {"w": normal(12, 4, 3, 3)})
    )
    assert operators(graph) == ["Conv", "DepthToSpace"]


def test_space_to_depth() -> None:
    convolution = node("Conv", ["x", "w"], "h", pads=[0, 1, 1, 2])
    graph = assert_equal_to_onnxruntime(model([convolution, node("SpaceToDepth", ["h"], "y", blocksize=2)], X, W))
    assert operators(graph) == ["Conv", "Slice", "Slice", "Slice", "Slice", "Concat"]


REFUSED = {
    "depth_of_odd_channels": ([node("DepthToSpace", ["h"], "y", blocksize=4)], {}, r"DepthToSpace: block\*\*2 must divide the 6 channels, not be 4\*\*2"),
    "depth_without_block": ([node("SpaceToDepth", ["h"], "y", blocksize=0)], {}, "SpaceToDepth 'y': attribute blocksize must be at least 1, not 0"),
    "depth_in_another_order": (
        [node("DepthToSpace", ["h"], "y", blocksize=1, mode="RCD")],
        {},
        "DepthToSpace 'y': attribute mode must be DCR or CRD, not 'RCD'",
    ),
    "space_of_odd_size": (
        [node("SpaceToDepth", ["h"], "y", blocksize=2)],
        {},
        "SpaceToDepth 'y': attribute blocksize must divide height and width, 9 x 7, not be 2",
    ),
    "standing": (
        [node("Slice", ["h", "s", "e", "a", "t"], "y")],
        {"s": shape_of(5), "e": shape_of(0), "a": shape_of(2), "t": shape_of(0)},
        r"Slice 'y': steps must not be 0, but are \[0\]",
    ),
    "batch": ([node("Slice", ["h", "s", "e"], "y")], {"s": shape_of(0), "e": shape_of(1)}, "Slice 'y', attribute axes: must not slice the batch"),
    "nothing": (
        [node("Slice", ["h", "s", "e", "a"], "y")],
        {"s": shape_of(5), "e": shape_of(5), "a": shape_of(2)},
        "Slice 'y': must keep something of its 9 elements",
    ),
    "lengths": (
        [node("Slice", ["h", "s", "e", "a"], "y")],
        {"s": shape_of(0), "e": shape_of(1), "a": shape_of(9)},
        r"Slice 'y': starts, ends, axes and steps must be equally many, for axes within the 4 dimensions, not \[9\]",
    ),
    "split_of_the_batch": ([node("Split", ["h"], ["y", "z"], axis=0)], {}, "Split 'y', attribute axis: must not split the batch"),
    "split_into_other_sizes": (
        [node("Split", ["h", "n"], ["y", "z"], axis=1)],
        {"n": shape_of(1, 2)},
        r"Split 'y': the sizes of its 2 parts must be at least 1 and together 6, not \[1, 2\]",
    ),
    "split_along_another_axis": ([node("Split", ["h"], ["y", "z"], axis=4)], {}, "Split 'y': attribute axis must lie within the 4 dimensions, not 4"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str) -> None:
    from hwgen.frontend.onnx import import_model

    nodes, constants, message = REFUSED[case]
    with pytest.raises(ModelError, match=message):
        import_model(model([CONV, *nodes], X, {**W, **constants}), "test")
    assert imported(model([CONV], X, W, outputs=("h",)))


def float_graph() -> Any:
    """A convolution whose channels are split; one half goes through a function, both are rows and columns of the result's image."""
    b = FloatBuilder(TensorType(8, 6, 3))
    trunk = b.conv("x", 10, Window(kernel=(3, 3), pads=(1, 1, 1, 1)))
    first = b.node(Slice(starts=(0, 0, 0), counts=(8, 6, 4)), trunk)
    second = b.node(Slice(starts=(1, 0, 4), counts=(4, 3, 6), steps=(2, 2, 1)), trunk)
    pixels = b.node(DepthToSpace(block=2, together=True), first)
    return b.graph(b.node(Lookup(steps=(Step(function=Function.TANH),)), pixels), second)


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
def test_quantized_forms(form: Any) -> None:
    """Parts keep the codes of the whole: equal in ONNX Runtime, and read back."""
    graph = float_graph()
    x = data(graph, 10)
    quantized = quantize(graph, x)
    copies = [value.quantized for name, value in quantized.values.items() if name.startswith(("conv", "slice", "depth"))]
    assert len(copies) == 4 and len({(q.scale, q.zero_point) for q in copies}) == 1
    proto = form(quantized)
    again = import_quantized_model(proto, "net")
    codes = {"x": quantized.values["x"].quantized.quantize(x["image"].transpose(0, 2, 3, 1))}
    first, second = (golden_codes(each, codes, keep=each.values) for each in (quantized, again))
    for name in first:
        np.testing.assert_array_equal(second[name], first[name])
    value = quantized.outputs[1].value
    expected = quantized.values[value].quantized.dequantize(golden(quantized, x)[value]).transpose(0, 3, 1, 2)
    found = session(proto.SerializeToString()).run([quantized.outputs[1].name], x)[0]
    assert np.abs(found - expected).max() <= 1.01 * quantized.values[value].quantized.scale
