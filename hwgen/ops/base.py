"""What every operator answers, and the window geometry that convolution and pooling share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from hwgen.ir.types import FloatArray, TensorType

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right

UNLIMITED = (-np.inf, np.inf)


class Operator(Protocol):
    """One frozen dataclass per operator, one file per operator. Arrays are channels-last with a leading batch: (N, H, W, C)."""

    def infer(self, *types: TensorType) -> TensorType:
        """Output type; raises ModelError when the inputs do not fit."""

    def reference(self, *arrays: FloatArray) -> FloatArray:
        """Float meaning, float32 in and out (accumulating at least in float32)."""

    def work(self, *types: TensorType) -> int:
        """Multiply-accumulates for one input."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """A kernel sliding over an image: pairs are (rows, columns), pads are (top, left, bottom, right)."""

    kernel: Pair
    strides: Pair = (1, 1)
    pads: Pads = (0, 0, 0, 0)
    dilations: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Rows and columns that the dilated kernel spans."""
        return ((self.kernel[0] - 1) * self.dilations[0] + 1, (self.kernel[1] - 1) * self.dilations[1] + 1)

    def output_size(self, height: int, width: int) -> Pair:
        top, left, bottom, right = self.pads
        return (
            (height + top + bottom - self.extent[0]) // self.strides[0] + 1,
            (width + left + right - self.extent[1]) // self.strides[1] + 1,
        )
