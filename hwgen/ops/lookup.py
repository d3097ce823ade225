"""Any function of one value, element by element: activations, and arithmetic with constants between them. In integers, a table of 256 codes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, Quantization, TensorType
from hwgen.ops.base import Example

Real = npt.NDArray[np.float32]


class Function(Enum):
    """Steps of a lookup; the values are the names of ONNX's operators where it has one."""

    ABS = "Abs"
    CEIL = "Ceil"
    CELU = "Celu"
    COS = "Cos"
    ELU = "Elu"
    ERF = "Erf"
    EXP = "Exp"
    FLOOR = "Floor"
    HARD_SIGMOID = "HardSigmoid"
    LEAKY_RELU = "LeakyRelu"
    LOG = "Log"
    NEG = "Neg"
    RECIPROCAL = "Reciprocal"
    ROUND = "Round"
    SELU = "Selu"
    SIGMOID = "Sigmoid"
    SIGN = "Sign"
    SIN = "Sin"
    SOFTPLUS = "Softplus"
    SOFTSIGN = "Softsign"
    SQRT = "Sqrt"
    TANH = "Tanh"
    THRESHOLDED_RELU = "ThresholdedRelu"
    POWER = "Pow"  # parameter: the exponent
    CLIP = "Clip"  # parameters: least and greatest, which may be infinite
    SCALE = "scale"  # x * parameter
    OFFSET = "offset"  # x + parameter
    QUANTIZE = "quantize"  # to int8 codes and back; parameters: scale, zero point
    ADD = "Add"
    SUB = "Sub"
    MUL = "Mul"
    DIV = "Div"
    MAX = "Max"
    MIN = "Min"


@dataclass(frozen=True)
class _Meaning:
    """`compute(*operands, *parameters)` in float32."""

    operands: int
    parameters: int
    compute: Callable[..., Any]


def _erf(x: Real) -> Any:
    return np.vectorize(math.erf, otypes=[np.float32])(x)


def _selu(x: Real, alpha: float, gamma: float) -> Any:
    return np.float32(gamma) * np.where(x > 0, x, np.float32(alpha) * np.expm1(x))


def _quantize(x: Real, scale: float, zero_point: float) -> Any:
    codes = np.clip(np.rint(x / np.float32(scale)) + np.float32(zero_point), np.float32(-128), np.float32(127))
    return (codes - np.float32(zero_point)) * np.float32(scale)


_MEANINGS: dict[Function, _Meaning] = {
    Function.ABS: _Meaning(1, 0, np.abs),
    Function.CEIL: _Meaning(1, 0, np.ceil),
    Function.CELU: _Meaning(1, 1, lambda x, a: np.maximum(x, 0) + np.minimum(0, np.float32(a) * np.expm1(x / np.float32(a)))),
    Function.COS: _Meaning(1, 0, np.cos),
    Function.ELU: _Meaning(1, 1, lambda x, a: np.where(x >= 0, x, np.float32(a) * np.expm1(x))),
    Function.ERF: _Meaning(1, 0, _erf),
    Function.EXP: _Meaning(1, 0, np.exp),
    Function.FLOOR: _Meaning(1, 0, np.floor),
    Function.HARD_SIGMOID: _Meaning(1, 2, lambda x, a, b: np.maximum(0, np.minimum(1, np.float32(a) * x + np.float32(b)))),
    Function.LEAKY_RELU: _Meaning(1, 1, lambda x, a: np.where(x >= 0, x, np.float32(a) * x)),
    Function.LOG: _Meaning(1, 0, np.log),
    Function.NEG: _Meaning(1, 0, np.negative),
    Function.RECIPROCAL: _Meaning(1, 0, lambda x: np.float32(1) / x),
    Function.ROUND: _Meaning(1, 0, np.rint),
    Function.SELU: _Meaning(1, 2, _selu),
    Function.SIGMOID: _Meaning(1, 0, lambda x: np.float32(1) / (np.float32(1) + np.exp(-x))),
    Function.SIGN: _Meaning(1, 0, np.sign),
    Function.SIN: _Meaning(1, 0, np.sin),
    Function.SOFTPLUS: _Meaning(1, 0, lambda x: np.logaddexp(np.float32(0), x)),
    Function.SOFTSIGN: _Meaning(1, 0, lambda x: x / (np.float32(1) + np.abs(x))),
    Function.SQRT: _Meaning(1, 0, np.sqrt),
    Function.TANH: _Meaning(1, 0, np.tanh),
    Function.THRESHOLDED_RELU: _Meaning(1, 1, lambda x, a: np.where(x > np.float32(a), x, np.float32(0))),
    Function.POWER: _Meaning(1, 1, lambda x, e: np.power(x, np.float32(e))),
    Function.CLIP: _Meaning(1, 2, lambda x, low, high: np.minimum(np.maximum(x, np.float32(low)), np.float32(high))),
    Function.SCALE: _Meaning(1, 1, lambda x, c: x * np.float32(c)),
    Function.OFFSET: _Meaning(1, 1, lambda x, c: x + np.float32(c)),
    Function.QUANTIZE: _Meaning(1, 2, _quantize),
    Function.ADD: _Meaning(2, 0, np.add),
    Function.SUB: _Meaning(2, 0, np.subtract),
    Function.MUL: _Meaning(2, 0, np.multiply),
    Function.DIV: _Meaning(2, 0, np.divide),
    Function.MAX: _Meaning(2, 0, np.maximum),
    Function.MIN: _Meaning(2, 0, np.minimum),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """`function` of earlier results: operand 0 is the lookup's input, operand k the result of step k (counted from 1). Parameters are
    rounded to float32."""

    function: Function
    operands: tuple[int, ...] = (0,)
    parameters: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        with np.errstate(over="ignore"):
            object.__setattr__(self, "parameters", tuple(float(np.float32(parameter)) for parameter in self.parameters))


@dataclass(frozen=True, kw_only=True)
class Lookup:
    """The result of the last of `steps`, each element on its own. Input and output have quantizations of their own.

    In integers: quantize(f(dequantize(code))), all in float32, rounded once as QuantizeLinear rounds; NaN counts as 0.
    """

    steps: tuple[Step, ...]

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        for index, step in enumerate(self.steps):
            meaning = _MEANINGS[step.function]
            name = step.function.value
            if len(step.operands) != meaning.operands or not all(0 <= operand <= index for operand in step.operands):
                raise ModelError(f"Lookup: step {index + 1} ({name}) must read {meaning.operands} earlier results, not {step.operands}")
            infinite_ends = step.function is Function.CLIP and not np.isnan(step.parameters).any()
            if len(step.parameters) != meaning.parameters or not (infinite_ends or np.isfinite(step.parameters).all()):
                raise ModelError(f"Lookup: step {index + 1} ({name}) must have {meaning.parameters} finite parameters, not {step.parameters}")
        if not self.steps:
            raise ModelError("Lookup: needs at least one step")
        return x

    def reference(self, *arrays: FloatArray) -> FloatArray:
        results: list[Any] = [np.asarray(arrays[0], np.float32)]
        with np.errstate(all="ignore"):  # sigmoid of a large negative number passes infinity
            for step in self.steps:
                operands = [results[operand] for operand in step.operands]
                results.append(np.asarray(_MEANINGS[step.function].compute(*operands, *step.parameters), np.float32))
        result: FloatArray = results[-1]
        return result

    def table(self, x: Quantization, y: Quantization) -> npt.NDArray[np.int8]:
        """(256,) codes of the output, by input code + 128."""
        real = self.reference(x.dequantize(np.arange(-128, 128)))
        with np.errstate(over="ignore"):
            return y.quantize(np.where(np.isnan(real), np.float32(0), real))

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        image, vector = TensorType(3, 4, 5), TensorType(1, 1, 19)

        def example(*steps: Step) -> Example:
            return Example(op=Lookup(steps=steps), inputs=(vector if len(steps) > 1 else image,))

        plain = [function for function, meaning in _MEANINGS.items() if meaning.operands == 1 and not meaning.parameters]
        undefined = (Function.LOG, Function.SQRT, Function.RECIPROCAL)  # for some numbers: of the exponential
        exp = Step(function=Function.EXP)
        return (
            *(example(Step(function=function)) for function in plain if function not in undefined),
            *(example(exp, Step(function=function, operands=(1,))) for function in undefined),
            example(Step(function=Function.ELU, parameters=(0.7,))),
            example(Step(function=Function.CELU, parameters=(0.7,))),
            example(Step(function=Function.SELU, parameters=(1.6732632, 1.050701))),
            example(Step(function=Function.LEAKY_RELU, parameters=(0.1,))),
            example(Step(function=Function.HARD_SIGMOID, parameters=(0.2, 0.5))),
            example(Step(function=Function.THRESHOLDED_RELU, parameters=(0.5,))),
            *(example(*steps) for steps in (swish(), gelu(), gelu_by_tanh(), mish(), hard_swish())),
        )


def swish(alpha: float = 1.0) -> tuple[Step, ...]:
    """x * sigmoid(alpha * x); SiLU with alpha 1."""
    before = () if alpha == 1 else (Step(function=Function.SCALE, parameters=(alpha,)),)
    sigmoid = Step(function=Function.SIGMOID, operands=(len(before),))
    return (*before, sigmoid, Step(function=Function.MUL, operands=(0, len(before) + 1)))


def mish() -> tuple[Step, ...]:
    """x * tanh(softplus(x))."""
    softplus, tanh = Step(function=Function.SOFTPLUS), Step(function=Function.TANH, operands=(1,))
    return (softplus, tanh, Step(function=Function.MUL, operands=(0, 2)))


def hard_swish() -> tuple[Step, ...]:
    """x * max(0, min(1, x / 6 + 0.5))."""
    return (Step(function=Function.HARD_SIGMOID, parameters=(1 / 6, 0.5)), Step(function=Function.MUL, operands=(0, 1)))


def gelu() -> tuple[Step, ...]:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    return (
        Step(function=Function.SCALE, parameters=(math.sqrt(0.5),)),
        Step(function=Function.ERF, operands=(1,)),
        *_half_of_one_plus(2),
    )


def gelu_by_tanh() -> tuple[Step, ...]:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))."""
    return (
        Step(function=Function.POWER, parameters=(3.0,)),
        Step(function=Function.SCALE, operands=(1,), parameters=(0.044715,)),
        Step(function=Function.ADD, operands=(0, 2)),
        Step(function=Function.SCALE, operands=(3,), parameters=(math.sqrt(2 / math.pi),)),
        Step(function=Function.TANH, operands=(4,)),
        *_half_of_one_plus(5),
    )


def _half_of_one_plus(step: int) -> tuple[Step, ...]:
    """x * (1 + the result of a step) / 2."""
    return (
        Step(function=Function.OFFSET, operands=(step,), parameters=(1.0,)),
        Step(function=Function.MUL, operands=(0, step + 1)),
        Step(function=Function.SCALE, operands=(step + 2,), parameters=(0.5,)),
    )


def after(first: tuple[Step, ...], second: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps of second(first(x))."""
    return (*first, *shifted(second, len(first), len(first)))


def shifted(steps: tuple[Step, ...], source: int, offset: int) -> tuple[Step, ...]:
    """Steps that stand behind `offset` others, and whose input is result number `source`."""
    return tuple(
        Step(function=step.function, operands=tuple(operand + offset if operand else source for operand in step.operands), parameters=step.parameters)
        for step in steps
    )
