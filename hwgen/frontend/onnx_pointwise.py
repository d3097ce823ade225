"""Operators that work on each element alone: activations, normalization, arithmetic with constants, residual additions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import onnx

from hwgen.frontend.onnx_builder import Builder, reals
from hwgen.frontend.onnx_lookup import LOOKUP_HANDLERS, emit_lookup, joined, reciprocal_of
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_normalize import with_factors
from hwgen.frontend.onnx_pairs import add_pair, all_computed, chain, in_a_row, pair, sub_pair
from hwgen.frontend.onnx_view import Array, Constant, Image, RawInput, Result
from hwgen.ir import host
from hwgen.ops.base import Interval, Limit, channel_limits
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import scaling
from hwgen.ops.elementwise import Div, Extremum, Mul
from hwgen.ops.lookup import Function
from hwgen.optimize.fuse_lookup import affine_steps


def relu(builder: Builder, node: OnnxNode) -> None:
    _clamp(builder, node, 0.0, np.inf)


def clip(builder: Builder, node: OnnxNode) -> None:
    """Clip with limits as attributes (before opset 11) or as constant inputs."""
    limits = []
    for index, attribute, default in ((1, "min", -np.inf), (2, "max", np.inf)):
        array = builder.optional(node, index, attribute)
        if array is not None and array.size != 1:
            raise node.malformed(f"{attribute} must be one number, not of shape {list(array.shape)}")
        limits.append(float(array.reshape(-1)[0]) if array is not None else node.real(attribute, default))
    if not limits[0] <= limits[1]:
        raise node.malformed(f"min must not exceed max, but min is {limits[0]} and max {limits[1]}")
    _clamp(builder, node, limits[0], limits[1])


def _clamp(builder: Builder, node: OnnxNode, low: float, high: float, index: int = 0) -> None:
    image = builder.image(node, index)
    builder.emit(node, Clamp(clamp=(low, high)), [image], image.dims)


def maximum(builder: Builder, node: OnnxNode) -> None:
    """By a constant: a clamp from below. Of two functions of one value: a table. Of several activations: on the processor."""
    if not joined(builder, node, Function.MAX):
        _extremum(builder, node, Extremum(largest=True), lambda least: (least, np.inf))


def minimum(builder: Builder, node: OnnxNode) -> None:
    """By a constant: a clamp from above. Of two functions of one value: a table. Of several activations: on the processor."""
    if not joined(builder, node, Function.MIN):
        _extremum(builder, node, Extremum(largest=False), lambda greatest: (-np.inf, greatest))


def _extremum(builder: Builder, node: OnnxNode, op: Extremum, interval: Callable[[Limit], Interval]) -> None:
    if len(node.inputs) == 1:
        identity(builder, node)
    elif builder.processor and all_computed(builder, node):
        chain(builder, node, lambda builder, two: pair(builder, two, op))
    else:
        _clamp_by_constant(builder, node, interval)


def _clamp_by_constant(builder: Builder, node: OnnxNode, interval: Callable[[Limit], Interval]) -> None:
    """One number is a Clamp; one number per channel is the clamp of a 1x1 depthwise Conv that changes nothing else."""
    side = _constant_side(builder, node) if len(node.inputs) == 2 else None
    if side is None:
        raise node.refuse("must have two operands, or none of them constant")
    constant = builder.constant(node, side, "operand")
    builder.require_broadcast(node, constant, builder.view(node, 1 - side).shape)
    if constant.min() == constant.max():
        low, high = interval(float(constant.min()))
        _clamp(builder, node, float(np.min(low)), float(np.min(high)), index=1 - side)
        return
    image = builder.image(node, 1 - side)
    clamp = interval(channel_limits(builder.per_channel(node, image, constant)))
    builder.emit(node, scaling(np.ones(image.type.channels, np.float32), clamp=clamp), [image], image.dims)


def batch_normalization(builder: Builder, node: OnnxNode) -> None:
    """Inference form: one scale and one offset per channel."""
    for attribute, legal in (("training_mode", 0), ("spatial", 1)):
        if node.integer(attribute, legal) != legal:
            raise node.refuse(f"must be {legal}", attribute)
    scale, offset, mean, variance = (builder.constant(node, i, what).astype(np.float64) for i, what in enumerate(("scale", "B", "mean", "variance"), 1))
    view = builder.view(node, 0)
    channels = view.shape[0] if view.shape else 1
    for array in (scale, offset, mean, variance):
        if array.shape != (channels,):
            raise node.malformed(f"parameters must be of shape [{channels}], not {list(array.shape)}")
    positive = variance + node.real("epsilon", 1e-5)
    if positive.min() <= 0:
        raise node.malformed(f"variance + epsilon must be above 0, not {positive.min():.6g}")
    factor = scale / np.sqrt(positive)
    shape = (channels, *(1 for _ in view.shape[1:]))
    _affine(builder, node, 0, factor.reshape(shape), (offset - mean * factor).reshape(shape), moments=(reals(offset), reals(np.abs(scale))))


def add(builder: Builder, node: OnnxNode) -> None:
    """A bias by a constant, or the residual addition of two activations; one of fewer elements is repeated on the processor."""
    if _constant_side(builder, node) is None:
        add_pair(builder, node)
    else:
        _with_constant(builder, node, lambda c, _: (np.ones(()), c))


def sub(builder: Builder, node: OnnxNode) -> None:
    """Of a constant; of two functions of one value: a table; of two activations: an addition of the negative."""
    if joined(builder, node, Function.SUB):
        return
    if _constant_side(builder, node) is None:
        sub_pair(builder, node)
    else:
        _with_constant(builder, node, lambda c, first: (-np.ones(()), c) if first else (np.ones(()), -c))


def mul(builder: Builder, node: OnnxNode) -> None:
    """By a constant; of two functions of one value (SiLU, GELU, hard-swish written out): a table; of two activations: on the processor."""
    if joined(builder, node, Function.MUL):
        return
    if _constant_side(builder, node) is None:
        pair(builder, node, Mul())
    else:
        _with_constant(builder, node, lambda c, _: (c, np.zeros(())))


def div(builder: Builder, node: OnnxNode) -> None:
    """By a constant; of a constant number, or of two functions of one value: a table; of two activations: on the processor."""

    def by(c: Array, _: bool) -> tuple[Array, Array]:
        if not c.all():
            raise node.malformed("the divisor must not hold 0")
        return 1.0 / c, np.zeros(())

    if any(isinstance(view := builder.operand(node, index), RawInput) and view.integer for index in (0, 1)):
        raise node.refuse("must divide real numbers: a quotient of integers is cut off; cast them to float first")
    if joined(builder, node, Function.DIV):
        return
    side = _constant_side(builder, node)
    if side is None:
        pair(builder, node, Div())
    elif side == 0:
        reciprocal_of(builder, node, builder.constant(node, 0, "operand"))
    else:
        _with_constant(builder, node, by)


def _constant_side(builder: Builder, node: OnnxNode) -> int | None:
    return next((i for i in (0, 1) if isinstance(builder.operand(node, i), Constant)), None)


def _with_constant(builder: Builder, node: OnnxNode, meaning: Callable[[Array, bool], tuple[Array, Array]]) -> None:
    """`meaning` turns (constant, constant comes first) into the scale and offset of the computed operand."""
    side = _constant_side(builder, node)
    if side is None:
        raise node.refuse("one operand must be constant; both are computed at run time")
    builder.view(node, 1 - side)  # nothing to say of a node whose other operand is refused already
    scale, offset = meaning(builder.constant(node, side, "operand").astype(np.float64), side == 0)
    _affine(builder, node, 1 - side, scale, offset)


def _affine(builder: Builder, node: OnnxNode, index: int, scale: Array, offset: Array, moments: tuple[Array, Array] | None = None) -> None:
    """x * scale + offset (of known `moments`, one per channel), both broadcast against (N, *shape): on the processor outside the
    accelerated part, else a 1x1 depthwise Conv."""
    view = builder.view(node, index)
    for array in (scale, offset):
        builder.require_broadcast(node, array, view.shape)
    with np.errstate(over="ignore"):
        scale, offset = reals(scale), reals(offset)
    moved = isinstance(view, Result) and builder.processor and all(isinstance(step, host.MovingStep) for step in view.steps)
    rounded = node.inputs[index] in (builder.rounded or {})
    outside = builder.scale_outside and not rounded  # else it would be rounded behind, not before
    if (isinstance(view, Result) and not moved) or (isinstance(view, RawInput) and outside):
        builder.env[node.output] = view.then(host.Affine(scale=scale, offset=offset), node.output)
        return
    image = builder.image(node, index)
    if with_factors(builder, node, image, scale, offset):
        return
    if builder.processor and not all(builder.is_per_channel(node, image, array) for array in (scale, offset)):
        factors, offsets = (np.broadcast_to(array, (1, *view.shape)).reshape(1, -1) for array in (scale, offset))
        in_a_row(builder, node, image, lambda other: _affine(builder, other, 0, factors, offsets))
        return
    vectors = [builder.per_channel(node, image, array) for array in (scale, offset)]
    steps = affine_steps(float(vectors[0][0]), float(vectors[1][0]))
    if steps and (rounded or builder.is_rounded(image.value)) and all((vector == vector[0]).all() for vector in vectors):
        emit_lookup(builder, node, *steps, index=index)
        return
    op = scaling(vectors[0], vectors[1])
    if moments is not None and all(array.shape == op.bias.shape for array in moments):
        op = replace(op, moments=moments)
    builder.emit(node, op, [image], image.dims)


def sum_all(builder: Builder, node: OnnxNode) -> None:
    """Of activations of one shape: additions one after the other."""
    if not node.inputs:
        raise node.malformed("needs an input")
    if any(isinstance(builder.operand(node, index), Constant) for index in range(len(node.inputs))):
        raise node.refuse("must not have constant operands; use Add for them")
    if len(node.inputs) == 1:
        identity(builder, node)
        return
    chain(builder, node, add_pair)


def mean(builder: Builder, node: OnnxNode) -> None:
    """Of activations: their sum, divided by their number."""
    count = len(node.inputs)
    if count < 2:
        sum_all(builder, node)
        return
    total = builder.free_name(node, "total")
    sum_all(builder, replace(node, outputs=(total,)))
    result = (builder.rounded or {}).get(node.output)
    if result is not None and count == 2:  # the sum's codes are those of the mean
        builder.imply(total, 2 * float(result.scale), result.zero_point)
    _affine(builder, replace(node, inputs=(total,)), 0, np.full((), 1 / count), np.zeros(()))


def identity(builder: Builder, node: OnnxNode) -> None:
    builder.env[node.output] = builder.view(node, 0)


def dropout(builder: Builder, node: OnnxNode) -> None:
    """At inference an identity."""
    training = builder.optional(node, 2, "training_mode")
    if training is not None and training.any():
        raise node.refuse("must be false", "training_mode")
    identity(builder, node)


def cast(builder: Builder, node: OnnxNode) -> None:
    """A change to a real type is harmless; one that would round or cut real numbers is not."""
    target = node.integer("to", 0)
    if target not in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
        names = {number: name for name, number in onnx.TensorProto.DataType.items()}
        raise node.refuse(f"must be a floating-point type, not {names.get(target, target)}", "to")
    view = builder.view(node, 0)
    builder.env[node.output] = replace(view, integer=False) if isinstance(view, RawInput) else view


def softmax(builder: Builder, node: OnnxNode) -> None:
    """Softmax and LogSoftmax, on the processor. Before opset 13 all dimensions from `axis` on are taken together."""
    view = builder.view(node, 0)
    rank = len(view.shape) + 1
    axis = node.integer("axis", -1 if node.opset >= 13 else 1)
    if not -rank <= axis < rank:
        raise node.malformed(f"attribute axis must lie within the {rank} dimensions, not {axis}")
    axis %= rank
    if axis == 0:
        raise node.refuse("must not run over the batch", "axis")
    reason = "runs on the processor after the last accelerated operator"
    step = (host.Softmax if node.operator == "Softmax" else host.LogSoftmax)(axis=axis)
    if node.opset >= 13 or axis == rank - 1:
        builder.hand_over(node, view, step, reason)
        return
    joined = int(np.prod(view.shape[axis - 1 :]))
    builder.hand_over(node, view, host.Reshape(shape=(*view.shape[: axis - 1], joined)), reason)
    for part in (step, host.Reshape(shape=view.shape)):
        handed = builder.env[node.output]
        assert handed is not None and not isinstance(handed, Constant | Image)
        builder.env[node.output] = handed.then(part, node.output)


POINTWISE_HANDLERS = {
    **LOOKUP_HANDLERS,
    "Relu": relu,
    "Clip": clip,
    "Max": maximum,
    "Min": minimum,
    "Sum": sum_all,
    "Mean": mean,
    "BatchNormalization": batch_normalization,
    "Add": add,
    "Sub": sub,
    "Mul": mul,
    "Div": div,
    "Identity": identity,
    "Dropout": dropout,
    "Cast": cast,
    "Softmax": softmax,
    "LogSoftmax": softmax,
}
