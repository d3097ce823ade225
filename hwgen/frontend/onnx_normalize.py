"""Normalizations by what the values themselves give: of layers, instances, groups, and by neighbouring channels. On the processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from hwgen.frontend.onnx_arrange import place
from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Array, Image
from hwgen.frontend.onnx_window import channels_first
from hwgen.ir import host
from hwgen.ops.base import UNLIMITED
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.normalize import Normalize

SEEN = "is seen in another shape"


def _factors(builder: Builder, node: OnnxNode, image: Image, array: Array, default: float) -> Array:
    """A constant that broadcasts against (N, *shape) as one that broadcasts to (H, W, C)."""
    if not array.size:
        array = np.full((), default)
    builder.require_broadcast(node, array, image.shape)
    missing = len(image.dims) + 1 - array.ndim
    return reals(image.canonical(array.reshape(((1,) * missing + array.shape)[1:])))


def _normalize(builder: Builder, node: OnnxNode, image: Image, shared: Sequence[int], scale: Array | None, offset: Array | None) -> None:
    """Over the ONNX dimensions `shared` (counted without the batch)."""
    axes = tuple(sorted(1 + axis for index in shared for axis in image.core[index]))
    axes = axes or tuple(axis for axis, size in enumerate(image.type.shape, 1) if size == 1)[:1]  # each element alone
    if not axes:
        raise node.refuse("must take the mean of more than one element")
    factors = [_factors(builder, node, image, np.full((), one) if array is None else array, one) for array, one in ((scale, 1.0), (offset, 0.0))]
    _emit(builder, node, Normalize(axes=axes, epsilon=_single(node, "epsilon", 1e-5), scale=factors[0], offset=factors[1]), image)


def _emit(builder: Builder, node: OnnxNode, op: Normalize, image: Image) -> None:
    builder.emit(node, op, [image], image.dims)
    builder.normalized[node.output] = builder.nodes[-1]


def _single(node: OnnxNode, attribute: str, default: float) -> float:
    """An attribute as a file holds it, the default too: what is written and read again means the same integers."""
    return float(np.float32(node.real(attribute, default)))


def _require_processor(builder: Builder, node: OnnxNode) -> None:
    if not builder.processor:
        raise node.refuse("runs on the processor, between operators of the accelerator")


def layer_normalization(builder: Builder, node: OnnxNode) -> None:
    """With constant scale and bias, on the processor."""
    _require_processor(builder, node)
    rank = len(builder.view(node, 0).shape) + 1
    axis = node.integer("axis", -1)
    if not -rank <= axis < rank:
        raise node.malformed(f"attribute axis must lie within the {rank} dimensions, not {axis}")
    if axis % rank == 0:
        raise node.refuse("must not run over the batch", "axis")
    scale, offset = builder.constant(node, 1, "the scale"), builder.optional(node, 2, "the bias")
    if rank > 4:
        _in_rows(builder, node, axis % rank - 1, scale, offset)
        return
    image = builder.image(node, 0, channels_last=axis % rank == rank - 1)
    _normalize(builder, node, image, range(axis % rank - 1, rank - 1), scale, offset)


def _in_rows(builder: Builder, node: OnnxNode, first: int, scale: Array, offset: Array | None) -> None:
    """Of more dimensions than the accelerator's values have: those from `first` on (the batch not counted) as one row."""
    view = builder.view(node, 0)
    shape, own = view.shape, view.shape[first:]
    rows, partial = builder.free_name(node, "rows"), builder.free_name(node, "normal")
    builder.hand_over(node, view, host.Reshape(shape=(math.prod(shape[:first]), math.prod(own))), SEEN, rows)
    inner = replace(node, inputs=(rows, *node.inputs[1:]), outputs=(partial,))
    image = builder.image(inner, 0, channels_last=True)
    factors = [None if array is None else _as_row(node, array, own) for array in (scale, offset)]
    _normalize(builder, inner, image, (1,), *factors)
    _seen_as(builder, node, partial, shape)


def _as_row(node: OnnxNode, array: Array, shape: Sequence[int]) -> Array:
    try:
        return np.broadcast_to(array, shape).reshape(-1)
    except ValueError as error:
        raise node.refuse(f"scale and bias must broadcast to the normalized dimensions {list(shape)}, not be of shape {list(array.shape)}") from error


def _seen_as(builder: Builder, node: OnnxNode, partial: str, shape: Sequence[int]) -> None:
    result = builder.env[partial]
    assert isinstance(result, Image)
    builder.hand_over(node, result, host.Reshape(shape=tuple(shape)), SEEN)


def instance_normalization(builder: Builder, node: OnnxNode) -> None:
    """With constant scale and bias, on the processor."""
    _require_processor(builder, node)
    image = builder.image(node, 0, channels_last=False)
    if len(image.dims) < 2:
        raise node.malformed(f"its operand must have at least 3 dimensions, not {len(image.dims) + 1}")
    scale, offset = (_of_channels(builder, node, index, image.shape) for index in (1, 2))
    _normalize(builder, node, image, range(1, len(image.dims)), scale, offset)


def _of_channels(builder: Builder, node: OnnxNode, index: int, shape: Sequence[int]) -> Array:
    """(C, 1, ...)"""
    array = builder.constant(node, index, ("the scale", "the bias")[index - 1])
    if array.shape != (shape[0],):
        raise node.malformed(f"scale and bias must be of shape [{shape[0]}], not {list(array.shape)}")
    return array.reshape(-1, *(1 for _ in shape[1:]))


def group_normalization(builder: Builder, node: OnnxNode) -> None:
    """With constant scale and bias, on the processor: each group is seen as one row."""
    _require_processor(builder, node)
    image, groups = builder.image(node, 0, channels_last=False), node.integer("num_groups", 0)
    shape = image.shape
    if groups < 1 or shape[0] % groups:
        raise node.malformed(f"attribute num_groups must be at least 1 and divide the {shape[0]} channels, not {groups}")
    rows = groups, math.prod(shape) // groups
    factors = [np.broadcast_to(_of_channels(builder, node, index, shape), shape).reshape(rows) for index in (1, 2)]
    steps = (*image.to_host(), host.Reshape(shape=rows))
    source = place(builder, node, image.value, steps, rows, None, builder.fresh(f"{image.value}.groups"))
    partial = builder.free_name(node, "rows")
    _normalize(builder, replace(node, outputs=(partial,)), source, (1,), factors[0], factors[1])
    _seen_as(builder, node, partial, shape)


def local_response(builder: Builder, node: OnnxNode) -> None:
    """On the processor; beta at most 1."""
    _require_processor(builder, node)
    image = channels_first(builder, node, len(builder.view(node, 0).shape) - 1)
    alpha, beta, bias = (_single(node, name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    builder.emit(node, LocalResponse(size=node.integer("size", 0), alpha=alpha, beta=beta, bias=bias), [image], image.dims)


def with_factors(builder: Builder, node: OnnxNode, image: Image, scale: Array, offset: Array) -> bool:
    """Takes scale and offset behind a Normalize into it, where nothing is rounded or limited in between. Says whether it is one."""
    before = builder.normalized.get(image.value)
    if before is None or not isinstance(before.op, Normalize) or before.op.clamp != UNLIMITED or image.value in (builder.rounded or {}):
        return False
    factor, addend = (_factors(builder, node, image, array, 0.0).astype(np.float64) for array in (scale, offset))
    op = replace(before.op, scale=reals(before.op.scale * factor), offset=reals(before.op.offset * factor + addend))
    _emit(builder, node, op, replace(image, value=before.inputs[0]))
    last = builder.nodes[-1]
    builder.nodes[-1] = builder.normalized[node.output] = replace(last, source=(*before.source, *last.source))
    return True


NORMALIZE_HANDLERS = {
    "LayerNormalization": layer_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LRN": local_response,
}
