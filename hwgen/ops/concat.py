"""Concatenation along rows (axis 0), columns (1) or channels (2) of the channels-last image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, limited


@dataclass(frozen=True, kw_only=True)
class Concat:
    """All inputs and the output share one quantization."""

    axis: int = 2

    def infer(self, *types: TensorType) -> TensorType:
        def others(kind: TensorType) -> tuple[int, ...]:
            return kind.shape[: self.axis] + kind.shape[self.axis + 1 :]

        for kind in types[1:]:
            if others(kind) != others(types[0]):
                raise ModelError(f"Concat: inputs must agree in all dimensions but {self.axis}, not {types[0].shape} and {kind.shape}")
        shape = list(types[0].shape)
        shape[self.axis] = sum(kind.shape[self.axis] for kind in types)
        return limited("Concat", TensorType(*shape))

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return np.concatenate(arrays, axis=self.axis + 1)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        a, b, c = TensorType(3, 4, 5), TensorType(3, 4, 18), TensorType(3, 1, 5)
        return (
            Example(op=Concat(), inputs=(a, b, a)),
            Example(op=Concat(axis=0), inputs=(a, a)),
            Example(op=Concat(axis=1), inputs=(a, c)),
        )
