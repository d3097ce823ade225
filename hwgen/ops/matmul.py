"""The product of two activations as matrices, on the processor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, limit


@dataclass(frozen=True, kw_only=True)
class MatMul:
    """(N, B, M, K) x (N, B, K, P) -> (N, B, M, P), then limited to the real interval `clamp`: rows of the image are a batch, its columns
    the rows of the matrix, its channels the columns. A batch of one matrix serves all of the other operand."""

    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        a, b = types
        if a.channels != b.width or (a.height != b.height and 1 not in (a.height, b.height)):
            raise ModelError(f"MatMul: (B, M, K) and (B, K, P) must agree, not {a.shape} and {b.shape}")
        return TensorType(max(a.height, b.height), a.width, b.channels)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        a, b = arrays
        return limit(np.matmul(a, b), self.clamp)

    def work(self, *types: TensorType) -> int:
        return self.infer(*types).elements * types[0].channels

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return (
            Example(op=MatMul(), inputs=(TensorType(1, 4, 7), TensorType(1, 7, 3))),
            Example(op=MatMul(clamp=(0.0, np.inf)), inputs=(TensorType(3, 2, 33), TensorType(3, 33, 5))),
            Example(op=MatMul(), inputs=(TensorType(3, 2, 5), TensorType(1, 5, 6))),
        )
