"""Two activations combined element by element, on the processor; sizes of one broadcast."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, limit, limited


def broadcast_type(operator: str, types: tuple[TensorType, ...]) -> TensorType:
    """Shape of the result. Raises ModelError where sizes differ and none of them is 1."""
    try:
        shape = np.broadcast_shapes(*(kind.shape for kind in types))
    except ValueError as error:
        raise ModelError(f"{operator}: the sizes of {' and '.join(str(kind.shape) for kind in types)} must be equal or 1") from error
    return limited(operator, TensorType(*shape))


def _examples(*operators: Mul | Div | Extremum) -> tuple[Example, ...]:
    image, row, vector = TensorType(5, 4, 19), TensorType(1, 4, 1), TensorType(1, 1, 19)
    shapes = ((image, image), (image, vector), (row, image), (vector, row))
    return tuple(Example(op=op, inputs=inputs) for op in operators for inputs in shapes)


@dataclass(frozen=True, kw_only=True)
class Mul:
    """a * b, then limited to the real interval `clamp`."""

    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        return broadcast_type("Mul", types)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        a, b = arrays
        return limit(a * b, self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return _examples(Mul(), Mul(clamp=(0.0, 0.5)))


@dataclass(frozen=True, kw_only=True)
class Div:
    """a / b, then limited to the real interval `clamp`. A division by a divisor that rounds to 0 gives the limit of its sign, 0 / 0 gives 0."""

    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        return broadcast_type("Div", types)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        a, b = arrays
        with np.errstate(divide="ignore", invalid="ignore"):
            return limit(a / b, self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return _examples(Div(), Div(clamp=(-1.0, np.inf)))


@dataclass(frozen=True, kw_only=True)
class Extremum:
    """The greater (`largest`) or the smaller of two. Inputs and output share one quantization."""

    largest: bool

    def infer(self, *types: TensorType) -> TensorType:
        return broadcast_type("Max" if self.largest else "Min", types)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        a, b = arrays
        result: FloatArray = np.maximum(a, b) if self.largest else np.minimum(a, b)
        return result

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return _examples(Extremum(largest=True), Extremum(largest=False))
