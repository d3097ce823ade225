"""What the processor does to arrays before the first and after the last accelerated operator.

Each step is one frozen dataclass with its float meaning; firmware emits the same steps as C.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.ir.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Reshape:
    """(N, ...) -> (N, *shape), row-major."""

    shape: tuple[int, ...]

    def apply(self, x: FloatArray) -> FloatArray:
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, kw_only=True)
class Transpose:
    """Dimension i of the result is dimension permutation[i] of the operand; permutation[0] is 0 (the batch)."""

    permutation: tuple[int, ...]

    def apply(self, x: FloatArray) -> FloatArray:
        return x.transpose(self.permutation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """x * scale + offset in float32; both broadcast against (N, ...)."""

    scale: FloatArray
    offset: FloatArray

    def apply(self, x: FloatArray) -> FloatArray:
        return x.astype(np.float32) * self.scale + self.offset


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """Softmax along `axis` (counted with the batch as 0), in float32, maximum subtracted."""

    axis: int

    def apply(self, x: FloatArray) -> FloatArray:
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        probabilities: FloatArray = e / e.sum(axis=self.axis, keepdims=True)
        return probabilities


HostStep = Reshape | Transpose | Affine | Softmax
