"""Local response normalization: each value divided by a power of what lies around it along the channels, on the processor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example

LARGEST_WINDOW = 1 << 12


@dataclass(frozen=True, kw_only=True)
class LocalResponse:
    """x / (bias + alpha / size * (sum of the squares of `size` channels around))**beta; ONNX: LRN. Where `size` is even, one more of them lies
    behind. Source: Krizhevsky et al., NIPS 2012, section 3.3."""

    size: int
    alpha: float = 1e-4
    beta: float = 0.75
    bias: float = 1.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not 1 <= self.size <= LARGEST_WINDOW:
            raise ModelError(f"LocalResponse: size must be 1 to {LARGEST_WINDOW}, not {self.size}")
        if not (0 < self.beta <= 1 and np.isfinite([self.alpha, self.bias]).all() and self.alpha >= 0 and self.bias > 0):
            text = f"alpha {self.alpha:g}, beta {self.beta:g} and bias {self.bias:g}"
            raise ModelError(f"LocalResponse: alpha must be at least 0, beta above 0 and at most 1, bias above 0, not {text}")
        return x

    @property
    def before(self) -> int:
        """Channels of the window before the one that is divided."""
        return (self.size - 1) // 2

    def around(self, squares: FloatArray) -> FloatArray:
        """(..., C) sums over the window."""
        channels = squares.shape[-1]
        sums = np.concatenate([np.zeros((*squares.shape[:-1], 1), squares.dtype), np.cumsum(squares, axis=-1)], axis=-1)
        first = np.maximum(np.arange(channels) - self.before, 0)
        end = np.minimum(np.arange(channels) - self.before + self.size, channels)
        found: FloatArray = sums[..., end] - sums[..., first]
        return found

    def reference(self, *arrays: FloatArray) -> FloatArray:
        x = arrays[0].astype(np.float64)
        y: FloatArray = (x * (self.bias + self.alpha / self.size * self.around(x * x)) ** -self.beta).astype(np.float32)
        return y

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(3, 4, 10)
        return (
            Example(op=LocalResponse(size=5), inputs=(x,)),
            Example(op=LocalResponse(size=4, alpha=0.5, beta=0.5, bias=0.25), inputs=(x,)),
            Example(op=LocalResponse(size=21, alpha=2.0, beta=1.0, bias=2.0), inputs=(x,)),
        )
