"""The steps of a Lookup as float operators of ONNX."""

from __future__ import annotations

from typing import Any

import numpy as np

from hwgen.emit.onnx_builder import OnnxBuilder
from hwgen.ops.lookup import Function, Lookup, Step

_ATTRIBUTES = {
    Function.CELU: ("alpha",),
    Function.ELU: ("alpha",),
    Function.HARD_SIGMOID: ("alpha", "beta"),
    Function.LEAKY_RELU: ("alpha",),
    Function.SELU: ("alpha", "gamma"),
    Function.THRESHOLDED_RELU: ("alpha",),
}
_BY_CONSTANT = {Function.SCALE: "Mul", Function.OFFSET: "Add", Function.POWER: "Pow"}


def write_lookup(builder: OnnxBuilder, op: Lookup, real: str, output: str) -> None:
    """From the float tensor `real` to `output`."""
    results = [real]
    for index, step in enumerate(op.steps):
        name = output if index == len(op.steps) - 1 else builder.fresh(f"{output}.{step.function.value.lower()}")
        results.append(_write_step(builder, step, [results[operand] for operand in step.operands], name))


def _write_step(builder: OnnxBuilder, step: Step, operands: list[str], output: str) -> str:
    constants = [np.array(parameter, np.float32) for parameter in step.parameters]
    if step.function is Function.QUANTIZE:
        scale, zero_point = builder.constant(f"{output}.scale", constants[0]), builder.constant(f"{output}.zero_point", constants[1].astype(np.int8))
        codes = builder.node("QuantizeLinear", [*operands, scale, zero_point], builder.fresh(f"{output}.codes"))
        return builder.node("DequantizeLinear", [codes, scale, zero_point], output)
    if step.function is Function.CLIP:
        ends = [builder.constant(f"{output}.{end}", value) if np.isfinite(value) else "" for end, value in zip(("min", "max"), constants, strict=True)]
        return builder.node("Clip", [*operands, *ends], output)
    if step.function in _BY_CONSTANT:
        return builder.node(_BY_CONSTANT[step.function], [*operands, builder.constant(f"{output}.constant", constants[0])], output)
    attributes: dict[str, Any] = dict(zip(_ATTRIBUTES.get(step.function, ()), step.parameters, strict=True))
    return builder.node(step.function.value, operands, output, **attributes)
