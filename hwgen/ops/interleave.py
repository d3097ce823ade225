"""Images between whose rows and columns the rows and columns of others lie: what the compiler makes of enlargements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Pair


@dataclass(frozen=True, kw_only=True)
class Interleave:
    """y[i * rows + a, j * columns + b] = x_k[i, j] with k = a * columns + b, for the factors (rows, columns) and as many inputs of one
    shape. All inputs and the output share one quantization. Only in prepared graphs."""

    factors: Pair

    @property
    def count(self) -> int:
        """Number of inputs."""
        return self.factors[0] * self.factors[1]

    def infer(self, *types: TensorType) -> TensorType:
        first = types[0]
        if len(types) != self.count or any(kind != first for kind in types):
            raise ModelError(f"Interleave: must have {self.count} inputs of one shape, not {[kind.shape for kind in types]}")
        return TensorType(first.height * self.factors[0], first.width * self.factors[1], first.channels)

    def join(self, *arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(N, H, W, C) each -> (N, H * rows, W * columns, C)."""
        rows, columns = self.factors
        n, height, width, channels = arrays[0].shape
        result = np.empty((n, height * rows, width * columns, channels), arrays[0].dtype)
        for k, array in enumerate(arrays):
            result[:, k // columns :: rows, k % columns :: columns] = array
        return result

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return self.join(*arrays)

    def work(self, *types: TensorType) -> int:
        return 0
