"""Mean over a window; the divisor may differ at the borders."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.ir.types import TensorType
from hwgen.ops.base import UNLIMITED, Pads, Window


@dataclass(frozen=True, kw_only=True)
class AveragePool:
    """`window.pads` give the geometry (ceil_mode is expressed by larger pads). A padded cell adds zero to the sum, and counts in the
    divisor only inside `counted_pads` (top, left, bottom, right): all zero for count_include_pad=0."""

    window: Window
    counted_pads: Pads = (0, 0, 0, 0)
    clamp: tuple[float, float] = UNLIMITED

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        return TensorType(*self.window.output_size(x.height, x.width), x.channels)

    def work(self, *types: TensorType) -> int:
        return 0
