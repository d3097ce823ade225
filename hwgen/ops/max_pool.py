"""Maximum over a window; cells outside the image never win."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, Window, limit, require_cells


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Window pads may exceed the model's own (ceil_mode is expressed by larger pads). `clamp` limits the real output."""

    window: Window
    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        y = self.window.infer("MaxPool", x, x.channels)
        require_cells("MaxPool", self.window, x)
        return y

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return limit(self.window.maximum(x, -np.inf), self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(7, 6, 5)
        return (
            Example(op=MaxPool(window=Window(kernel=(2, 2), strides=(2, 2))), inputs=(x,)),
            Example(op=MaxPool(window=Window(kernel=(3, 3), strides=(2, 2), pads=(1, 0, 1, 2))), inputs=(x,)),
            Example(op=MaxPool(window=Window(kernel=(2, 3), dilations=(3, 2)), clamp=(0.0, np.inf)), inputs=(x,)),
            Example(op=MaxPool(window=Window(kernel=(7, 6))), inputs=(x,)),
        )
