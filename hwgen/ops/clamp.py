"""ReLU, ReLU6 and Clip that could not be fused into the operator before."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, limit


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """Limit to the real interval `clamp`. Input and output share one quantization."""

    clamp: tuple[float, float]

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        return x

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return limit(x, self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(3, 5, 17)
        return (Example(op=Clamp(clamp=(0.0, np.inf)), inputs=(x,)), Example(op=Clamp(clamp=(-0.5, 0.75)), inputs=(x,)))
