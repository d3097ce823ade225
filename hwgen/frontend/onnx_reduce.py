"""Dimensions reduced to one element: means, sums, extremes, and sums of functions of the elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum

import numpy as np

from hwgen.frontend.onnx_arrange import place
from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import C, H, Image, W
from hwgen.ir import host
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import Operator, Window
from hwgen.ops.conv import Conv, scaling
from hwgen.ops.lookup import Function, Lookup, Step
from hwgen.ops.max_pool import MaxPool

Each = Callable[[Image], Operator]


class Reduction(Enum):
    """What becomes of the elements of a dimension."""

    MEAN = "mean"
    SUM = "sum"
    MAX = "max"


def _negative(image: Image) -> Operator:
    return scaling(-np.ones(image.type.channels, np.float32))


def _magnitude(image: Image) -> Operator:
    return Lookup(steps=(Step(function=Function.ABS),))


def _square(image: Image) -> Operator:
    return Lookup(steps=(Step(function=Function.MUL, operands=(0, 0)),))


def _root(image: Image) -> Operator:
    return Lookup(steps=(Step(function=Function.SQRT),))


def reduce_mean(builder: Builder, node: OnnxNode) -> None:
    """ReduceMean over rows, columns or both: a global average pooling; over channels (too): a convolution by equal weights."""
    reduction(builder, node, Reduction.MEAN)


def reduce_sum(builder: Builder, node: OnnxNode) -> None:
    """ReduceSum over rows, columns, channels: a convolution by ones."""
    reduction(builder, node, Reduction.SUM)


def reduce_max(builder: Builder, node: OnnxNode) -> None:
    """ReduceMax over rows, columns or both: a global max pooling; over channels (too) the processor moves them first."""
    reduction(builder, node, Reduction.MAX)


def reduce_min(builder: Builder, node: OnnxNode) -> None:
    """ReduceMin: the negative of ReduceMax of the negative."""
    reduction(builder, node, Reduction.MAX, _negative, _negative)


def reduce_magnitudes(builder: Builder, node: OnnxNode) -> None:
    """ReduceL1: a table, and ReduceSum."""
    reduction(builder, node, Reduction.SUM, _magnitude)


def reduce_squares(builder: Builder, node: OnnxNode) -> None:
    """ReduceSumSquare: a table, and ReduceSum."""
    reduction(builder, node, Reduction.SUM, _square)


def reduce_length(builder: Builder, node: OnnxNode) -> None:
    """ReduceL2: a table, ReduceSum, and a table; what is divided by it is found as one normalization."""
    reduction(builder, node, Reduction.SUM, _square, _root)


def reduction(builder: Builder, node: OnnxNode, kind: Reduction, before: Each | None = None, after: Each | None = None) -> None:
    """Over the dimensions that the node names; the operator `before` on each element, that `after` on each result."""
    axes = builder.numbers(node, 1, "axes")
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    if not axes:
        if node.integer("noop_with_empty_axes", 0):
            builder.env[node.output] = view
            if before is not None:
                _on_each(builder, node, builder.image(node, 0), before, after)
            return
        raise node.refuse("must not reduce the batch; give the other axes", "axes")
    if any(not -rank <= axis < rank for axis in axes):
        raise node.malformed(f"axes must lie within the {rank} dimensions, not {axes}")
    reduced = sorted({axis % rank for axis in axes})
    if reduced[0] == 0:
        raise node.refuse("must not reduce the batch", "axes")
    last = (rank == 4 and reduced == [1, 2]) or (rank == 3 and reduced == [1])
    first = (rank == 4 and reduced == [2, 3]) or (rank == 3 and reduced == [2])
    image = builder.image(node, 0, channels_last=last if last or first else None)
    numbers, keep = [axis - 1 for axis in reduced], bool(node.integer("keepdims", 1))
    if before is not None:
        image = builder.part(node, "each", before(image), image, image.dims)
    if after is None:
        over_dimensions(builder, node, image, numbers, kind, keep)
        return
    name = builder.free_name(node, "all")
    over_dimensions(builder, replace(node, outputs=(name,)), image, numbers, kind, keep)
    _on_each(builder, node, builder.image(replace(node, inputs=(name,)), 0), after)


def _on_each(builder: Builder, node: OnnxNode, image: Image, first: Each, second: Each | None = None) -> None:
    """One operator, or two in turn, as the node's result."""
    if second is not None:
        image, first = builder.part(node, "each", first(image), image, image.dims), second
    builder.emit(node, first(image), [image], image.dims)


def over_dimensions(builder: Builder, node: OnnxNode, image: Image, reduced: Sequence[int], kind: Reduction, keep: bool = True) -> None:
    """Mean, sum or maximum over the ONNX dimensions `reduced` (counted without the batch)."""
    axes = {axis for index in reduced for axis in image.core[index]}
    pools = C not in axes and kind is not Reduction.SUM
    if C in axes and kind is Reduction.MAX and builder.processor:
        greatest(builder, node, image, reduced, keep)
        return
    if not pools and kind is Reduction.MAX:
        raise node.refuse("must run over height and width only, not over channels", "axes")
    kernel = (image.type.height if H in axes else 1, image.type.width if W in axes else 1)
    dims = [() if index in reduced else dim for index, dim in enumerate(image.dims) if keep or index not in reduced]
    window = Window(kernel=kernel)
    if pools:
        pooling = MaxPool if kind is Reduction.MAX else AveragePool
        builder.emit(node, pooling(window=window), [image], tuple(dims))
        return
    channels = image.type.channels
    group = 1 if C in axes else channels
    weight = np.ones((1 if C in axes else channels, *kernel, channels // group), np.float32)
    if kind is Reduction.MEAN:
        weight /= np.float32(weight[0].size)
    builder.emit(node, Conv(weight=weight, bias=np.zeros(len(weight), np.float32), window=window, group=group), [image], tuple(dims))


def greatest(builder: Builder, node: OnnxNode, image: Image, reduced: Sequence[int], keep: bool) -> None:
    """The greatest over dimensions of which one is that of the channels: the processor puts them along the rows."""
    if not builder.processor:
        raise node.refuse("must run over height and width only, not over channels", "axes")
    shape, rest = image.shape, [index for index in range(len(image.shape)) if index not in reduced]
    rows, others = math.prod(shape[index] for index in reduced), math.prod(shape[index] for index in rest)
    turned = host.Transpose(permutation=(0, *(1 + index for index in (*reduced, *rest))))
    name = builder.fresh(f"{image.value}.turned")
    source = place(builder, node, image.value, (*image.to_host(), turned, host.Reshape(shape=(rows, others))), (rows, others), ((H,), (C,)), name)
    partial = builder.free_name(node, "greatest")
    builder.emit(replace(node, outputs=(partial,)), MaxPool(window=Window(kernel=(rows, 1))), [source], ((C,),))
    result = builder.env[partial]
    assert isinstance(result, Image)
    target = [1 if index in reduced else size for index, size in enumerate(shape) if keep or index not in reduced]
    builder.hand_over(node, result, host.Reshape(shape=tuple(target)), "is seen in another shape")


REDUCE_HANDLERS = {
    "ReduceMean": reduce_mean,
    "ReduceMax": reduce_max,
    "ReduceMin": reduce_min,
    "ReduceSum": reduce_sum,
    "ReduceL1": reduce_magnitudes,
    "ReduceL2": reduce_length,
    "ReduceSumSquare": reduce_squares,
}
