"""Elementwise addition of two activations of the same shape (the residual add)."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, limit


@dataclass(frozen=True, kw_only=True)
class Add:
    """a + b, then limited to the real interval `clamp`."""

    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if a != b:
            raise ModelError(f"Add: both inputs must have one shape, not {a.shape} and {b.shape}")
        return a

    def reference(self, *arrays: FloatArray) -> FloatArray:
        a, b = arrays
        return limit(a + b, self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        image, vector = TensorType(5, 4, 19), TensorType(1, 1, 7)
        return (Example(op=Add(), inputs=(image, image)), Example(op=Add(clamp=(0.0, 1.0)), inputs=(vector, vector)))
