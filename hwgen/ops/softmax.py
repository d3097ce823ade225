"""Softmax between operators of the accelerator, on the processor."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.errors import ModelError
from hwgen.ir import host
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example

LONGEST = 1 << 16  # elements of one sum


@dataclass(frozen=True, kw_only=True)
class Softmax:
    """exp(x) / sum(exp(x)) along `axis` of (N, H, W, C): 1, 2 or 3."""

    axis: int

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if self.axis not in (1, 2, 3):
            raise ModelError(f"Softmax: axis must be 1, 2 or 3, not {self.axis}")
        if x.shape[self.axis - 1] > LONGEST:
            raise ModelError(f"Softmax: must run over at most {LONGEST} elements, not {x.shape[self.axis - 1]}")
        return x

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return host.Softmax(axis=self.axis).apply(x)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(3, 5, 7)
        return tuple(Example(op=Softmax(axis=axis), inputs=(x,)) for axis in (1, 2, 3))
