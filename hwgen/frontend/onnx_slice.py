"""Slice and Split: parts of an activation along height, width or channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_moves import take_ranges
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import C, H, Image, Result, W
from hwgen.frontend.onnx_window import channels_first
from hwgen.ops.concat import Concat
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.slice import Slice

MOVES = "splits or joins channels with other dimensions in a way that would move data at run time"


def slice_operator(builder: Builder, node: OnnxNode) -> None:
    """Of height, width and channels, with positive steps; with negative ones on the processor."""
    starts, ends = builder.numbers(node, 1, "starts"), builder.numbers(node, 2, "ends")
    if starts is None or ends is None:
        raise node.malformed("needs starts and ends")
    axes, steps = builder.numbers(node, 3, "axes"), builder.numbers(node, 4, "steps")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    rank = len(builder.view(node, 0).shape) + 1
    if not len(starts) == len(ends) == len(axes) == len(steps) or any(not -rank <= axis < rank for axis in axes):
        raise node.malformed(f"starts, ends, axes and steps must be equally many, for axes within the {rank} dimensions, not {axes}")
    if 0 in steps:
        raise node.malformed(f"steps must not be 0, but are {steps}")
    by_copies = builder.processor and (min(steps) < 0 or isinstance(builder.view(node, 0), Result))
    if min(steps) < 0 and not by_copies:
        raise node.refuse(f"must be positive, not {steps}", "steps")
    shape = builder.view(node, 0).shape if by_copies else builder.image(node, 0).shape
    ranges = {}
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        if axis % rank == 0:
            if (start, step) != (0, 1) or end < 1 << 31:
                raise node.refuse("must not slice the batch", "axes")
            continue
        ranges[axis % rank - 1] = range(*slice(start, end, step).indices(shape[axis % rank - 1]))
    if by_copies:
        take_ranges(builder, node, ranges)
    else:
        _emit(builder, node, builder.image(node, 0), ranges)


def split_operator(builder: Builder, node: OnnxNode) -> None:
    """Along height, width or channels, one Slice for each part that is read."""
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    axis = node.integer("axis", 0)
    if not -rank <= axis < rank:
        raise node.malformed(f"attribute axis must lie within the {rank} dimensions, not {axis}")
    if axis % rank == 0:
        raise node.refuse("must not split the batch", "axis")
    by_copies = builder.processor and isinstance(view, Result)
    first = 0
    for number, (output, count) in enumerate(zip(node.outputs, _sizes(builder, node, view.shape[axis % rank - 1]), strict=True)):
        ranges = {axis % rank - 1: range(first, first + count)}
        if output and by_copies:
            take_ranges(builder, node, ranges, number)
        elif output:
            _emit(builder, replace(node, outputs=(output,)), builder.image(node, 0), ranges)
        first += count


def _sizes(builder: Builder, node: OnnxNode, size: int) -> Sequence[int]:
    """Of the parts; without a list all are equal, but for the last."""
    given, parts = builder.numbers(node, 1, "split"), len(node.outputs)
    if given is None:
        each = -(-size // parts)
        given = [min(each, size - part * each) for part in range(parts)]
    if len(given) != parts or sum(given) != size or min(given) < 1:
        raise node.malformed(f"the sizes of its {parts} parts must be at least 1 and together {size}, not {list(given)}")
    return given


def _emit(builder: Builder, node: OnnxNode, image: Image, ranges: Mapping[int, range]) -> None:
    """The part of `image` that has these positions of its dimensions (the batch not counted)."""
    labels = image.labels
    starts, counts, steps = [0, 0, 0], list(image.type.shape), [1, 1, 1]
    for dimension, kept in ranges.items():
        if len(kept) == image.shape[dimension]:
            continue
        label = labels[dimension]
        if len(label) != 1:
            raise node.refuse(MOVES)
        if not kept:
            raise node.malformed(f"must keep something of its {image.shape[dimension]} elements")
        starts[label[0]], counts[label[0]], steps[label[0]] = kept.start, len(kept), kept.step
    op = Slice(starts=(starts[H], starts[W], starts[C]), counts=(counts[H], counts[W], counts[C]), steps=(steps[H], steps[W], steps[C]))
    builder.emit(node, op, [image], labels)


def depth_to_space(builder: Builder, node: OnnxNode) -> None:
    """Of either mode: parts of the channels, written between each other."""
    image, block = _square(builder, node)
    mode = node.text("mode", "DCR")
    if mode not in ("DCR", "CRD"):
        raise node.malformed(f"attribute mode must be DCR or CRD, not {mode!r}")
    builder.emit(node, DepthToSpace(block=block, together=mode == "CRD"), [image], ((C,), (H,), (W,)))


def space_to_depth(builder: Builder, node: OnnxNode) -> None:
    """Every second (third, ...) row and column from each of the first ones on, concatenated."""
    image, block = _square(builder, node)
    kind, mode = image.type, node.text("mode", "DCR")
    if mode != "DCR":
        raise node.refuse(f"must be DCR, not {mode}", "mode")
    if kind.height % block or kind.width % block:
        raise node.malformed(f"attribute blocksize must divide height and width, {kind.height} x {kind.width}, not be {block}")
    counts = (kind.height // block, kind.width // block, kind.channels)
    dims = ((C,), (H,), (W,))
    starts = [(*divmod(index, block), 0) for index in range(block * block)]
    parts = [
        builder.part(node, f"part{index}", Slice(starts=start, counts=counts, steps=(block, block, 1)), image, dims) for index, start in enumerate(starts)
    ]
    builder.emit(node, Concat(), parts, dims)


def _square(builder: Builder, node: OnnxNode) -> tuple[Image, int]:
    """The operand, channels first, and the block size."""
    block = node.integer("blocksize", 0)
    if block < 1:
        raise node.malformed(f"attribute blocksize must be at least 1, not {block}")
    return channels_first(builder, node, 2), block


SLICE_HANDLERS = {"Slice": slice_operator, "Split": split_operator, "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth}
