"""The dynamic range of weights, channel by channel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.quantize.metrics import decibel

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightStatistics:
    """Of one convolution. `boxes` (C, 5): least, lower quartile, median, upper quartile, greatest weight of each output channel;
    `limits` (C,): what the greatest code means; `sqnr_db` of the rounded weights; `codes`: distinct ones in use; `kind`: the narrowest
    format that holds them."""

    boxes: Boxes
    limits: npt.NDArray[np.float64]
    rms: npt.NDArray[np.float64]
    sqnr_db: float
    codes: int
    kind: WeightFormat

    @property
    def magnitudes(self) -> npt.NDArray[np.float64]:
        """(C,) greatest magnitude of each channel."""
        return np.maximum(-self.boxes[:, 0], self.boxes[:, 4])

    @property
    def median(self) -> float:
        """Greatest magnitude of the median channel, of those that are not all zero; 0 where there is none."""
        used = self.magnitudes[self.magnitudes > 0]
        return float(np.median(used)) if used.size else 0.0

    @property
    def spread(self) -> float:
        """Greatest magnitude of a channel / that of the median channel; 1 where all weights are zero."""
        return float(self.magnitudes.max()) / self.median if self.median else 1.0

    @property
    def peak(self) -> float:
        """The largest ratio of a channel's greatest magnitude to its root mean square."""
        used = self.rms > 0
        return float((self.magnitudes[used] / self.rms[used]).max()) if used.any() else 1.0

    @property
    def one_scale(self) -> bool:
        """All channels share one scale, and there are several."""
        return len(self.limits) > 1 and bool((self.limits == self.limits[0]).all())


def weight_statistics(real: Conv, quantized: Conv) -> WeightStatistics:
    """Of a float convolution and its quantized form."""
    assert quantized.weight_scale is not None
    weight = real.weight.astype(np.float64).reshape(real.channels, -1)
    scale = np.asarray(quantized.weight_scale, np.float64)
    codes = quantized.weight.reshape(real.channels, -1)
    error = codes * scale[:, None] - weight
    return WeightStatistics(
        boxes=np.percentile(weight, [0, 25, 50, 75, 100], axis=1).T,
        limits=scale * quantized.weight_format.high,
        rms=np.sqrt((weight**2).mean(axis=1)),
        sqnr_db=decibel(float((weight**2).sum()), float((error**2).sum())),
        codes=len(np.unique(codes)),
        kind=quantized.weight_format,
    )
