"""Equalization: channels of a stream get scales with which activations and weights fill their ranges.

What a scaling costs is predicted from ranges and weights, and the best of a family of scalings is taken. The family holds the one of
Nagel et al., "Data-Free Quantization", ICCV 2019, section 4.1 (square root of the ratio of weight ranges), and those that weigh activation
ranges too (Xiao et al., "SmoothQuant", ICML 2023, section 4).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from hwgen.ir.graph import Graph, Node
from hwgen.ops.conv import Conv
from hwgen.quantize.options import Granularity, QuantizeOptions, Scheme
from hwgen.quantize.samples import ChannelRange, Channels
from hwgen.quantize.schemes import powers_of_two, steps
from hwgen.quantize.streams import Stream, divide, divided, streams

GREATEST_SCALE = 2.0**10  # of one channel in one sweep
SWEEPS = 3  # neighbours change what is best; after three nothing is left to gain on the open set
WORTH = 0.99  # a scaling is taken when it leaves less than this share of the predicted noise
EXPONENTS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST_ALONE = 8  # values of a stream whose activations are taken alone, too
FINE_STEPS = 8  # scales tried between one power of two and the next
SNAPPED = 6  # scalings that are tried at every fine step
Cost = Callable[[Channels], Channels]  # (scalings, C) -> (scalings,)


def equalize(
    graph: Graph,
    ranges: Mapping[str, ChannelRange],
    options: QuantizeOptions,
    *,
    additions: bool,
    energy: Mapping[str, Channels] | None = None,
) -> tuple[Graph, dict[str, Channels]]:
    """A float network of the same meaning, and by value what its channels are divided by. `ranges` by value name; `energy`: what noise on
    channels leaves at the network's outputs (see hwgen.quantize.sensitivity), by the values of which it is known."""
    ranges, energy, scales = dict(ranges), dict(energy or {}), dict[str, Channels]()
    for _ in range(SWEEPS):
        changed = False
        for stream in streams(graph, additions=additions):
            by = _best_scaling(_Noise(graph, stream, ranges, energy, options))
            if by is None:
                continue
            graph, scales, changed = divide(graph, stream, by), divided(scales, stream, by), True
            ranges |= {name: ranges[name].divided(by) for name in stream.values}
            energy |= {name: energy[name] * by**2 for name in stream.values if name in energy}
        if not changed:
            break
    return graph, scales


def _best_scaling(model: _Noise) -> Channels | None:
    candidates = _family(model)
    if model.options.scheme is Scheme.POWER_OF_TWO:
        candidates = _on_shifts(model, candidates)
    cost = model.cost(candidates)
    best = int(cost.argmin())
    return candidates[best] if cost[best] < WORTH * cost[0] else None


def _family(model: _Noise) -> Channels:
    """(scalings, C), the first one all ones: activations**p * writers' weights**r / readers' weights**q, their geometric mean 1. Activations
    are those of all values together, and of each alone."""
    writers, readers = (np.log(_positive(numbers)) for numbers in (model.writer_weights, model.reader_weights))
    own_scales = model.options.granularity is Granularity.CHANNEL and model.options.scheme is not Scheme.POWER_OF_TWO
    exponents = [each for each in product(EXPONENTS, (0.0, 0.5) if own_scales else EXPONENTS, EXPONENTS) if any(each) and each[0] + each[1] <= 1]
    rows = [np.zeros_like(writers)]
    for index, magnitude in enumerate((model.activations, *(value.magnitude for value in model.values[: MOST_ALONE * (len(model.values) > 1)]))):
        activations = np.log(_positive(magnitude))
        rows += [p * activations + r * writers - q * readers for p, r, q in exponents if p or not index]
    table = np.array(rows)
    scalings: Channels = np.clip(np.exp(table - table.mean(1, keepdims=True)), 1 / GREATEST_SCALE, GREATEST_SCALE)
    return scalings


def _on_shifts(model: _Noise, candidates: Channels) -> Channels:
    """The best candidates at every fine step between two powers of two, and moved per channel so that weights fill such scales."""
    best = candidates[np.argsort(model.cost(candidates), kind="stable")[:SNAPPED]]
    fine = np.concatenate([best * 2.0 ** (step / FINE_STEPS) for step in range(FINE_STEPS)])
    writers, readers = _positive(model.writer_weights), _positive(model.reader_weights)
    snapped = [weights * 2.0 ** np.round(np.log2(fine / weights)) for weights in (writers, 1 / readers)]
    return np.concatenate([candidates[:1], fine, *snapped])


def _positive(numbers: Channels) -> Channels:
    """Dead channels ask for nothing: they count as the greatest."""
    most = max(float(numbers.max()), float(np.finfo(np.float32).tiny))
    return np.where(numbers > most * 1e-6, numbers, most)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Writer:
    output: str
    weights: Channels  # (C,) greatest magnitudes in units of the greatest code
    power: Channels  # (C,) sum over the weights of the mean squares that they meet


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reader:
    weights: npt.NDArray[np.float64]  # (group, outputs, inputs) the same, over the kernel
    squares: Channels  # (group, 1, inputs) mean squares of what is read, times the kernel's cells
    importance: Channels  # (group, outputs), or one for all: what noise on an output costs


class _Noise:
    """Predicted noise of rounded activations, and of rounded weights on both sides. Roundings are taken as independent and uniform. It is
    that at the network's outputs, where `energy` has all values that the stream and its readers write; else that at the readers'
    outputs, each relative to its power."""

    def __init__(self, graph: Graph, stream: Stream, ranges: Mapping[str, ChannelRange], energy: Mapping[str, Channels], options: QuantizeOptions) -> None:
        self.options = options
        self.values = [ranges[name] for name in stream.values]
        channels = len(self.values[0].low)
        gain, self.reader_weights, self.writer_weights = (np.zeros(channels) for _ in range(3))
        self.activations = np.max([value.magnitude for value in self.values], axis=0)
        self.writers: list[_Writer] = []
        self.readers: list[_Reader] = []
        known = all(name in energy for name in (*stream.values, *stream.readers))
        for node in graph.nodes:
            if node.output in stream.writers:
                self._add_writer(node, ranges[node.inputs[0]])
            if node.output in stream.readers:
                importance = energy[node.output] if known else np.array(1 / float(ranges[node.output].mean_square.mean()))
                gain += self._add_reader(node, ranges[node.inputs[0]], importance)
        self.gains = {name: energy[name] if known else gain for name in stream.values}  # (C,) what noise on a channel costs

    def _add_writer(self, node: Node, x: ChannelRange) -> None:
        op = node.op
        assert isinstance(op, Conv)
        weights = np.abs(op.weight.astype(np.float64)).reshape(op.channels, -1).max(1) / self.options.weights_of(node.name).high
        power = np.repeat(x.mean_square.reshape(op.group, -1).sum(1) * op.window.area, op.channels // op.group)
        self.writer_weights = np.maximum(self.writer_weights, weights)
        self.writers.append(_Writer(output=node.output, weights=weights, power=power))

    def _add_reader(self, node: Node, x: ChannelRange, importance: Channels) -> Channels:
        """(C,) what noise on what it reads costs at its outputs, were all of them equally important."""
        op = node.op
        assert isinstance(op, Conv)
        shape = (op.group, op.channels // op.group, -1)
        weights = np.abs(op.weight.astype(np.float64)).max((1, 2)).reshape(shape) / self.options.weights_of(node.name).high
        self.reader_weights = np.maximum(self.reader_weights, weights.max(1).reshape(-1))
        squares = x.mean_square.reshape(op.group, 1, -1) * op.window.area
        self.readers.append(_Reader(weights=weights, squares=squares, importance=importance if importance.ndim == 0 else importance.reshape(shape[:2])))
        gain: Channels = importance.mean() * (op.weight.astype(np.float64) ** 2).sum((1, 2)).reshape(shape).sum(1).reshape(-1)
        return gain

    def cost(self, scalings: Channels) -> Channels:
        """(scalings, C) -> (scalings,)"""
        together = self.options.granularity is Granularity.TENSOR
        noise = np.zeros(len(scalings))
        for value, gain in zip(self.values, self.gains.values(), strict=True):
            low, high = (value.low / scalings).min(1), (value.high / scalings).max(1)
            noise += steps(low, high, self.options.scheme) ** 2 * (scalings**2 * gain).sum(1)
        for writer in self.writers:
            unit = writer.weights / scalings
            unit = unit.max(1, keepdims=True) if together else unit
            noise += (self._rounded(unit) ** 2 * scalings**2 * self.gains[writer.output] * writer.power).sum(1)
        for reader in self.readers:
            groups = scalings.reshape(len(scalings), len(reader.weights), 1, -1)
            units = (reader.weights * groups).max(3)
            units = units.max((1, 2), keepdims=True) if together else units
            noise += (reader.importance * self._rounded(units) ** 2 * (reader.squares / groups**2).sum(3)).sum((1, 2))
        return noise

    def _rounded(self, units: Channels) -> Channels:
        """Weight scales as the scheme allows them."""
        return powers_of_two(units) if self.options.scheme is Scheme.POWER_OF_TWO else units
