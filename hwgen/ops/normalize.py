"""Normalization by the mean and variance of the values themselves (layers, instances, groups), or by their root mean square alone, on the
processor."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, limit

LONGEST = 1 << 16  # elements that share a mean


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalize:
    """(x - mean) / sqrt(variance + epsilon) * scale + offset, then limited to the real interval `clamp`; mean and variance over `axes` of
    (N, H, W, C), some of 1, 2, 3 in this order. `scale` and `offset` broadcast to (H, W, C). If not `centered`: x / max(sqrt(mean of x**2 +
    epsilon), least) * scale + offset. 0 / 0 is 0."""

    axes: tuple[int, ...]
    epsilon: float
    scale: FloatArray
    offset: FloatArray
    clamp: tuple[float, float] = UNLIMITED
    centered: bool = True
    least: float = 0.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if not self.axes or list(self.axes) != sorted(set(self.axes)) or not set(self.axes) <= {1, 2, 3}:
            raise ModelError(f"Normalize: axes must be some of 1, 2, 3 in this order, not {self.axes}")
        if self.count(x) > LONGEST:
            raise ModelError(f"Normalize: at most {LONGEST} elements may share a mean, not {self.count(x)}")
        if not (math.isfinite(self.epsilon) and self.epsilon >= 0):
            raise ModelError(f"Normalize: epsilon must be a number of at least 0, not {self.epsilon:g}")
        if not (math.isfinite(self.least) and self.least >= 0) or (self.centered and self.least):
            raise ModelError(f"Normalize: the least divisor must be a number of at least 0, and 0 where the mean is taken away, not {self.least:g}")
        for name, array in (("scale", self.scale), ("offset", self.offset)):
            if array.ndim != 3 or any(own not in (1, size) for own, size in zip(array.shape, x.shape, strict=True)):
                raise ModelError(f"Normalize: the {name} must broadcast to {x.shape}, not be of shape {array.shape}")
            if not np.isfinite(array).all():
                raise ModelError(f"Normalize: the {name} must be finite")
        return x

    def count(self, x: TensorType) -> int:
        """Elements that share a mean."""
        return math.prod(x.shape[axis - 1] for axis in self.axes)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        x = arrays[0].astype(np.float64)
        x = x - x.mean(axis=self.axes, keepdims=True) if self.centered else x
        variance = (x**2).mean(axis=self.axes, keepdims=True)
        deviation = np.maximum(np.sqrt(variance + self.epsilon), self.least)
        y = np.divide(x, deviation, out=np.zeros_like(x), where=np.broadcast_to(deviation > 0, x.shape)) * self.scale + self.offset
        return limit(y.astype(np.float32), self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(3, 4, 10)
        rows = np.linspace(-1, 2, 10, dtype=np.float32).reshape(1, 1, 10)
        one, zero = np.ones((1, 1, 1), np.float32), np.zeros((1, 1, 1), np.float32)
        every = np.linspace(0.5, 1.5, x.elements, dtype=np.float32).reshape(x.shape)
        return (
            Example(op=Normalize(axes=(3,), epsilon=1e-5, scale=rows, offset=rows[..., ::-1]), inputs=(x,)),
            Example(op=Normalize(axes=(1, 2), epsilon=1e-3, scale=rows, offset=rows, clamp=(0.0, np.inf)), inputs=(x,)),
            Example(op=Normalize(axes=(1, 2, 3), epsilon=1e-5, scale=every, offset=zero), inputs=(x,)),
            Example(op=Normalize(axes=(2,), epsilon=0.1, scale=one, offset=zero, clamp=(-1.0, 0.5)), inputs=(x,)),
            Example(op=Normalize(axes=(3,), epsilon=1e-5, scale=rows, offset=zero, centered=False), inputs=(x,)),
            Example(op=Normalize(axes=(1, 2), epsilon=0.0, scale=one, offset=rows, centered=False, least=0.5), inputs=(x,)),
        )
