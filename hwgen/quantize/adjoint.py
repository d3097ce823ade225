"""What flows back through an operator: from the gradient of its result to those of its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Operator, Pads, Window, clamp_of, limiting, padded
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad

Operands = tuple[FloatArray, ...]


def operand_gradients(node: Node, graph: Graph, values: Mapping[str, FloatArray], gradient: FloatArray) -> Operands | None:
    """Gradients of a node's operands, in their order, from that of its result; all arrays (N, H, W, C). None where the operator is none of
    those that are known here. `values`: what the float graph gives."""
    function = ADJOINTS.get(type(node.op))
    if function is None:
        return None
    operands, result = tuple(values[name] for name in node.inputs), values[node.output]
    return function(node.op, operands, result, inside(node.op, result, gradient))


def inside(op: Operator, result: FloatArray, gradient: FloatArray) -> FloatArray:
    """The gradient before the operator's clamp: zero where the result lies on a limit."""
    low, high = limiting(clamp_of(op))
    free = True if low is None else result > low
    free = free if high is None else free & (result < high)
    return gradient if free is True else np.where(free, gradient, np.float32(0))


def transposed(op: Conv, x: TensorType) -> Conv:
    """The convolution that takes the gradient of a convolution's result to that of its input, of type `x`: the kernel is turned by 180
    degrees, inputs and outputs change places, and so do strides and spread."""
    inputs, window = int(op.weight.shape[3]), op.window
    grouped = op.weight.reshape(op.group, -1, *window.kernel, inputs).transpose(0, 4, 2, 3, 1)[:, :, ::-1, ::-1]
    weight = np.ascontiguousarray(grouped.reshape(op.group * inputs, *window.kernel, -1), np.float32)
    results = op.infer(x)
    sizes = zip((x.height, x.width), (results.height, results.width), op.spread, window.strides, window.extent, window.pads, strict=False)
    ends = []
    for length, outputs, spread, stride, extent, pad in sizes:
        head = extent - 1 - pad
        ends.append((head, (length - 1) * spread + extent - ((outputs - 1) * stride + 1) - head))
    pads = (ends[0][0], ends[1][0], ends[0][1], ends[1][1])
    turned = Window(kernel=window.kernel, strides=op.spread, pads=pads, dilations=window.dilations)
    return Conv(weight=weight, bias=np.zeros(len(weight), np.float32), window=turned, group=op.group, spread=window.strides)


def _conv(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    assert isinstance(op, Conv)
    return (transposed(op, TensorType(*operands[0].shape[1:])).reference(gradient),)


def _add(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    return gradient, gradient


def _clamp(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    return (gradient,)


def _average(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    assert isinstance(op, AveragePool)
    kind = TensorType(*operands[0].shape[1:])
    shares = gradient / op.divisors(kind).astype(np.float32)[:, :, None]
    if op.window.kernel == (kind.height, kind.width) and not any(op.window.pads):
        return (np.broadcast_to(shares, operands[0].shape),)
    ones = np.ones((kind.channels, *op.window.kernel, 1), np.float32)
    sums = Conv(weight=ones, bias=np.zeros(kind.channels, np.float32), window=op.window, group=kind.channels)
    return (transposed(sums, kind).reference(shares),)


def _maximum(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    """To the first of the greatest cells of each window."""
    assert isinstance(op, MaxPool)
    (x,), window = operands, op.window
    greatest, left = window.maximum(x, -np.inf), gradient.copy()
    total = padded(np.zeros_like(x), window.pads, 0.0)
    inner = Window(kernel=window.kernel, strides=window.strides, dilations=window.dilations)
    cells = zip(window.taps(x, -np.inf), inner.taps(total, 0.0), strict=True)  # views of `total`, which has no pads
    for (_, _, tap), (_, _, place) in cells:
        wins = tap == greatest
        place += np.where(wins, left, np.float32(0))
        left[wins] = 0
    return (padded(total, _opposite(window.pads), 0.0),)


def _pad(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    assert isinstance(op, Pad)
    return (padded(gradient, _opposite(op.pads), 0.0),)


def _concat(op: Operator, operands: Operands, result: FloatArray, gradient: FloatArray) -> Operands:
    assert isinstance(op, Concat)
    ends = np.cumsum([operand.shape[op.axis + 1] for operand in operands])[:-1]
    return tuple(np.split(gradient, ends, axis=op.axis + 1))


def _opposite(pads: Pads) -> Pads:
    return -pads[0], -pads[1], -pads[2], -pads[3]


ADJOINTS: dict[type, Callable[[Operator, Operands, FloatArray, FloatArray], Operands]] = {
    Add: _add,
    AveragePool: _average,
    Clamp: _clamp,
    Concat: _concat,
    Conv: _conv,
    MaxPool: _maximum,
    Pad: _pad,
}
