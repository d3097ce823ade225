"""Maximum over a window; cells outside the image never win."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.ir.types import TensorType
from hwgen.ops.base import UNLIMITED, Window


@dataclass(frozen=True, kw_only=True)
class MaxPool:
    """Window pads may exceed the model's own (ceil_mode is expressed by larger pads). `clamp` limits the real output."""

    window: Window
    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        return TensorType(*self.window.output_size(x.height, x.width), x.channels)

    def work(self, *types: TensorType) -> int:
        return 0
