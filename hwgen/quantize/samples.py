"""Float values of a network on some inputs, as far as they are kept for repairs, and what each channel takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.ir.evaluate import array_of, evaluate, require_one_batch
from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray
from hwgen.ops.base import padded
from hwgen.ops.conv import Conv

MOST_BYTES = 1 << 28  # of float values
LEAST_SQUARE = 1e-30
Channels = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelRange:
    """(C,) extremes (zero among them) and mean squares of one value's channels."""

    low: Channels
    high: Channels
    mean_square: Channels

    def divided(self, by: Channels) -> ChannelRange:
        return ChannelRange(low=self.low / by, high=self.high / by, mean_square=self.mean_square / by**2)

    @property
    def magnitude(self) -> Channels:
        return np.maximum(self.high, -self.low)


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """`arrays`: inputs of the network by name, as the user gives them. `values`: every value (N, H, W, C) that they give. `made_up`: no
    data, but what is known without data (see hwgen.quantize.synthetic); then only what each layer sees on its own is taken from them."""

    arrays: Mapping[str, FloatArray]
    values: Mapping[str, FloatArray]
    made_up: bool = False

    @property
    def count(self) -> int:
        return len(next(iter(self.values.values())))

    def part(self, chosen: slice) -> Samples:
        arrays, values = ({name: array[chosen] for name, array in group.items()} for group in (self.arrays, self.values))
        return replace(self, arrays=arrays, values=values)

    def divided(self, scales: Mapping[str, Channels]) -> Samples:
        """The values of a network in which those named are divided by scales, one per channel."""
        values = dict(self.values)
        for name, by in scales.items():
            values[name] = np.divide(values[name], by.astype(np.float32), dtype=np.float32)
        return replace(self, values=values)

    def channels(self, chosen: slice = slice(None)) -> dict[str, ChannelRange]:
        """What the channels of each value take on the chosen inputs."""
        return {name: _channel_range(value[chosen]) for name, value in self.values.items()}


def _channel_range(value: FloatArray) -> ChannelRange:
    flat = value.reshape(-1, value.shape[3])
    low, high = flat.min(0).astype(np.float64), flat.max(0).astype(np.float64)
    squares = np.einsum("rc,rc->c", flat, flat, dtype=np.float64) / len(flat)
    return ChannelRange(low=np.minimum(low, 0), high=np.maximum(high, 0), mean_square=squares + LEAST_SQUARE)


def collect(graph: Graph, arrays: Mapping[str, FloatArray]) -> Samples:
    """The values on as many of the inputs, evenly chosen, as MOST_BYTES allow."""
    own = {entry.name: array_of(entry, arrays) for entry in graph.inputs}
    total = require_one_batch(own)
    per_input = 4 * sum(value.type.elements for value in graph.values.values())
    step = -(-total // max(1, min(total, MOST_BYTES // per_input)))
    chosen = {name: np.asarray(array[::step], np.float32) for name, array in own.items()}
    return Samples(arrays=chosen, values=evaluate(graph, chosen, outside=False))


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Output pixels of a convolution on a batch: arrays of equal length."""

    inputs: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    columns: npt.NDArray[np.int64]


def choose_places(node: Node, graph: Graph, count: int, most: int) -> Places:
    """At most `most` output pixels of `count` inputs, the same on every run."""
    kind = graph.values[node.output].type
    total = count * kind.height * kind.width
    numbers = np.arange(total)
    if total > most:
        numbers = np.sort(np.random.default_rng(len(node.name)).choice(total, most, replace=False))
    inputs, rows, columns = np.unravel_index(numbers, (count, kind.height, kind.width))
    return Places(inputs=inputs, rows=rows, columns=columns)


def patches_at(op: Conv, x: npt.NDArray[np.generic], fill: float, places: Places) -> npt.NDArray[np.float32]:
    """(group, places, weights per output): what the kernel meets there, in the order of `matrix`; cells outside the image are `fill`."""
    image = padded(op.image(x, fill), op.window.pads, fill)
    (count, height, width), channels = image.shape[:3], image.shape[3]
    kernel, (row_step, column_step), (row_gap, column_gap) = op.window.kernel, op.window.strides, op.window.dilations
    by_input, by_row, by_column, by_channel = image.strides
    view = np.lib.stride_tricks.as_strided(
        image,
        (count, (height - op.window.extent[0]) // row_step + 1, (width - op.window.extent[1]) // column_step + 1, *kernel, channels),
        (by_input, by_row * row_step, by_column * column_step, by_row * row_gap, by_column * column_gap, by_channel),
        writeable=False,
    )
    found = view[places.inputs, places.rows, places.columns].astype(np.float32)
    grouped = found.reshape(len(found), *kernel, op.group, channels // op.group).transpose(3, 0, 1, 2, 4)
    return grouped.reshape(op.group, len(found), -1)


def matrix(op: Conv, array: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Weights (C_out, ...) as (group, outputs of the group, weights per output)."""
    return array.astype(np.float64).reshape(op.group, op.channels // op.group, -1)
