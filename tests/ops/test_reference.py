"""Float meaning of every operator's examples against ONNX's reference evaluator, and the errors of `infer`."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx_models import model, node, normal, shape_of

from hwgen.errors import ModelError
from hwgen.ir.host import Reshape, Take, Transpose
from hwgen.ir.types import TensorType
from hwgen.ops import (
    OPERATORS,
    Add,
    ArgExtremum,
    AveragePool,
    Clamp,
    Concat,
    Conv,
    DepthToSpace,
    Div,
    Extremum,
    LocalResponse,
    LogSoftmax,
    Lookup,
    MatMul,
    MaxPool,
    Move,
    Mul,
    Normalize,
    Pad,
    Resize,
    Slice,
    Softmax,
)
from hwgen.ops.base import UNLIMITED, Example, Operator, Window

EXAMPLES = [example for operator in OPERATORS for example in operator.examples()]


def window_attributes(window: Window) -> dict[str, Any]:
    return {"strides": list(window.strides), "dilations": list(window.dilations), "pads": list(window.pads)}


def witness(op: Operator, arrays: list[Any]) -> Any:
    """The operator as ONNX nodes on (N, C, H, W), run by the reference evaluator; the result channels-last again."""
    names = [f"x{i}" for i in range(len(arrays))]
    constants: dict[str, Any] = {}
    before: list[Any] = []
    match op:
        case Conv(is_transposed=True):
            constants = {"w": op.weight[:, ::-1, ::-1].transpose(3, 0, 1, 2), "b": op.bias}
            reach = [extent - 1 for extent in op.window.extent]
            pads = [reach[k % 2] - pad for k, pad in enumerate(op.window.pads)]
            attributes = {"strides": list(op.spread), "dilations": list(op.window.dilations), "pads": [max(pad, 0) for pad in pads]}
            main = node("ConvTranspose", ["x0", "w", "b"], "h", output_padding=[max(-pad, 0) for pad in pads[2:]], **attributes)
        case Conv():
            constants = {"w": op.weight.transpose(0, 3, 1, 2), "b": op.bias}
            main = node("Conv", ["x0", "w", "b"], "h", group=op.group, **window_attributes(op.window))
        case Add():
            main = node("Add", names, "h")
        case MaxPool():
            main = node("MaxPool", names, "h", kernel_shape=list(op.window.kernel), **window_attributes(op.window))
        case AveragePool():
            attributes = window_attributes(op.window)
            if any(op.counted_pads):  # ONNX counts all pads or none: cells beyond the counted ones come from ceil_mode
                attributes["pads"], attributes["ceil_mode"], attributes["count_include_pad"] = list(op.counted_pads), 1, 1
            main = node("AveragePool", names, "h", kernel_shape=list(op.window.kernel), **attributes)
        case Concat():
            main = node("Concat", names, "h", axis=(2, 3, 1)[op.axis])
        case Pad():
            added, removed = [max(pad, 0) for pad in op.pads], [max(-pad, 0) for pad in op.pads]
            ends = shape_of(arrays[0].shape[1] - removed[2], arrays[0].shape[2] - removed[3])
            constants = {"p": shape_of(0, 0, *added[:2], 0, 0, *added[2:]), "v": np.float32(op.value)}
            constants |= {"starts": shape_of(*removed[:2]), "ends": ends, "axes": shape_of(2, 3)}
            before = [node("Slice", ["x0", "starts", "ends", "axes"], "cut")]  # NumPy, and so the evaluator, has no negative pads
            main = node("Pad", ["cut", "p", "v"], "h")
        case Clamp():
            main = node("Identity", names, "h")
        case DepthToSpace():
            main = node("DepthToSpace", names, "h", blocksize=op.block, mode="CRD" if op.together else "DCR")
        case Resize():
            constants["scales"] = np.float32([1, 1, *op.factors])
            attributes = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            main = node("Resize", ["x0", "", "scales"], "h", **attributes)
        case Slice():
            for name, triple in (("starts", op.starts), ("steps", op.steps)):
                constants[name] = shape_of(*triple)
            constants["ends"] = shape_of(*(s + (n - 1) * step + 1 for s, n, step in zip(op.starts, op.counts, op.steps, strict=True)))
            constants["axes"] = shape_of(2, 3, 1)
            main = node("Slice", ["x0", "starts", "ends", "axes", "steps"], "h")
        case Mul() | Div():
            main = node(type(op).__name__, names, "h")
        case Extremum():
            main = node("Max" if op.largest else "Min", names, "h")
        case Softmax() | LogSoftmax():
            main = node(type(op).__name__, names, "h", axis=(2, 3, 1)[op.axis - 1])
        case ArgExtremum():
            operator, axis = "ArgMax" if op.largest else "ArgMin", (2, 3, 1)[op.axis - 1]
            before = [node(operator, names, "i", axis=axis, select_last_index=int(op.last))]
            main = node("Cast", ["i"], "h", to=TensorProto.FLOAT)
        case LocalResponse():
            before, main = responding_nodes(op, arrays[0].shape[3], constants)
        case Normalize():
            before, main = normalizing_nodes(op, constants)
        case MatMul():
            before = [node("Transpose", [name], f"{name}.last", perm=[0, 2, 3, 1]) for name in names]
            before.append(node("MatMul", [f"{name}.last" for name in names], "p"))
            main = node("Transpose", ["p"], "h", perm=[0, 3, 1, 2])
        case Move():
            before, last = moving_nodes(op, constants)
            main = node("Transpose", [last], "h", perm=[0, 3, 1, 2])
        case Lookup():
            *before, main = lookup_nodes(op, constants)
        case _:
            raise AssertionError(f"no witness of {op}")
    low, high = getattr(op, "clamp", UNLIMITED)
    limits = {name: np.float32(end).reshape(-1, 1, 1) for name, end in (("low", low), ("high", high))}  # Clip takes scalars only
    limiting = [node("Max", ["h", "low"], "above"), node("Min", ["above", "high"], "y")]
    shapes = {name: ["N", *array.shape[3:], *array.shape[1:3]] for name, array in zip(names, arrays, strict=True)}
    proto = model([*before, main, *limiting], shapes, {**constants, **limits}, opset=19)
    feeds = {name: np.ascontiguousarray(array.transpose(0, 3, 1, 2)) for name, array in zip(names, arrays, strict=True)}
    (y,) = ReferenceEvaluator(proto).run(None, feeds)
    return y.transpose(0, 2, 3, 1)


def responding_nodes(op: LocalResponse, channels: int, constants: dict[str, Any]) -> tuple[list[Any], Any]:
    """LRN written out: ONNX's own evaluator bounds its windows by the batch, and not by the channels."""
    offsets = np.arange(channels)[None] - np.arange(channels)[:, None]  # of the channel that is read from the one that is computed
    band = (-((op.size - 1) // 2) <= offsets) & (offsets <= op.size // 2)
    constants |= {"band": np.float32(band[..., None, None] * op.alpha / op.size), "bias": np.full(channels, op.bias, np.float32), "beta": np.float32(op.beta)}
    squares = [node("Mul", ["x0", "x0"], "xx"), node("Conv", ["xx", "band", "bias"], "t"), node("Pow", ["t", "beta"], "d")]
    return squares, node("Div", ["x0", "d"], "h")


def normalizing_nodes(op: Normalize, constants: dict[str, Any]) -> tuple[list[Any], Any]:
    """Mean and variance written out."""
    axes = [(2, 3, 1)[axis - 1] for axis in op.axes]
    constants |= {"a": shape_of(*axes), "e": np.float32(op.epsilon), "s": op.scale.transpose(2, 0, 1)[None], "o": op.offset.transpose(2, 0, 1)[None]}
    constants |= {"l": np.float32(op.least)}
    return [
        *([node("ReduceMean", ["x0", "a"], "mean"), node("Sub", ["x0", "mean"], "c")] if op.centered else [node("Identity", ["x0"], "c")]),
        node("Mul", ["c", "c"], "cc"),
        node("ReduceMean", ["cc", "a"], "v"),
        node("Add", ["v", "e"], "ve"),
        node("Sqrt", ["ve"], "r"),
        node("Max", ["r", "l"], "d"),
        node("Div", ["c", "d"], "n"),
        node("Mul", ["n", "s"], "ns"),
    ], node("Add", ["ns", "o"], "h")


def moving_nodes(op: Move, constants: dict[str, Any]) -> tuple[list[Any], str]:
    """One node per step on (N, H, W, C), and the name of the last result."""
    nodes, last = [node("Transpose", ["x0"], "m", perm=[0, 2, 3, 1])], "m"
    for number, step in enumerate(op.steps):
        name, constant = f"m{number}", f"k{number}"
        match step:
            case Transpose():
                nodes.append(node("Transpose", [last], name, perm=list(step.permutation)))
            case Reshape():
                constants[constant] = shape_of(0, *step.shape)
                nodes.append(node("Reshape", [last, constant], name))
            case Take():
                constants[constant] = shape_of(*step.indices)
                nodes.append(node("Gather", [last, constant], name, axis=step.axis))
        last = name
    return nodes, last


ATTRIBUTES = {"Celu": ["alpha"], "Elu": ["alpha"], "HardSigmoid": ["alpha", "beta"], "LeakyRelu": ["alpha"], "Selu": ["alpha", "gamma"]}


def lookup_nodes(op: Lookup, constants: dict[str, Any]) -> list[Any]:
    """One node per step; the result of step k is "s<k>", the last one's "h"."""
    names = ["x0", *(f"s{k}" for k in range(1, len(op.steps))), "h"]
    nodes = []
    for step, output in zip(op.steps, names[1:], strict=True):
        operator = {"scale": "Mul", "offset": "Add"}.get(step.function.value, step.function.value)
        operands = [names[operand] for operand in step.operands]
        if operator in ("Mul", "Add", "Pow") and step.parameters:
            constants[f"c{output}"] = np.float32(step.parameters[0])
            operands.append(f"c{output}")
            nodes.append(node(operator, operands, output))
        else:
            attributes = ATTRIBUTES.get(operator, ["alpha"])
            nodes.append(node(operator, operands, output, **dict(zip(attributes, step.parameters, strict=False))))
    return nodes


def check(example: Example) -> None:
    arrays = [normal(2, *kind.shape, seed=i) for i, kind in enumerate(example.inputs)]
    y = example.op.reference(*arrays)
    assert y.dtype == np.float32
    assert y.shape == (2, *example.op.infer(*example.inputs).shape)
    np.testing.assert_allclose(y, witness(example.op, arrays), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("index", range(len(EXAMPLES)))
def test_example_equals_onnx_reference(index: int) -> None:
    check(EXAMPLES[index])


def test_every_operator_has_examples_with_and_without_its_clamp() -> None:
    for operator in OPERATORS:
        assert len(operator.examples()) >= 2
        clamps = {getattr(example.op, "clamp", None) for example in operator.examples()}
        assert len(clamps) > 1 or clamps == {None}


@st.composite
def windows(draw: Any) -> tuple[Window, TensorType]:
    def pair(low: int, high: int) -> tuple[int, int]:
        return draw(st.integers(low, high)), draw(st.integers(low, high))

    window = Window(kernel=pair(1, 4), strides=pair(1, 3), pads=(*pair(0, 3), *pair(0, 3)), dilations=pair(1, 3))
    return window, TensorType(*pair(1, 8), draw(st.integers(1, 6)))


@given(windows(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_convolution_of_any_window(drawn: tuple[Window, TensorType], outputs: int) -> None:
    window, x = drawn
    for group in {1, x.channels}:
        op = Conv(weight=normal(outputs * group, *window.kernel, x.channels // group), bias=normal(outputs * group), window=window, group=group)
        if min(window.output_size(x.height, x.width)) >= 1:
            check(Example(op=op, inputs=(x,)))
            continue
        with pytest.raises(ModelError, match="is larger than the image"):
            op.infer(x)


@given(windows(), st.data())
@settings(max_examples=80, deadline=None)
def test_pooling_of_any_window_by_counting_cells(drawn: tuple[Window, TensorType], data: Any) -> None:
    window, x = drawn
    counted = tuple(data.draw(st.integers(0, pad)) for pad in window.pads)
    height, width = (max(size, 0) for size in window.output_size(x.height, x.width))
    array = normal(1, *x.shape)
    means, counts, best = np.zeros((height, width, x.channels)), np.zeros((height, width), int), np.full((height, width, x.channels), -np.inf)
    for i, j in np.ndindex(height, width):
        for row, column in np.ndindex(*window.kernel):
            a = i * window.strides[0] - window.pads[0] + row * window.dilations[0]
            b = j * window.strides[1] - window.pads[1] + column * window.dilations[1]
            counts[i, j] += -counted[0] <= a < x.height + counted[2] and -counted[1] <= b < x.width + counted[3]
            if 0 <= a < x.height and 0 <= b < x.width:
                means[i, j] += array[0, a, b]
                best[i, j] = np.maximum(best[i, j], array[0, a, b])
    average, largest = AveragePool(window=window, counted_pads=counted), MaxPool(window=window)
    if min(height, width) < 1 or not np.isfinite(best).all():
        for op in (average, largest):
            with pytest.raises(ModelError, match=r"is larger than the image|every window must meet the image"):
                op.infer(x)
        return
    np.testing.assert_array_equal(average.divisors(x), counts)
    np.testing.assert_allclose(average.reference(array)[0], means / counts[:, :, None], atol=1e-5)
    np.testing.assert_array_equal(largest.reference(array)[0], best)


def test_work_counts_multiply_accumulates() -> None:
    conv = Conv(weight=normal(6, 3, 2, 2), bias=normal(6), window=Window(kernel=(3, 2)), group=2)
    assert conv.work(TensorType(5, 5, 4)) == 3 * 4 * 6 * (3 * 2 * 2)
    for op, inputs in ((MaxPool(window=Window(kernel=(2, 2))), 1), (Add(), 2), (Clamp(clamp=(0, 1)), 1), (Concat(), 2), (Pad(pads=(1, 1, 1, 1)), 1)):
        assert op.work(*[TensorType(5, 5, 4)] * inputs) == 0
    assert AveragePool(window=Window(kernel=(2, 2))).work(TensorType(5, 5, 4)) == 0


X = TensorType(5, 4, 3)
W = normal(4, 1, 1, 3)


@pytest.mark.parametrize(
    ("op", "inputs", "message"),
    [
        (Add(), (X, TensorType(5, 4, 2)), "Add: both inputs must have one shape, not (5, 4, 3) and (5, 4, 2)"),
        (
            Conv(weight=W, bias=W[:, 0, 0, 0], window=Window(kernel=(1, 1))),
            (TensorType(5, 4, 2),),
            "Conv: input channels must be 3 (weights x group), not 2",
        ),
        (
            Conv(weight=W, bias=W[:, 0, 0, 0], window=Window(kernel=(1, 1)), group=0),
            (X,),
            "Conv: group must be at least 1 and divide the 4 output channels, not 0",
        ),
        (
            Conv(weight=W, bias=W[:, 0, 0, 0], window=Window(kernel=(1, 1)), group=3),
            (X,),
            "Conv: group must be at least 1 and divide the 4 output channels, not 3",
        ),
        (MaxPool(window=Window(kernel=(6, 1))), (X,), "MaxPool: kernel (6, 1) with pads (0, 0, 0, 0) is larger than the image 5x4"),
        (
            MaxPool(window=Window(kernel=(1, 1), strides=(0, 1))),
            (X,),
            "MaxPool: kernel, strides and dilations must be at least 1 and pads at least 0, not Window(",
        ),
        (
            MaxPool(window=Window(kernel=(1, 1), pads=(-1, 0, 0, 0))),
            (X,),
            "MaxPool: kernel, strides and dilations must be at least 1 and pads at least 0",
        ),
        (
            MaxPool(window=Window(kernel=(1, 1), pads=(1, 0, 0, 0))),
            (X,),
            "MaxPool: every window must meet the image 5x4; kernel (1, 1) with pads (1, 0, 0, 0) does not",
        ),
        (AveragePool(window=Window(kernel=(2, 1), pads=(0, 0, 3, 0))), (X,), "AveragePool: every window must meet the image 5x4"),
        (
            MaxPool(window=Window(kernel=(1, 1), pads=(1 << 30, 0, 0, 0))),
            (X,),
            "MaxPool: padded image (1073741829, 4, 3) must hold at most 268435456 elements",
        ),
        (
            Conv(weight=normal(1 << 20, 1, 1, 1), bias=normal(1 << 20), window=Window(kernel=(1, 1))),
            (TensorType(64, 64, 1),),
            "Conv: result (64, 64, 1048576) must hold",
        ),
        (Concat(), (X, TensorType(5, 5, 3)), "Concat: inputs must agree in all dimensions but 2, not (5, 4, 3) and (5, 5, 3)"),
        (Concat(axis=0), (X, TensorType(5, 4, 2)), "Concat: inputs must agree in all dimensions but 0, not (5, 4, 3) and (5, 4, 2)"),
        (Pad(pads=(-2, 0, -3, 0)), (X,), "Pad: pads (-2, 0, -3, 0) must leave something of the image 5x4"),
        (Pad(pads=(0, 1 << 40, 0, 0)), (X,), "Pad: result (5, 1099511627780, 3) must hold at most 268435456 elements"),
    ],
)
def test_infer_refuses(op: Operator, inputs: tuple[TensorType, ...], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape(message)):
        op.infer(*inputs)
