"""Constant padding that no window could absorb; negative pads crop."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, Pads, limited, padded


@dataclass(frozen=True, kw_only=True)
class Pad:
    """pads (top, left, bottom, right) filled with the real `value`. Input and output share one quantization."""

    pads: Pads
    value: float = 0.0

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        top, left, bottom, right = self.pads
        crops = [(x.height, min(top, 0) + min(bottom, 0)), (x.width, min(left, 0) + min(right, 0))]
        if any(size + crop < 1 for size, crop in crops):
            raise ModelError(f"Pad: pads {self.pads} must leave something of the image {x.height}x{x.width}")
        return limited("Pad", TensorType(x.height + top + bottom, x.width + left + right, x.channels))

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return padded(x, self.pads, self.value)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(4, 5, 6)
        return (Example(op=Pad(pads=(1, 0, 2, 3)), inputs=(x,)), Example(op=Pad(pads=(-1, 2, 0, -2), value=0.5), inputs=(x,)))
