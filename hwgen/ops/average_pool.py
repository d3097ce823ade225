"""Mean over a window; the divisor may differ at the borders."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.ir.types import FloatArray, IntArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, Pads, Window, limit, require_cells


@dataclass(frozen=True, kw_only=True)
class AveragePool:
    """`window.pads` give the geometry (ceil_mode is expressed by larger pads). A padded cell adds zero to the sum, and counts in the
    divisor only inside `counted_pads` (top, left, bottom, right): all zero for count_include_pad=0."""

    window: Window
    counted_pads: Pads = (0, 0, 0, 0)
    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        y = self.window.infer("AveragePool", x, x.channels)
        require_cells("AveragePool", self.window, x)
        return y

    def divisors(self, x: TensorType) -> IntArray:
        """(OH, OW): number of cells that the mean of each window divides by, for inputs of type `x`."""
        return self.window.counts(x, self.counted_pads)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        total = self.window.sums(x, 0.0, np.float32)
        return limit(total / self.divisors(TensorType(*x.shape[1:])).astype(np.float32)[:, :, None], self.clamp)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(7, 6, 5)
        return (
            Example(op=AveragePool(window=Window(kernel=(7, 6))), inputs=(x,)),
            Example(op=AveragePool(window=Window(kernel=(3, 2), strides=(2, 2), pads=(1, 0, 1, 1))), inputs=(x,)),
            Example(op=AveragePool(window=Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 2)), counted_pads=(1, 1, 1, 1)), inputs=(x,)),
            Example(op=AveragePool(window=Window(kernel=(2, 2), dilations=(2, 3)), clamp=(0.0, 6.0)), inputs=(x,)),
        )
