"""Functions of one value: activations, and arithmetic between a value and functions of itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_pairs import in_a_row
from hwgen.frontend.onnx_view import Array, Constant, Image
from hwgen.ops.add import Add
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import scaling
from hwgen.ops.lookup import Function, Lookup, Step, gelu, gelu_by_tanh, hard_swish, mish, swish
from hwgen.optimize.fuse_lookup import function_of_one

Handler = Callable[[Builder, OnnxNode], None]
SELU_ALPHA, SELU_GAMMA = 1.67326319217681884765625, 1.05070102214813232421875  # defaults of ONNX


def emit_lookup(builder: Builder, node: OnnxNode, *steps: Step, index: int = 0) -> None:
    """The steps, applied to operand `index`."""
    image = builder.image(node, index)
    builder.emit(node, Lookup(steps=steps), [image], image.dims)


def _table(function: Function, **attributes: float) -> Handler:
    """The handler of an operator with these attributes and defaults."""

    def handler(builder: Builder, node: OnnxNode) -> None:
        parameters = tuple(node.real(name, default) for name, default in attributes.items())
        emit_lookup(builder, node, Step(function=function, parameters=parameters))

    handler.__doc__ = "A table."
    return handler


def hard_swish_operator(builder: Builder, node: OnnxNode) -> None:
    """A table."""
    emit_lookup(builder, node, *hard_swish())


def mish_operator(builder: Builder, node: OnnxNode) -> None:
    """A table."""
    emit_lookup(builder, node, *mish())


def swish_operator(builder: Builder, node: OnnxNode) -> None:
    """A table."""
    emit_lookup(builder, node, *swish(node.real("alpha", 1.0)))


def gelu_operator(builder: Builder, node: OnnxNode) -> None:
    """A table, of either approximation."""
    approximate = node.text("approximate", "none")
    if approximate not in ("none", "tanh"):
        raise node.malformed(f"attribute approximate must be none or tanh, not {approximate!r}")
    emit_lookup(builder, node, *(gelu() if approximate == "none" else gelu_by_tanh()))


def power(builder: Builder, node: OnnxNode) -> None:
    """A table; the exponent must be one constant number."""
    exponent = builder.constant(node, 1, "the exponent")
    if exponent.size != 1:
        raise node.refuse(f"the exponent must be one number, not of shape {list(exponent.shape)}")
    builder.require_broadcast(node, exponent, builder.view(node, 0).shape)
    emit_lookup(builder, node, Step(function=Function.POWER, parameters=(float(exponent.reshape(())),)))


def prelu(builder: Builder, node: OnnxNode) -> None:
    """A table where all slopes are equal; else max(x, 0) + slope * min(x, 0), a depthwise convolution and an addition."""
    slope = builder.constant(node, 1, "the slope").astype(np.float64)
    if slope.size and slope.min() == slope.max():
        emit_lookup(builder, node, Step(function=Function.LEAKY_RELU, parameters=(float(slope.min()),)))
        return
    image = builder.image(node, 0)
    builder.require_broadcast(node, slope, image.shape)
    if builder.processor and not builder.is_per_channel(node, image, slope):
        row = np.broadcast_to(slope, (1, *image.shape)).reshape(1, -1)
        in_a_row(builder, node, image, lambda other: _sloped(builder, other, row))
        return
    _sloped(builder, node, slope)


def _sloped(builder: Builder, node: OnnxNode, slope: Array) -> None:
    image = builder.image(node, 0)
    slopes = builder.per_channel(node, image, slope)
    positive = builder.part(node, "positive", Clamp(clamp=(0.0, np.inf)), image, image.dims)
    negative = builder.part(node, "negative", Clamp(clamp=(-np.inf, 0.0)), image, image.dims)
    scaled = builder.part(node, "scaled", scaling(slopes), negative, image.dims)
    result = (builder.rounded or {}).get(node.output)
    if result is not None:  # one of the two parts is 0, and the other already rounded as the sum is
        builder.imply(scaled.value, float(result.scale), result.zero_point)
    builder.emit(node, Add(), [positive, scaled], image.dims)


def reciprocal_of(builder: Builder, node: OnnxNode, numerator: Array) -> None:
    """A constant divided by operand 1."""
    if numerator.size == 0 or numerator.min() != numerator.max():
        raise node.refuse("a constant that is divided must be one number")
    scale = () if numerator.min() == 1 else (Step(function=Function.SCALE, operands=(1,), parameters=(float(numerator.min()),)),)
    emit_lookup(builder, node, Step(function=Function.RECIPROCAL), *scale, index=1)


def pair_of_images(builder: Builder, node: OnnxNode) -> tuple[Image, Image]:
    """Both operands on the accelerator; a raw input takes the other one's layout."""
    views = [builder.view(node, index) for index in (0, 1)]
    anchor = next((index for index in (0, 1) if isinstance(views[index], Image)), 0)
    first = builder.image(node, anchor)
    second = builder.image(node, 1 - anchor, roles=first.labels)
    return (first, second) if anchor == 0 else (second, first)


def joined(builder: Builder, node: OnnxNode, function: Function) -> bool:
    """Where both operands are functions of one value, element by element, so is their sum, product, ...: a table. Says whether it is one."""
    if len(node.inputs) != 2 or any(isinstance(builder.operand(node, index), Constant) for index in (0, 1)):
        return False
    first, second = pair_of_images(builder, node)
    if first.core != second.core or first.type != second.type or first.shape != second.shape:
        return False
    found = function_of_one(builder.nodes, (first.value, second.value), builder.rounding_steps(), builder.rounded is None)
    if found is None:
        return False
    root, region = found
    operands = (region.results[first.value], region.results[second.value])
    steps = (*region.steps, Step(function=function, operands=operands))
    builder.emit(node, Lookup(steps=steps), [replace(first, value=root)], first.dims)
    last = builder.nodes[-1]
    builder.nodes[-1] = replace(last, source=(*dict.fromkeys(region.sources), *last.source))
    return True


LOOKUP_HANDLERS: dict[str, Handler] = {
    **{function.value: _table(function) for function in (
        Function.ABS, Function.CEIL, Function.COS, Function.ERF, Function.EXP, Function.FLOOR, Function.LOG, Function.NEG, Function.RECIPROCAL,
        Function.ROUND, Function.SIGMOID, Function.SIGN, Function.SIN, Function.SOFTPLUS, Function.SOFTSIGN, Function.SQRT, Function.TANH,
    )},
    "Celu": _table(Function.CELU, alpha=1.0),
    "Elu": _table(Function.ELU, alpha=1.0),
    "HardSigmoid": _table(Function.HARD_SIGMOID, alpha=0.2, beta=0.5),
    "LeakyRelu": _table(Function.LEAKY_RELU, alpha=0.01),
    "Selu": _table(Function.SELU, alpha=SELU_ALPHA, gamma=SELU_GAMMA),
    "ThresholdedRelu": _table(Function.THRESHOLDED_RELU, alpha=1.0),
    "HardSwish": hard_swish_operator,
    "Mish": mish_operator,
    "Swish": swish_operator,
    "Gelu": gelu_operator,
    "Pow": power,
    "PRelu": prelu,
}  # fmt: skip
