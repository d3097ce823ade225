"""Convolution, dense, grouped or depthwise; a fully connected layer is a convolution whose kernel covers the image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, IntArray, TensorType
from hwgen.ops.base import UNLIMITED, Example, Interval, Pair, Window, limit
from hwgen.packing import WeightFormat, narrowest


@dataclass(frozen=True, kw_only=True, eq=False)
class Conv:
    """weight (C_out, kernel rows, kernel columns, C_in / group), bias (C_out,).

    In a float graph both are float32 and `weight_scale` is None. In a quantized graph weight is int8, or int16 where 8-bit codes less
    their zero point need 9 bits; bias is int32 (without the activation zero point folded), in units of 2**-bias_fraction products; and
    weight_scale is float32 (C_out,).
    `spread`: the window slides over an image in which the input's pixels lie so many rows and columns apart, with zeros between: 1 but
    in transposed convolutions (whose kernel ONNX stores turned by 180 degrees, with inputs first).
    `clamp` limits the real-valued output (ReLU, ReLU6, ...); its ends are scalars, or tuples with one entry per output channel.
    `moments`: mean and standard deviation (C_out,) that the real-valued output had in training before its clamp, where batch
    normalization tells.
    """

    weight: FloatArray | IntArray
    bias: FloatArray | IntArray
    window: Window
    group: int = 1
    clamp: Interval = UNLIMITED
    weight_scale: FloatArray | None = None
    bias_fraction: int = 0
    spread: Pair = (1, 1)
    moments: tuple[FloatArray, FloatArray] | None = None

    @property
    def channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def codes(self) -> IntArray:
        """`weight` in a quantized graph."""
        return cast(IntArray, self.weight)

    @property
    def weight_format(self) -> WeightFormat:
        """How the weights of a quantized graph can be stored: in as few bits as their values ask for."""
        return narrowest(self.codes)

    @property
    def is_depthwise(self) -> bool:
        """Each output channel reads one input channel, and there is more than one of them."""
        return self.group > 1 and self.weight.shape[3] == 1

    @property
    def is_lane_wise(self) -> bool:
        """Each output channel reads the input channel of its own number, and no other."""
        return self.group == self.channels and self.weight.shape[3] == 1

    def infer(self, *types: TensorType) -> TensorType:
        (x,) = types
        if self.group < 1 or self.channels % self.group:
            raise ModelError(f"Conv: group must be at least 1 and divide the {self.channels} output channels, not {self.group}")
        if x.channels != self.weight.shape[3] * self.group:
            raise ModelError(f"Conv: input channels must be {self.weight.shape[3] * self.group} (weights x group), not {x.channels}")
        if any(np.size(end) not in (1, self.channels) for end in self.clamp):
            raise ModelError(f"Conv: clamp must have 1 or {self.channels} limits (output channels), not {np.size(self.clamp[0])} and {np.size(self.clamp[1])}")
        if min(self.spread) < 1:
            raise ModelError(f"Conv: spread must be at least 1, not {self.spread}")
        return self.window.infer("Conv", TensorType(*self._spread_size(x.height, x.width), x.channels), self.channels)

    @property
    def is_transposed(self) -> bool:
        return self.spread != (1, 1)

    def _spread_size(self, height: int, width: int) -> Pair:
        return (height - 1) * self.spread[0] + 1, (width - 1) * self.spread[1] + 1

    def image(self, x: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """What the window slides over: x (N, H, W, C), with `fill` between its pixels."""
        if not self.is_transposed:
            return x
        result = np.full((len(x), *self._spread_size(*x.shape[1:3]), x.shape[3]), fill, x.dtype)
        result[:, :: self.spread[0], :: self.spread[1]] = x
        return result

    def reference(self, *arrays: FloatArray) -> FloatArray:
        x = self.image(arrays[0], 0.0)
        y = self.depthwise_sums(x, self.weight, 0.0) if self.is_depthwise else self.dense_sums(x, self.weight, 0.0)
        y += self.bias
        return limit(y, self.clamp)

    def depthwise_sums(self, x: npt.NDArray[Any], weight: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """(N, OH, OW, C_out) of a depthwise convolution without bias, in the type of x * weight; outside cells of the image are `fill`."""
        multiplier = self.channels // self.group
        total: npt.NDArray[Any] | None = None
        for row, column, tap in self.window.taps(x, fill):
            product = (np.repeat(tap, multiplier, axis=3) if multiplier > 1 else tap) * weight[:, row, column, 0]
            total = product if total is None else np.add(total, product, out=total)
        assert total is not None
        return total

    def dense_sums(self, x: npt.NDArray[Any], weight: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """As `depthwise_sums`, of any other convolution."""
        patches, outputs, inputs = self.window.patches(x, fill), self.channels // self.group, int(weight.shape[3])
        matrices = weight.reshape(self.group, outputs, -1)
        parts = [patches[..., g * inputs : (g + 1) * inputs].reshape(-1, matrices.shape[2]) @ matrix.T for g, matrix in enumerate(matrices)]
        return (parts[0] if self.group == 1 else np.concatenate(parts, axis=1)).reshape(*patches.shape[:3], self.channels)

    def work(self, *types: TensorType) -> int:
        if self.is_transposed:
            return types[0].elements // self.group * self.channels * self.window.area
        return self.infer(*types).elements * int(self.weight[0].size)

    @staticmethod
    def examples() -> tuple[Example, ...]:
        def example(x: TensorType, channels: int, window: Window, group: int = 1, clamp: Interval = UNLIMITED, spread: Pair = (1, 1)) -> Example:
            rng = np.random.default_rng(channels)
            weight = rng.normal(size=(channels, *window.kernel, x.channels // group)).astype(np.float32)
            bias = rng.normal(size=channels).astype(np.float32)
            return Example(op=Conv(weight=weight, bias=bias, window=window, group=group, clamp=clamp, spread=spread), inputs=(x,))

        image = TensorType(7, 6, 6)
        return (
            example(image, 5, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), clamp=(0.0, np.inf)),
            example(image, 17, Window(kernel=(1, 1), strides=(2, 2)), clamp=(0.0, 6.0)),
            example(image, 4, Window(kernel=(3, 2), strides=(2, 1), pads=(0, 1, 2, 0), dilations=(2, 3))),
            example(image, 6, Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)), group=6, clamp=(0.0, (0.25, 0.5, 1.0, 2.0, 3.0, 0.75))),
            example(image, 12, Window(kernel=(5, 1), pads=(2, 0, 2, 0)), group=6),
            example(image, 9, Window(kernel=(2, 2)), group=3),
            example(image, 10, Window(kernel=(7, 6)), clamp=(tuple(-0.1 * c for c in range(10)), np.inf)),
            example(TensorType(9, 8, 1), 3, Window(kernel=(5, 5))),
            example(image, 5, Window(kernel=(2, 2), pads=(1, 1, 1, 1)), spread=(2, 2), clamp=(0.0, np.inf)),
            example(TensorType(3, 4, 7), 3, Window(kernel=(3, 4), pads=(2, 1, 3, 2), dilations=(2, 1)), spread=(3, 2)),
            example(TensorType(1, 1, 40), 1, Window(kernel=(1, 1))),
        )


def scaling(scale: FloatArray, offset: FloatArray | None = None, clamp: Interval = UNLIMITED) -> Conv:
    """clamp(x * scale + offset) with one `scale` and `offset` per channel: float32 (C,)."""
    bias = np.zeros(len(scale), np.float32) if offset is None else offset
    return Conv(weight=scale.reshape(-1, 1, 1, 1), bias=bias, window=Window(kernel=(1, 1)), group=len(scale), clamp=clamp)
