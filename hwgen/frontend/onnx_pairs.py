"""Operators of two activations that the accelerator has no command for: the processor computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from hwgen.frontend.onnx_arrange import arranged, flattened, like, place
from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_node import OnnxNode, Refusal
from hwgen.frontend.onnx_view import Axes, C, Constant, H, Image, Result, W
from hwgen.ir import host
from hwgen.ops.add import Add
from hwgen.ops.base import Operator
from hwgen.ops.conv import scaling
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.matmul import MatMul


def all_computed(builder: Builder, node: OnnxNode) -> bool:
    """No operand is constant."""
    return not any(isinstance(builder.operand(node, index), Constant) for index in range(len(node.inputs)))


def _views(builder: Builder, node: OnnxNode) -> tuple[Image, Image, tuple[Axes, ...]]:
    """Both operands along the same dimensions. Sizes of 1 broadcast; where dimensions cannot be named alike, one row of all elements."""
    shapes = [builder.view(node, index).shape for index in (0, 1)]
    if len(shapes[0]) != len(shapes[1]):
        texts = " and ".join(str(["N", *shape]) for shape in shapes)
        raise node.refuse(f"both operands must have equally many dimensions, not {texts}; the first of them is the batch")
    try:
        np.broadcast_shapes(*shapes)
    except ValueError as error:
        raise node.malformed(f"operands of shapes {list(shapes[0])} and {list(shapes[1])} do not broadcast") from error
    sizes = [math.prod(shape) for shape in shapes]
    anchor = next((index for index in (0, 1) if isinstance(builder.view(node, index), Image) and sizes[index] == max(sizes)), int(sizes[1] > sizes[0]))
    first = builder.image(node, anchor)
    roles = like(first)
    try:
        second = arranged(builder, node, builder.image(node, 1 - anchor, roles=roles), roles)
    except Refusal:
        if shapes[0] != shapes[1] or not builder.processor:
            raise
        second = flattened(builder, node, builder.image(node, 1 - anchor))
        first, roles = flattened(builder, node, first), ((C,),)
    return (first, second, roles) if anchor == 0 else (second, first, roles)


def _finish(builder: Builder, node: OnnxNode, op: Operator, images: Sequence[Image], roles: tuple[Axes, ...]) -> None:
    """The node's result, with its own shape where the operands were flattened."""
    shape = tuple(np.broadcast_shapes(*(builder.view(node, index).shape for index in (0, 1))))
    dims = next((image.dims for image in images if image.shape == shape), roles)
    builder.emit(node, op, images, dims)
    found = builder.env[node.output]
    assert isinstance(found, Image)
    if found.shape != shape:
        builder.hand_over(node, found, host.Reshape(shape=shape), "is computed by the processor on all elements in a row")


def pair(builder: Builder, node: OnnxNode, op: Mul | Div | Extremum) -> None:
    """Element by element, on the processor."""
    if not builder.processor:
        raise node.refuse("one operand must be constant; both are computed at run time")
    first, second, roles = _views(builder, node)
    _finish(builder, node, op, (first, second), roles)


def add_pair(builder: Builder, node: OnnxNode) -> None:
    """The residual addition; an operand of fewer elements is repeated by the processor first."""
    first, second, roles = _views(builder, node)
    shape = np.broadcast_shapes(first.shape, second.shape)
    if first.shape != second.shape and not builder.processor:
        raise node.refuse(f"both operands must have one shape, not {list(first.shape)} and {list(second.shape)}; broadcasting needs a constant")
    images = [_repeated(builder, node, image, shape, roles) for image in (first, second)]
    _finish(builder, node, Add(), images, roles)


def _repeated(builder: Builder, node: OnnxNode, image: Image, shape: tuple[int, ...], roles: Sequence[Axes]) -> Image:
    if image.shape == shape:
        return image
    takes = [host.Take(axis=k + 1, indices=(0,) * wide) for k, (own, wide) in enumerate(zip(image.shape, shape, strict=True)) if own != wide]
    return place(builder, node, image.value, (*image.to_host(), *takes), shape, roles, builder.fresh(f"{image.value}.repeated"))


def sub_pair(builder: Builder, node: OnnxNode) -> None:
    """a - b: b is multiplied by -1, and added."""
    image = builder.image(node, 1)
    op = scaling(-np.ones(image.type.channels, np.float32))
    name = builder.fresh(f"{node.output}.negative")
    builder.emit(replace(node, outputs=(name,)), op, [image], image.dims)
    operand = (builder.rounded or {}).get(image.value)
    if operand is not None:  # code q becomes -1 - q, which all 256 have
        builder.imply(name, float(operand.scale), -1 - operand.zero_point)
    add_pair(builder, replace(node, inputs=(node.inputs[0], name)))


def matmul_pair(builder: Builder, node: OnnxNode) -> None:
    """Matrices of each batch element, and of each index of the dimensions before the last two."""
    if not builder.processor:
        raise node.refuse("one of the matrices must be constant; products of two computed matrices are not supported")
    views = [builder.view(node, index) for index in (0, 1)]
    shapes = [view.shape for view in views]
    if len(shapes[0]) != len(shapes[1]) or len(shapes[0]) < 2:
        texts = " and ".join(str(["N", *shape]) for shape in shapes)
        raise node.refuse(f"both operands must have one rank of at least 3, not {texts}: the first dimension is the batch")
    lead = [math.prod(shape[:-2]) for shape in shapes]
    if shapes[0][:-2] != shapes[1][:-2] and 1 not in lead:
        raise node.refuse(f"the dimensions before the last two must agree or be 1, not {list(shapes[0][:-2])} and {list(shapes[1][:-2])}")
    images = []
    for index, (shape, count) in enumerate(zip(shapes, lead, strict=True)):
        image = builder.image(node, index, roles=((H,), (W,), (C,))[3 - len(shape) :] if len(shape) <= 3 else None)
        grouped = (count, *shape[-2:])
        steps = (*image.to_host(), host.Reshape(shape=grouped))
        images.append(place(builder, node, image.value, steps, grouped, ((H,), (W,), (C,)), builder.fresh(f"{image.value}.matrices")))
    builder.emit(node, MatMul(), images, ((H,), (W,), (C,)))
    result = builder.env[node.output]
    assert isinstance(result, Image)
    shape = (*shapes[int(lead[1] > lead[0])][:-2], shapes[0][-2], shapes[1][-1])
    seen = result.reshaped(shape)
    if seen is None:
        builder.hand_over(node, result, host.Reshape(shape=shape), "has more dimensions than the accelerator's values")
        assert isinstance(builder.env[node.output], Result)
    else:
        builder.env[node.output] = seen


def chain(builder: Builder, node: OnnxNode, two: Callable[[Builder, OnnxNode], None]) -> None:
    """Of any number of operands, `two` at a time."""
    so_far = node.inputs[0]
    for index, name in enumerate(node.inputs[1:], 1):
        last = index == len(node.inputs) - 1
        partial = node.output if last else builder.free_name(node, f"part{index}")
        two(builder, replace(node, inputs=(so_far, name), outputs=(partial,)))
        so_far = partial


def in_a_row(builder: Builder, node: OnnxNode, image: Image, operator: Callable[[OnnxNode], None]) -> None:
    """`operator`, which works on each element alone, on all elements in a row; the result has the operand's shape again."""
    flat, name = flattened(builder, node, image), builder.free_name(node, "row")
    builder.env[flat.value] = flat
    operator(replace(node, inputs=(flat.value,), outputs=(name,)))
    result = builder.env[name]
    assert isinstance(result, Image)
    builder.hand_over(node, result, host.Reshape(shape=image.shape), "is computed on all elements in a row")
