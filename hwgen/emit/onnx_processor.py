"""Operators that the processor computes, as ONNX: on real tensors (N, C, H, W), and where they only move or choose codes, on codes as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from hwgen.emit.onnx_builder import TO_CHANNELS_FIRST, TO_CHANNELS_LAST, OnnxBuilder
from hwgen.ir.graph import Node
from hwgen.ir.host import Transpose, simplified
from hwgen.ir.types import FloatArray
from hwgen.layout import Int64Array
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.matmul import MatMul
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax

ON_CODES = (Move, Extremum)  # the same on codes as on real values
Part = tuple[str, str | FloatArray | Int64Array | None]  # an operator, and its second operand
AXIS = {1: 2, 2: 3, 3: 1}  # of (N, H, W, C) in (N, C, H, W)


def write_processor(builder: OnnxBuilder, node: Node, inputs: list[str], output: str) -> None:
    """The node's operator on the tensors `inputs`."""
    match node.op:
        case Mul() | Div():
            builder.node(type(node.op).__name__, inputs, output)
        case Extremum() as op:
            builder.node("Max" if op.largest else "Min", inputs, output)
        case Softmax() | LogSoftmax() as op:
            builder.node(type(op).__name__, inputs, output, axis=AXIS[op.axis])
        case ArgExtremum() as op:
            builder.host((replace(op.step, axis=AXIS[op.axis]),), inputs[0], output)
        case LocalResponse() as op:
            builder.node("LRN", inputs, output, size=op.size, alpha=op.alpha, beta=op.beta, bias=op.bias)
        case Normalize() as op:
            (_write_normalize if op.centered else _write_mean_square)(builder, node, op, inputs[0], output)
        case Move() as op:
            kind = builder.graph.values[node.inputs[0]].type
            ends = Transpose(permutation=TO_CHANNELS_LAST), Transpose(permutation=TO_CHANNELS_FIRST)
            steps = simplified((ends[0], *op.steps, ends[1]), (kind.channels, kind.height, kind.width))
            builder.host(steps, inputs[0], output)
            if not steps:
                builder.node("Identity", inputs, output)
        case MatMul():
            turned, product = as_matrices(builder, inputs, output)
            builder.note_name(product, node.output)
            builder.node("MatMul", turned, product)
            builder.node("Transpose", [product], output, perm=list(TO_CHANNELS_FIRST))


def _write_normalize(builder: OnnxBuilder, node: Node, op: Normalize, source: str, output: str) -> None:
    """InstanceNormalization where rows and columns of each channel share a mean; else LayerNormalization with the shared dimensions last,
    and factors that are not of these alone behind it."""
    kind = builder.graph.values[node.inputs[0]].type
    factors = [np.asarray(array, np.float32) for array in (op.scale, op.offset)]
    if op.axes == (1, 2) and all(array.shape[:2] == (1, 1) for array in factors):
        operands = [builder.constant(f"{output}.{name}", np.broadcast_to(array[0, 0], (kind.channels,))) for name, array in _named(factors)]
        builder.node("InstanceNormalization", [source, *operands], output, epsilon=op.epsilon)
        return
    kept = tuple(axis for axis in (1, 2, 3) if axis not in op.axes)
    order = (0, *(AXIS[axis] for axis in (*kept, *op.axes)))
    factors = [array.transpose([axis - 1 for axis in (*kept, *op.axes)]) for array in factors]
    own = all(size == 1 for array in factors for size in array.shape[: len(kept)])
    shared = tuple(kind.shape[axis - 1] for axis in op.axes)
    inside = [np.broadcast_to(array[(0,) * len(kept)], shared) for array in factors] if own else [np.ones(shared, np.float32)]
    operands = [builder.constant(f"{output}.{name}", array) for name, array in _named(inside)]
    current = builder.node("Transpose", [source], builder.fresh(f"{output}.last"), perm=list(order))
    current = builder.node("LayerNormalization", [current, *operands], builder.fresh(f"{output}.normal"), axis=1 + len(kept), epsilon=op.epsilon)
    if not own:
        for name, operator, array in zip(("scale", "offset"), ("Mul", "Add"), factors, strict=True):
            current = builder.node(operator, [current, builder.constant(f"{output}.{name}", array)], builder.fresh(f"{output}.with_{name}"))
    builder.note_name(current, node.output)
    builder.node("Transpose", [current], output, perm=[int(axis) for axis in np.argsort(order)])


def _write_mean_square(builder: OnnxBuilder, node: Node, op: Normalize, source: str, output: str) -> None:
    """Written out, as the operator for it is of opset 23, and in sums, as ReduceMean takes its axes in another way from opset 18 on."""
    count = op.count(builder.graph.values[node.inputs[0]].type)
    axes, part = np.array([AXIS[axis] for axis in op.axes], np.int64), np.array(1 / count, np.float32)
    divisor: list[Part] = [("Mul", source), ("ReduceSum", axes), ("Mul", part), *_operand("Add", op.epsilon, 0), ("Sqrt", None), *_operand("Max", op.least, 0)]
    scale, offset = (np.asarray(array, np.float32).transpose(2, 0, 1) for array in (op.scale, op.offset))
    root = _chain(builder, divisor, source, f"{output}.root", builder.fresh(f"{output}.root"))
    _chain(builder, [("Div", root), *_operand("Mul", scale, 1), *_operand("Add", offset, 0)], source, f"{output}.normal", output)


def _operand(operator: str, constant: float | FloatArray, neutral: float) -> list[Part]:
    """The operator with the constant, unless that changes nothing."""
    return [(operator, np.asarray(constant, np.float32))] if (np.asarray(constant) != neutral).any() else []


def _chain(builder: OnnxBuilder, parts: Sequence[Part], current: str, wish: str, final: str) -> str:
    """Operators one after the other, each with a second operand that is a tensor or a constant; the last result is named `final`."""
    for index, (operator, operand) in enumerate(parts):
        name = final if index == len(parts) - 1 else builder.fresh(wish)
        second = [] if operand is None else [operand if isinstance(operand, str) else builder.constant(f"{name}.{operator}", operand)]
        current = builder.node(operator, [current, *second], name)
    return current


def _named(factors: Sequence[FloatArray]) -> Iterator[tuple[str, FloatArray]]:
    yield from zip(("scale", "offset"), factors, strict=False)


def as_matrices(builder: OnnxBuilder, inputs: list[str], output: str) -> tuple[list[str], str]:
    """The operands with rows and columns last, and the name of their product before it is turned back."""
    turned = [builder.node("Transpose", [name], builder.fresh(f"{output}.operand"), perm=list(TO_CHANNELS_LAST)) for name in inputs]
    return turned, builder.fresh(f"{output}.product")
