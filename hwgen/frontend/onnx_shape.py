"""Operators that move or relabel dimensions: no arithmetic, and on the accelerator no time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hwgen.frontend.onnx_arrange import arranged
from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_constants import PROBE_BATCHES
from hwgen.frontend.onnx_moves import PAD_MODES, pad_by_copies
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import C, Constant, H, Image, W
from hwgen.ir import host
from hwgen.ops.concat import Concat
from hwgen.ops.pad import Pad

SPLIT = "splits or joins channels with other dimensions in a way that would move data at run time"


def reshape(builder: Builder, node: OnnxNode) -> None:
    """Reshape by a target that is constant but for the batch."""
    if "shape" in node.attributes:
        target = Constant.of(np.asarray(node.integers("shape"), np.int64))
    else:
        operand = builder.operand(node, 1)
        if not isinstance(operand, Constant):
            raise node.refuse("the target shape must be constant but for the batch")
        target = operand
    view = builder.view(node, 0)
    sizes = _target(node, target, view.shape)
    _reshape(builder, node, sizes)


def _target(node: OnnxNode, target: Constant, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The target without its batch. The first number stands for the batch whenever the others hold one input's elements."""
    low, high = (np.asarray(probe).reshape(-1).astype(object) for probe in target.probes)
    keep_zero = bool(node.integer("allowzero", 0))
    sizes: list[int] = []
    for index, (a, b) in enumerate(zip(low, high, strict=True)):
        if index == 0:
            continue
        if a != b:
            raise node.refuse("the batch must stay the first dimension, alone")
        if a == 0 and not keep_zero:
            if index > len(shape):
                raise node.malformed(f"target {list(low)} copies dimension {index}, which the input {['N', *shape]} has not")
            a = shape[index - 1]
        sizes.append(int(a))
    elements = math.prod(shape)
    if sizes.count(-1) > 1 or any(size < -1 for size in sizes):
        raise node.malformed(f"target {list(low)} must hold at most one -1, and no other negative number")
    if -1 in sizes:
        known = -math.prod(sizes)
        if known < 1 or elements % known:
            raise node.malformed(f"target {list(low)} does not divide the {elements} elements of one input")
        sizes[sizes.index(-1)] = elements // known
    if not len(low) or math.prod(sizes) != elements:
        raise node.refuse(f"target {list(low)} must keep the batch as its first dimension: one input has {['N', *shape]}")
    first = (int(low[0]), int(high[0]))
    if first[0] != first[1] and first != PROBE_BATCHES:
        raise node.refuse("the first dimension must be the batch itself, not a number computed from it")
    return tuple(sizes)


def _reshape(builder: Builder, node: OnnxNode, shape: Sequence[int]) -> None:
    view = builder.view(node, 0)
    if isinstance(view, Image):
        relabelled = view.reshaped(shape)
        if relabelled is not None:
            builder.env[node.output] = relabelled
            return
    builder.hand_over(node, view, host.Reshape(shape=tuple(shape)), SPLIT)


def flatten(builder: Builder, node: OnnxNode) -> None:
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    axis = node.integer("axis", 1)
    if not -rank <= axis <= rank:
        raise node.malformed(f"attribute axis must lie within the {rank} dimensions, not {axis}")
    axis = axis + rank if axis < 0 else axis
    if math.prod(view.shape[: max(axis - 1, 0)]) != 1 or axis == 0:
        raise node.refuse("must keep the batch as its first dimension, alone", "axis")
    _reshape(builder, node, [math.prod(view.shape[axis - 1 :])])


def squeeze(builder: Builder, node: OnnxNode) -> None:
    axes = builder.numbers(node, 1, "axes")
    shape = builder.view(node, 0).shape
    rank = len(shape) + 1
    if axes is None:
        raise node.refuse("must be given: without them the batch could be removed", "axes")
    removed = _normalized(node, axes, rank)
    if 0 in removed:
        raise node.refuse("must not remove the batch", "axes")
    if any(shape[axis - 1] != 1 for axis in removed):
        raise node.malformed(f"axes {axes} must be of size 1 in {['N', *shape]}")
    _relabel(builder, node, [axis - 1 for axis in range(1, rank) if axis not in removed])


def unsqueeze(builder: Builder, node: OnnxNode) -> None:
    axes = builder.numbers(node, 1, "axes")
    if axes is None:
        raise node.malformed("needs axes")
    shape = builder.view(node, 0).shape
    rank = len(shape) + 1 + len(axes)
    added = _normalized(node, axes, rank)
    if 0 in added:
        raise node.refuse("must keep the batch as the first dimension", "axes")
    old = iter(range(len(shape)))
    _relabel(builder, node, [-1 if axis in added else next(old) for axis in range(1, rank)])


def _normalized(node: OnnxNode, axes: Sequence[int], rank: int) -> set[int]:
    if any(not -rank <= axis < rank for axis in axes) or len({axis % rank for axis in axes}) != len(axes):
        raise node.malformed(f"axes must be different and lie within the {rank} dimensions, not {list(axes)}")
    return {axis % rank for axis in axes}


def _relabel(builder: Builder, node: OnnxNode, kept: Sequence[int]) -> None:
    """Dimensions in the order `kept` (-1: a new one of size 1), dropping others of size 1."""
    view = builder.view(node, 0)
    if isinstance(view, Image):
        dims = tuple(() if index < 0 else view.dims[index] for index in kept)
        builder.env[node.output] = Image(value=view.value, type=view.type, dims=dims)
    else:
        shape = tuple(1 if index < 0 else view.shape[index] for index in kept)
        builder.env[node.output] = view.then(host.Reshape(shape=shape), node.output)


def transpose(builder: Builder, node: OnnxNode) -> None:
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    permutation = node.integers("perm", list(range(rank))[::-1]) or []
    if sorted(permutation) != list(range(rank)):
        raise node.malformed(f"attribute perm must order the {rank} dimensions, not {permutation}")
    if permutation[0] != 0:
        raise node.refuse("must keep the batch as the first dimension", "perm")
    if isinstance(view, Image):
        _relabel(builder, node, [axis - 1 for axis in permutation[1:]])
    else:
        builder.env[node.output] = view.then(host.Transpose(permutation=tuple(permutation)), node.output)


def shape(builder: Builder, node: OnnxNode) -> None:
    """The batch is known only as itself; every other dimension is a number."""
    start, end = node.integer("start", 0), node.attributes.get("end")
    sizes = builder.view(node, 0).shape
    probes = [np.asarray([batch, *sizes][start:end], np.int64) for batch in PROBE_BATCHES]
    same = bool((probes[0] == probes[1]).all())
    builder.env[node.output] = Constant.of(probes[0]) if same else Constant(probes=(probes[0], probes[1]))


def concat(builder: Builder, node: OnnxNode) -> None:
    """Concatenation of activations along height, width or channels."""
    indices = [index for index in range(len(node.inputs)) if node.has_input(index)]
    if not indices:
        raise node.malformed("needs an input")
    views = [builder.view(node, index) for index in indices]
    anchor = next((i for i, view in zip(indices, views, strict=True) if isinstance(view, Image)), indices[0])
    like = builder.image(node, anchor)
    images = [builder.image(node, index, roles=like.labels) for index in indices]
    if builder.processor and all(len(image.dims) == len(like.dims) for image in images):
        images = [arranged(builder, node, image, like.labels) for image in images]
    rank = len(like.dims) + 1
    axis = node.integer("axis", 1)
    if any(len(image.dims) + 1 != rank for image in images) or not -rank <= axis < rank:
        raise node.malformed(f"inputs must have one rank and axis lie within it, not {axis} and ranks {[len(image.dims) + 1 for image in images]}")
    if axis % rank == 0:
        raise node.refuse("must not join batches", "axis")
    label = _joined_axis(node, images, axis % rank - 1)
    dims = tuple((label,) if i == axis % rank - 1 else dim for i, dim in enumerate(like.labels))
    builder.emit(node, Concat(axis=label), images, dims)


def _joined_axis(node: OnnxNode, images: Sequence[Image], dimension: int) -> int:
    """The one axis that `dimension` runs over in every image, whose other dimensions must agree."""
    wide = next((image for image in images if image.core[dimension]), images[0])
    labels = wide.labels
    if len(labels[dimension]) != 1:
        raise node.refuse(SPLIT, "axis")
    for image in images:
        for i, core in enumerate(image.core):
            if any(axis not in labels[i] for axis in core):
                raise node.refuse("would need an input transposed at run time: the inputs' channels lie in different dimensions")
    return labels[dimension][0]


def pad(builder: Builder, node: OnnxNode) -> None:
    """Constant padding of height and width."""
    mode = node.text("mode", "constant")
    if mode != "constant" and mode not in PAD_MODES:
        raise node.malformed(f"attribute mode must be constant, {', '.join(PAD_MODES)}, not {mode!r}")
    pads = builder.numbers(node, 1, "pads")
    value = builder.optional(node, 2, "the fill value")
    axes = [int(axis) for axis in a.reshape(-1)] if (a := builder.optional(node, 3, "axes")) is not None else None
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    axes = list(range(rank)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes):
        raise node.malformed(f"pads must hold {2 * len(axes)} numbers, not {pads}")
    order = _normalized(node, axes, rank)
    by_axis = {axis % rank: (pads[i], pads[len(axes) + i]) for i, axis in enumerate(axes)}
    padded = [axis for axis in sorted(order) if any(by_axis[axis])]
    if 0 in padded:
        raise node.refuse("must not pad the batch", "pads")
    if not padded:
        builder.env[node.output] = view
        return
    if mode != "constant":
        pad_by_copies(builder, node, {axis - 1: by_axis[axis] for axis in padded}, mode)
        return
    fill = node.real("value", 0.0) if value is None or not value.size else float(value.reshape(-1)[0])
    _pad(builder, node, {axis - 1: by_axis[axis] for axis in padded}, fill)


def _pad(builder: Builder, node: OnnxNode, amounts: dict[int, tuple[int, int]], value: float) -> None:
    image = builder.image(node, 0)
    labels = image.labels
    space = {H: (0, 0), W: (0, 0)}
    for dimension, amount in amounts.items():
        label = labels[dimension]
        if len(label) != 1 or label[0] == C:
            raise node.refuse("must pad height and width only, not channels", "pads")
        space[label[0]] = amount
    op = Pad(pads=(space[H][0], space[W][0], space[H][1], space[W][1]), value=value)
    builder.emit(node, op, [image], labels)


SHAPE_HANDLERS = {
    "Reshape": reshape,
    "Flatten": flatten,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Shape": shape,
    "Concat": concat,
    "Pad": pad,
}
