"""Normalizations by what the values themselves give: of layers, instances, groups, by the mean square, and by neighbouring channels. On the
processor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwgen.frontend.onnx_arrange import place
from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_pairs import pair
from hwgen.frontend.onnx_reduce import reduce_magnitudes
from hwgen.frontend.onnx_view import Array, Image
from hwgen.frontend.onnx_window import channels_first
from hwgen.frontend.onnx_written_out import Normalization
from hwgen.ir import host
from hwgen.ops.base import UNLIMITED
from hwgen.ops.clamp import Clamp
from hwgen.ops.elementwise import Div
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.normalize import Normalize

SEEN = "is seen in another shape"
TINY = float(np.finfo(np.float32).tiny)  # a least divisor that only 0 is below: 0 / 0 is 0


def _factors(builder: Builder, node: OnnxNode, image: Image, array: Array, default: float) -> Array:
    """A constant that broadcasts against (N, *shape) as one that broadcasts to (H, W, C)."""
    if not array.size:
        array = np.full((), default)
    builder.require_broadcast(node, array, image.shape)
    missing = len(image.dims) + 1 - array.ndim
    return reals(image.canonical(array.reshape(((1,) * missing + array.shape)[1:])))


@dataclass(frozen=True, kw_only=True)
class Root:
    """The divisor `gain` * max(sqrt(mean square + epsilon), least), of values less their mean if `centered`; numbers as a float32 holds them."""

    epsilon: float
    least: float = 0.0
    gain: float = 1.0
    centered: bool = True


def _normalize(builder: Builder, node: OnnxNode, image: Image, shared: Sequence[int], root: Root, scale: Array | None, offset: Array | None) -> None:
    """Over the ONNX dimensions `shared` (counted without the batch)."""
    axes = tuple(sorted(1 + axis for index in shared for axis in image.core[index]))
    axes = axes or tuple(axis for axis, size in enumerate(image.type.shape, 1) if size == 1)[:1]  # each element alone
    if not axes:
        raise node.refuse("must take the mean of more than one element")
    factors = [_factors(builder, node, image, np.full((), one) if array is None else array, one) for array, one in ((scale, 1.0), (offset, 0.0))]
    with np.errstate(over="ignore"):
        scaled = reals(factors[0] / root.gain)
    op = Normalize(axes=axes, epsilon=root.epsilon, scale=scaled, offset=factors[1], centered=root.centered, least=root.least)
    _emit(builder, node, op, image)


def _emit(builder: Builder, node: OnnxNode, op: Normalize, image: Image) -> None:
    builder.emit(node, op, [image], image.dims)
    builder.normalized[node.output] = builder.nodes[-1]


def _single(node: OnnxNode, attribute: str, default: float) -> float:
    """An attribute as a file holds it, the default too: what is written and read again means the same integers."""
    return _as_single(node.real(attribute, default))


def _as_single(number: float) -> float:
    with np.errstate(over="ignore"):
        return float(np.float32(number))


def _root(node: OnnxNode) -> Root:
    return Root(epsilon=_single(node, "epsilon", 1e-5))


def _require_processor(builder: Builder, node: OnnxNode) -> None:
    if not builder.processor:
        raise node.refuse("runs on the processor, between operators of the accelerator")


def layer_normalization(builder: Builder, node: OnnxNode) -> None:
    """With constant scale and bias, on the processor; also written out in operators of one step."""
    _over_last(builder, node, _root(node), builder.optional(node, 2, "the bias"))


def mean_square_normalization(builder: Builder, node: OnnxNode) -> None:
    """With constant scale, on the processor; also written out in operators of one step."""
    _over_last(builder, node, replace(_root(node), centered=False), None)


def _over_last(builder: Builder, node: OnnxNode, root: Root, offset: Array | None) -> None:
    """Over the dimensions from the attribute `axis` on."""
    _require_processor(builder, node)
    axis = _axis(builder, node)
    _normalize_dims(builder, node, range(axis - 1, len(builder.view(node, 0).shape)), root, builder.constant(node, 1, "the scale"), offset)


def _axis(builder: Builder, node: OnnxNode) -> int:
    """The attribute, counted from the first dimension, which it must not be."""
    return _dimension(builder, node, node.integer("axis", -1), "axis")


def _dimension(builder: Builder, node: OnnxNode, axis: int, attribute: str) -> int:
    rank = len(builder.view(node, 0).shape) + 1
    if not -rank <= axis < rank:
        raise node.malformed(f"attribute {attribute} must lie within the {rank} dimensions, not {axis}")
    if axis % rank == 0:
        raise node.refuse("must not run over the batch", attribute)
    return axis % rank


def _normalize_dims(builder: Builder, node: OnnxNode, shared: Sequence[int], root: Root, scale: Array | None, offset: Array | None) -> None:
    rank = len(builder.view(node, 0).shape) + 1
    if rank > 4 and list(shared) == list(range(shared[0], rank - 1)):
        _in_rows(builder, node, shared[0], root, scale, offset)
        return
    image = builder.image(node, 0, channels_last=list(shared) == [rank - 2])
    _normalize(builder, node, image, shared, root, scale, offset)


def lp_normalization(builder: Builder, node: OnnxNode) -> None:
    """By the root of the sum of squares (p = 2; also written out by ReduceL2), or by the sum of magnitudes (p = 1), on the processor."""
    p = node.integer("p", 2)
    if p not in (1, 2):
        raise node.refuse(f"must be 1 or 2, not {p}", "p")
    _require_processor(builder, node)
    axis = _axis(builder, node)
    if p == 1:
        _by_magnitudes(builder, node, axis)
        return
    gain = math.sqrt(builder.view(node, 0).shape[axis - 1])
    _normalize_dims(builder, node, [axis - 1], Root(epsilon=0.0, least=TINY, gain=gain, centered=False), None, None)


def _by_magnitudes(builder: Builder, node: OnnxNode, axis: int) -> None:
    """A ReduceL1, limited from below so that 0 / 0 is 0, and a division."""
    total = builder.free_name(node, "total")
    reduce_magnitudes(builder, replace(node, outputs=(total,), attributes={"axes": [axis]}))
    image = builder.image(replace(node, inputs=(total,)), 0)
    limited = builder.part(node, "divisor", Clamp(clamp=(TINY, np.inf)), image, image.dims)
    pair(builder, replace(node, inputs=(node.inputs[0], limited.value)), Div())


def written_out(builder: Builder, node: Normalization) -> None:
    """A normalization that the file writes out, on the processor."""
    _require_processor(builder, node)
    found, shape = node.divisor, builder.view(node, 0).shape
    shared = sorted({_dimension(builder, node, axis, "axes") - 1 for axis in found.axes})
    if found.shape is not None and not _fits(found.shape, (1, *shape)):
        raise node.refuse(f"the divisor is expanded to {list(found.shape)}, which must fit the operand's {['N', *shape]}")
    count = math.prod(shape[index] for index in shared)
    terms = found.factor * (1 if found.averaged else count)  # the divisor is the root of so many times the mean square
    if not found.averaged and _as_single(found.factor) == _as_single(1 / count):
        terms = 1.0
    gain = math.sqrt(terms)
    root = Root(epsilon=_as_single(found.epsilon / terms), least=_as_single(found.least / gain), gain=gain, centered=node.centered)
    scale, offset = (builder.optional(node, index, what) for index, what in ((1, "the scale"), (2, "the bias")))
    _normalize_dims(builder, node, shared, root, scale, offset)


def _fits(shape: tuple[int, ...], operand: tuple[int, ...]) -> bool:
    return len(shape) == len(operand) and all(own in (1, size) for own, size in zip(shape, operand, strict=True))


def _in_rows(builder: Builder, node: OnnxNode, first: int, root: Root, scale: Array | None, offset: Array | None) -> None:
    """Of more dimensions than the accelerator's values have: those from `first` on (the batch not counted) as one row."""
    view = builder.view(node, 0)
    shape, own = view.shape, view.shape[first:]
    rows, partial = builder.free_name(node, "rows"), builder.free_name(node, "normal")
    builder.hand_over(node, view, host.Reshape(shape=(math.prod(shape[:first]), math.prod(own))), SEEN, rows)
    inner = replace(node, inputs=(rows, *node.inputs[1:]), outputs=(partial,))
    image = builder.image(inner, 0, channels_last=True)
    factors = [None if array is None else _as_row(node, array, own) for array in (scale, offset)]
    _normalize(builder, inner, image, (1,), root, *factors)
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
    _normalize(builder, node, image, range(1, len(image.dims)), _root(node), scale, offset)


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
    _normalize(builder, replace(node, outputs=(partial,)), source, (1,), _root(node), factors[0], factors[1])
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
    "RMSNormalization": mean_square_normalization,
    "LpNormalization": lp_normalization,
    "InstanceNormalization": instance_normalization,
    "GroupNormalization": group_normalization,
    "LRN": local_response,
}
