"""Nearest-neighbour enlargement by whole factors: every pixel becomes a rectangle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, Pair, limited


@dataclass(frozen=True, kw_only=True)
class Resize:
    """y[i, j] = x[i // rows, j // columns] for the factors (rows, columns). Input and output share one quantization."""

    factors: Pair

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if min(self.factors) < 1:
            raise ModelError(f"Resize: factors must be at least 1, not {self.factors}")
        return limited("Resize", TensorType(x.height * self.factors[0], x.width * self.factors[1], x.channels))

    def enlarged(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """x (N, H, W, C) with every pixel repeated."""
        return x.repeat(self.factors[0], axis=1).repeat(self.factors[1], axis=2)

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return self.enlarged(arrays[0])

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return (
            Example(op=Resize(factors=(2, 2)), inputs=(TensorType(3, 4, 5),)),
            Example(op=Resize(factors=(1, 3)), inputs=(TensorType(4, 3, 19),)),
            Example(op=Resize(factors=(5, 4)), inputs=(TensorType(1, 1, 8),)),
        )
