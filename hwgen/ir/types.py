"""What is known of a value: shape, and after quantization its integer meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class TensorType:
    """Shape of one activation without its batch dimension. Every activation array is channels-last: (N, height, width, channels)."""

    height: int
    width: int
    channels: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return (self.height, self.width, self.channels)

    @property
    def elements(self) -> int:
        return self.height * self.width * self.channels


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """real = scale * (q - zero_point), q in int8.

    hwgen computes in int8 throughout. `unsigned` says that the outside world (ONNX files, saved outputs) sees q + 128 as uint8,
    with zero point + 128: a change of name only.
    """

    scale: np.float32
    zero_point: int
    unsigned: bool = False

    @property
    def outside_offset(self) -> int:
        return 128 if self.unsigned else 0

    def quantize(self, real: FloatArray) -> npt.NDArray[np.int8]:
        """Nearest int8 (ties to even) as ONNX QuantizeLinear: saturate(rint(x / scale) + zero_point), divided in float32."""
        q = np.rint(np.asarray(real, np.float32) / self.scale) + np.float32(self.zero_point)
        saturated: npt.NDArray[np.int8] = np.clip(q, -128, 127).astype(np.int8)
        return saturated

    def dequantize(self, q: IntArray) -> npt.NDArray[np.float32]:
        """As ONNX DequantizeLinear, in float32."""
        return (q.astype(np.int32) - self.zero_point).astype(np.float32) * self.scale

    def outside(self, q: IntArray) -> IntArray:
        """int8 as stored here -> uint8 or int8 as the outside world sees it."""
        return (q.astype(np.int16) + 128).astype(np.uint8) if self.unsigned else q.astype(np.int8)
