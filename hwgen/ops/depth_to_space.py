"""Channels that become pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, limited


@dataclass(frozen=True, kw_only=True)
class DepthToSpace:
    """y[i * block + a, j * block + b, c] = x[i, j, channel] with channel = (a * block + b) * C + c, or where the pixels of a channel lie
    together (ONNX: mode CRD) c * block**2 + a * block + b; C output channels. Input and output share one quantization."""

    block: int
    together: bool = False

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if self.block < 1 or x.channels % self.block**2:
            raise ModelError(f"DepthToSpace: block**2 must divide the {x.channels} channels, not be {self.block}**2")
        return limited("DepthToSpace", TensorType(x.height * self.block, x.width * self.block, x.channels // self.block**2))

    def part(self, index: int, channels: int) -> range:
        """Of so many input channels those that go to pixel `index` = a * block + b of each square."""
        count = self.block**2
        return range(index, channels, count) if self.together else range(index * channels // count, (index + 1) * channels // count)

    def spread(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """x (N, H, W, channels) as (N, H * block, W * block, C)."""
        y = self.infer(TensorType(*x.shape[1:]))
        result = np.empty((len(x), *y.shape), x.dtype)
        for index in range(self.block**2):
            a, b = divmod(index, self.block)
            result[:, a :: self.block, b :: self.block] = x[..., list(self.part(index, x.shape[3]))]
        return result

    def reference(self, *arrays: FloatArray) -> FloatArray:
        return self.spread(arrays[0])

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        return (
            Example(op=DepthToSpace(block=2), inputs=(TensorType(3, 4, 20),)),
            Example(op=DepthToSpace(block=2, together=True), inputs=(TensorType(2, 3, 12),)),
            Example(op=DepthToSpace(block=3), inputs=(TensorType(1, 2, 9),)),
        )
