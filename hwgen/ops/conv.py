"""Convolution, dense, grouped or depthwise; a fully connected layer is a convolution whose kernel covers the image."""

from __future__ import annotations

from dataclasses import dataclass

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, IntArray, TensorType
from hwgen.ops.base import UNLIMITED, Window


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """weight (C_out, kernel rows, kernel columns, C_in / group), bias (C_out,).

    In a float graph both are float32 and `weight_scale` is None. In a quantized graph weight is int8 with zero point 0, bias is
    int32 (without the activation zero point folded), and weight_scale is float32 (C_out,).
    `clamp` limits the real-valued output (ReLU, ReLU6, ...): two scalars.
    """

    weight: FloatArray | IntArray
    bias: FloatArray | IntArray
    window: Window
    group: int = 1
    clamp: tuple[float, float] = UNLIMITED
    weight_scale: FloatArray | None = None

    @property
    def channels(self) -> int:
        return int(self.weight.shape[0])

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if x.channels != self.weight.shape[3] * self.group:
            raise ModelError(f"Conv: input channels must be {self.weight.shape[3] * self.group} (weights x group), not {x.channels}")
        height, width = self.window.output_size(x.height, x.width)
        if height < 1 or width < 1:
            raise ModelError(f"Conv: kernel {self.window.extent} with pads {self.window.pads} is larger than the image {x.height}x{x.width}")
        return TensorType(height, width, self.channels)

    def work(self, *types: TensorType) -> int:
        y = self.infer(*types)
        return y.elements * int(self.weight[0].size)
