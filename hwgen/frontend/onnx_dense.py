"""Gemm and MatMul by constants: convolutions whose kernel covers what is contracted."""

from __future__ import annotations

import math

import numpy as np

from hwgen.frontend.onnx_arrange import place
from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_pairs import matmul_pair
from hwgen.frontend.onnx_view import Array, C, Constant, H, Image, W
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv


def gemm(builder: Builder, node: OnnxNode) -> None:
    """alpha * A B + beta * C with A computed, B and C constant."""
    if node.integer("transA", 0):
        raise node.refuse("must be 0 where A is computed at run time", "transA")
    weight = builder.constant(node, 1, "B")
    if weight.ndim != 2:
        raise node.malformed(f"B must have 2 dimensions, not {weight.ndim}")
    weight = (weight.T if node.integer("transB", 0) else weight) * np.float32(node.real("alpha", 1.0))
    bias: Array = np.zeros(weight.shape[1], np.float32)
    if (addend := builder.optional(node, 2, "C")) is not None:
        row = addend.reshape(-1)
        if row.size not in (1, len(bias)) or math.prod(addend.shape[:-1]) != 1:
            raise node.refuse(f"C must be one row of {len(bias)} numbers, not of shape {list(addend.shape)}")
        bias = bias + row * np.float32(node.real("beta", 1.0))
    image = builder.image(node, 0, channels_last=True)
    if len(image.dims) != 1:
        raise node.malformed(f"A must have 2 dimensions, not {len(image.dims) + 1}")
    contract(builder, node, image, 0, weight, bias)


def matmul(builder: Builder, node: OnnxNode) -> None:
    """By a constant matrix: each position of the other dimensions is multiplied alike; of two activations: on the processor."""
    sides = [builder.operand(node, 0), builder.operand(node, 1)]
    if not isinstance(sides[0], Constant) and not isinstance(sides[1], Constant):
        matmul_pair(builder, node)
        return
    constant_first = isinstance(sides[0], Constant)
    index = 1 if constant_first else 0
    weight = builder.constant(node, 1 - index, "one of the matrices")
    while weight.ndim > 2 and weight.shape[0] == 1:
        weight = weight[0]
    if weight.ndim != 2:
        raise node.refuse(f"the constant must be one matrix, not of shape {list(weight.shape)}")
    image = builder.image(node, index, channels_last=not constant_first)
    dimension = len(image.dims) - (2 if constant_first else 1)
    if dimension < 0:
        raise node.refuse("must not contract the batch")
    contract(builder, node, image, dimension, weight.T if constant_first else weight, np.zeros(weight.shape[0 if constant_first else 1], np.float32))


def contract(builder: Builder, node: OnnxNode, image: Image, dimension: int, weight: Array, bias: Array) -> None:
    """Replace ONNX dimension `dimension` (counted without the batch) of K elements by weight (K, M): a convolution."""
    axes = image.core[dimension]
    if image.shape[dimension] != weight.shape[0]:
        raise node.malformed(f"the matrix must have {image.shape[dimension]} rows as its operand has columns, not {weight.shape[0]}")
    if C not in axes and image.type.channels != 1:
        if not builder.processor:
            raise node.refuse("would need its input transposed at run time: it contracts a dimension that is not that of the channels")
        image = _contractible(builder, node, image, dimension)
        axes = image.core[dimension]
    sizes = [image.type.shape[axis] for axis in axes]
    kernel = (image.type.height if H in axes else 1, image.type.width if W in axes else 1)
    by_axis = reals(weight.T).reshape(-1, *sizes).transpose(0, *(1 + i for i in np.argsort(axes)))
    op = Conv(
        weight=np.ascontiguousarray(by_axis.reshape(len(bias), *kernel, image.type.channels)),
        bias=reals(bias),
        window=Window(kernel=kernel),
    )
    builder.emit(node, op, [image], tuple((C,) if index == dimension else dim for index, dim in enumerate(image.core)))


def _contractible(builder: Builder, node: OnnxNode, image: Image, dimension: int) -> Image:
    """With the channels along `dimension`, and the other dimensions along rows and columns."""
    if len(image.dims) > 3:
        raise node.refuse(f"its operand of shape {['N', *image.shape]} has too many dimensions beside the one that is contracted")
    free = iter(((H,), (W,)))
    roles = [(C,) if index == dimension else next(free) for index in range(len(image.dims))]
    return place(builder, node, image.value, image.to_host(), image.shape, roles, builder.fresh(f"{image.value}.turned"))


DENSE_HANDLERS = {"Gemm": gemm, "MatMul": matmul}
