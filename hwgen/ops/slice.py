"""A part of the image: every step-th row, column and channel from a first one on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, TensorType
from hwgen.ops.base import Example, Window

Triple = tuple[int, int, int]  # rows, columns, channels


@dataclass(frozen=True, kw_only=True)
class Slice:
    """`counts` rows, columns and channels, from `starts` on, `steps` apart. Input and output share one quantization."""

    starts: Triple
    counts: Triple
    steps: Triple = (1, 1, 1)

    @property
    def window(self) -> Window:
        """What an output pixel reads of the image; negative pads crop."""
        return Window(kernel=(1, 1), strides=self.steps[:2], pads=(-self.starts[0], -self.starts[1], 0, 0))

    @property
    def channels(self) -> range:
        """The input's channels that are kept."""
        return range(self.starts[2], self.starts[2] + self.counts[2] * self.steps[2], self.steps[2])

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        for start, count, step, size in zip(self.starts, self.counts, self.steps, x.shape, strict=True):
            if min(start, count - 1, step - 1) < 0 or start + (count - 1) * step >= size:
                raise ModelError(f"Slice: must lie inside the image {x.shape}, not start at {self.starts} with {self.counts} in steps of {self.steps}")
        return TensorType(*self.counts)

    def part(self, x: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """The view of x (N, H, W, C)."""
        ends = (start + (count - 1) * step + 1 for start, count, step in zip(self.starts, self.counts, self.steps, strict=True))
        rows, columns, channels = (slice(start, end, step) for start, end, step in zip(self.starts, ends, self.steps, strict=True))
        return x[:, rows, columns, channels]

    def reference(self, *arrays: FloatArray) -> FloatArray:
        (x,) = arrays
        return np.ascontiguousarray(self.part(x), np.float32)

    def work(self, *types: TensorType) -> int:
        return 0

    @staticmethod
    def examples() -> tuple[Example, ...]:
        x = TensorType(7, 6, 21)
        return (
            Example(op=Slice(starts=(2, 0, 0), counts=(4, 6, 21)), inputs=(x,)),
            Example(op=Slice(starts=(1, 2, 0), counts=(2, 2, 21), steps=(3, 2, 1)), inputs=(x,)),
            Example(op=Slice(starts=(0, 0, 3), counts=(7, 6, 9)), inputs=(x,)),
            Example(op=Slice(starts=(0, 1, 1), counts=(4, 5, 5), steps=(2, 1, 4)), inputs=(x,)),
        )
