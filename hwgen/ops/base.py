"""What every operator answers, and the window geometry that convolution and pooling share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from hwgen.errors import ModelError
from hwgen.ir.types import FloatArray, IntArray, TensorType

Pair = tuple[int, int]
Pads = tuple[int, int, int, int]  # top, left, bottom, right
Limit = float | tuple[float, ...]  # one for all channels, or one for each
Interval = tuple[Limit, Limit]

UNLIMITED = (-np.inf, np.inf)
MAX_ELEMENTS = 1 << 28  # of one activation; a hostile shape must not exhaust the memory


class Operator(Protocol):
    """One frozen dataclass per operator, one file per operator. Arrays are channels-last with a leading batch: (N, H, W, C)."""

    def infer(self, *types: TensorType) -> TensorType:
        """Output type; raises ModelError when the inputs do not fit."""

    def reference(self, *arrays: FloatArray) -> FloatArray:
        """Float meaning, float32 in and out (accumulating at least in float32)."""

    def work(self, *types: TensorType) -> int:
        """Multiply-accumulates for one input."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A small legal use of an operator, for conformance tests of every stage."""

    op: Operator
    inputs: tuple[TensorType, ...]


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

    @property
    def is_pointwise(self) -> bool:
        """Each output cell reads exactly the input cell at the same place."""
        return self.kernel == (1, 1) and self.strides == (1, 1) and not any(self.pads)

    def output_size(self, height: int, width: int) -> Pair:
        top, left, bottom, right = self.pads
        return (
            (height + top + bottom - self.extent[0]) // self.strides[0] + 1,
            (width + left + right - self.extent[1]) // self.strides[1] + 1,
        )

    def infer(self, operator: str, x: TensorType, channels: int) -> TensorType:
        """Type of an output of `channels` channels; raises ModelError for a kernel that does not fit or a result too large."""
        if min(*self.kernel, *self.strides, *self.dilations) < 1 or min(self.pads) < 0:
            raise ModelError(f"{operator}: kernel, strides and dilations must be at least 1 and pads at least 0, not {self}")
        height, width = self.output_size(x.height, x.width)
        if height < 1 or width < 1:
            raise ModelError(f"{operator}: kernel {self.extent} with pads {self.pads} is larger than the image {x.height}x{x.width}")
        top, left, bottom, right = self.pads
        limited(operator, TensorType(x.height + top + bottom, x.width + left + right, x.channels), "padded image")
        return limited(operator, TensorType(height, width, channels))

    def counts(self, x: TensorType, counted_pads: Pads = (0, 0, 0, 0)) -> IntArray:
        """(OH, OW): how many cells of each window lie inside the image enlarged by `counted_pads`."""
        rows, columns = self._counts_by_axis(x, counted_pads)
        cells: IntArray = rows[:, None] * columns
        return cells

    def _counts_by_axis(self, x: TensorType, counted: Pads) -> tuple[IntArray, IntArray]:
        def along(axis: int, outputs: int, length: int) -> IntArray:
            starts = np.arange(outputs) * self.strides[axis] - self.pads[axis]
            first = -((starts + counted[axis]) // self.dilations[axis])  # smallest k with start + k * dilation >= -counted
            beyond = -((starts - length - counted[axis + 2]) // self.dilations[axis])
            inside: IntArray = np.maximum(np.minimum(beyond, self.kernel[axis]) - np.maximum(first, 0), 0)
            return inside

        size = self.output_size(x.height, x.width)
        return along(0, size[0], x.height), along(1, size[1], x.width)

    @property
    def area(self) -> int:
        """Cells of the kernel."""
        return self.kernel[0] * self.kernel[1]

    def meets(self, x: TensorType) -> bool:
        """Every window covers at least one cell of the image: none lies in padding only."""
        rows, columns = self._counts_by_axis(x, (0, 0, 0, 0))
        return bool(rows.min() > 0 and columns.min() > 0)

    def taps(self, x: npt.NDArray[Any], fill: float) -> Iterator[tuple[int, int, npt.NDArray[Any]]]:
        """For each kernel cell (row, column): the strided view (N, OH, OW, C) of what it meets, outside cells being `fill`."""
        height, width = self.output_size(x.shape[1], x.shape[2])
        image = padded(x, self.pads, fill)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                top, left = row * self.dilations[0], column * self.dilations[1]
                rows = slice(top, top + (height - 1) * self.strides[0] + 1, self.strides[0])
                columns = slice(left, left + (width - 1) * self.strides[1] + 1, self.strides[1])
                yield row, column, image[:, rows, columns]

    def maximum(self, x: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """(N, OH, OW, C), the greatest cell of each window; outside cells are `fill`."""
        taps = (tap for _, _, tap in self.taps(x, fill))
        best = next(taps).copy()
        for tap in taps:
            np.maximum(best, tap, out=best)
        return best

    def sums(self, x: npt.NDArray[Any], fill: float, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """(N, OH, OW, C) of `dtype`, the sum of each window's cells; outside cells are `fill`."""
        if self.kernel == x.shape[1:3] and not any(self.pads):
            whole: npt.NDArray[Any] = x.sum(axis=(1, 2), keepdims=True, dtype=dtype)  # one pass
            return whole
        taps = (tap for _, _, tap in self.taps(x, fill))
        total = next(taps).astype(dtype)
        for tap in taps:
            total += tap
        return total

    def patches(self, x: npt.NDArray[Any], fill: float) -> npt.NDArray[Any]:
        """(N, OH, OW, kernel rows, kernel columns, C), a copy; of a pointwise window a view."""
        if self.is_pointwise:
            return x[:, :, :, None, None]
        height, width = self.output_size(x.shape[1], x.shape[2])
        if self.dilations[1] == 1:
            return self._patches_by_rows(padded(x, self.pads, fill), height, width)
        result = np.empty((len(x), height, width, *self.kernel, x.shape[3]), x.dtype)
        for row, column, tap in self.taps(x, fill):
            result[:, :, :, row, column] = tap
        return result

    def _patches_by_rows(self, image: npt.NDArray[Any], height: int, width: int) -> npt.NDArray[Any]:
        """Patches of a padded image, copied a whole kernel row at a time: its cells lie side by side."""
        image = np.ascontiguousarray(image)
        n, _, _, channels = image.shape
        step_n, step_row, step_column, step = image.strides
        view = np.lib.stride_tricks.as_strided(
            image,
            (n, height, width, self.kernel[0], self.kernel[1] * channels),
            (step_n, step_row * self.strides[0], step_column * self.strides[1], step_row * self.dilations[0], step),
            writeable=False,
        )
        return np.ascontiguousarray(view).reshape(n, height, width, *self.kernel, channels)


def limited(operator: str, kind: TensorType, what: str = "result") -> TensorType:
    """`kind`, or a ModelError when it holds more elements than hwgen ever handles."""
    if kind.elements > MAX_ELEMENTS:
        raise ModelError(f"{operator}: {what} {kind.shape} must hold at most {MAX_ELEMENTS} elements")
    return kind


def padded(x: npt.NDArray[Any], pads: Pads, fill: float) -> npt.NDArray[Any]:
    """x (N, H, W, C) with borders of `fill`; negative pads crop."""
    top, left, bottom, right = pads
    cropped = x[:, max(-top, 0) : x.shape[1] - max(-bottom, 0), max(-left, 0) : x.shape[2] - max(-right, 0)]
    top, left, bottom, right = (max(pad, 0) for pad in pads)
    if not (top or left or bottom or right):
        return cropped
    n, height, width, channels = cropped.shape
    result = np.full((n, height + top + bottom, width + left + right, channels), fill, x.dtype)
    result[:, top : top + height, left : left + width] = cropped
    return result


def ceil_padding(head: int, end: int, extent: int, stride: int) -> int:
    """What ONNX's ceil_mode pads beyond `end` for the last, partial window; none where that window would start beyond the `head` cells
    of the image and the padding before it."""
    outputs = max(-(-(head + end - extent) // stride), 0) + 1
    if (outputs - 1) * stride >= head:
        outputs -= 1
    return max((outputs - 1) * stride + extent - head - end, 0)


def clamp_of(op: Operator) -> Interval:
    """The real interval to which an operator limits its result."""
    clamp: Interval = getattr(op, "clamp", UNLIMITED)
    return clamp


def limiting(clamp: Interval) -> tuple[FloatArray | None, FloatArray | None]:
    """The ends of a clamp, (C,) or one for all; None for one that limits nothing."""
    low, high = (np.asarray(end, np.float32) for end in clamp)
    return low if (low > -np.inf).any() else None, high if (high < np.inf).any() else None


def limit(x: FloatArray, clamp: Interval) -> FloatArray:
    """x (..., C) inside the real interval `clamp`; high wins where low > high."""
    low, high = limiting(clamp)
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def channel_limits(ends: FloatArray) -> Limit:
    """(C,) ends of intervals in their shortest form: one number where all are equal."""
    return float(ends[0]) if (ends == ends[0]).all() else tuple(ends.tolist())


def narrowed(clamp: Interval, by: Interval) -> Interval:
    """What first `clamp` and then `by` limit to, together."""
    low, high = (np.minimum(np.maximum(end, by[0]), by[1]).reshape(-1) for end in clamp)
    return channel_limits(low), channel_limits(high)


def require_cells(operator: str, window: Window, x: TensorType) -> None:
    """Raises ModelError when some window of a pooling covers padding only: its result would have no meaning."""
    if not window.meets(x):
        raise ModelError(f"{operator}: every window must meet the image {x.height}x{x.width}; kernel {window.kernel} with pads {window.pads} does not")
