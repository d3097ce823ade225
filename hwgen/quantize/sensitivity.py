"""How much the outputs of a float network move when its values do, to first order.

One sum of all outputs with random signs, each output in units of its root mean square, is differentiated for every input. The square of
its change is, on average over the signs, the energy of what changes at the outputs relative to theirs: one pass back through the network
serves all values (the estimate of a trace by random signs: M. F. Hutchinson, 1990).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from hwgen.blas import single_threaded
from hwgen.ir.evaluate import blocks
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.quantize.adjoint import inside, operand_gradients
from hwgen.quantize.ranges import Observer
from hwgen.quantize.samples import LEAST_SQUARE, Channels, Samples

SEED = 0
_Float = TypeVar("_Float", np.float32, np.float64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Sensitivity:
    """`numbers` (M,) of the samples it was measured on, ascending; `weights` (M,): for how many of all samples each stands.

    By value, as far as its whole way to the outputs is known: `gradients` (M, H, W, C), what the signed sum of the outputs changes per
    change of the value; `squares` (H, W, C), their mean square over the inputs where they are not zero; `energy` (C,), what noise of mean
    square 1 on a channel leaves at the outputs of one input, where the operator's own clamp does not take it away."""

    numbers: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    gradients: Mapping[str, FloatArray]
    energy: Mapping[str, Channels]
    squares: Mapping[str, FloatArray]

    def divided(self, scales: Mapping[str, Channels]) -> Sensitivity:
        """Of a network in which the values named are divided by scales, one per channel."""
        squared = {name: scale**2 for name, scale in scales.items()}
        gradients, energy, squares = _times(self.gradients, scales), _times(self.energy, squared), _times(self.squares, squared)
        return replace(self, gradients=gradients, energy=energy, squares=squares)


def _times(arrays: Mapping[str, npt.NDArray[_Float]], factors: Mapping[str, Channels]) -> dict[str, npt.NDArray[_Float]]:
    return {name: array * factors[name].astype(array.dtype) if name in factors else array for name, array in arrays.items()}


def measure(graph: Graph, samples: Samples, seen: Mapping[str, Observer], most: int) -> Sensitivity:
    """On about `most` of the samples, evenly chosen, and those that reach farthest in some value, as `seen` of all samples; the same on
    every run."""
    numbers, weights = _chosen(samples.count, seen, most)
    values = {name: value[numbers] for name, value in samples.values.items()}
    rng = np.random.default_rng(SEED)
    units = {output.value: 1 / np.sqrt(float(np.square(values[output.value], dtype=np.float64).mean()) + LEAST_SQUARE) for output in graph.outputs}
    signs = {name: (unit * rng.choice([-1.0, 1.0], values[name].shape)).astype(np.float32) for name, unit in units.items()}
    parts: dict[str, list[FloatArray]] = {}
    for block in blocks(graph, len(numbers)):
        with single_threaded():
            found = _gradients(graph, {name: value[block] for name, value in values.items()}, {name: sign[block] for name, sign in signs.items()})
        for name, array in found.items():
            parts.setdefault(name, []).append(array)
    gradients = {name: np.concatenate(part) for name, part in parts.items()}
    energy = {name: _energy(graph, name, values[name], gradient, weights) for name, gradient in gradients.items()}
    squares = {name: _mean_squares(gradient) for name, gradient in gradients.items()}
    return Sensitivity(numbers=numbers, weights=weights, gradients=gradients, energy=energy, squares=squares)


def _chosen(count: int, seen: Mapping[str, Observer], most: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Numbers of samples, and for how many each stands: those that reach farthest for themselves, the others for all others."""
    if most >= count:
        return np.arange(count), np.ones(count)
    ends = [np.concatenate(each) for observer in seen.values() for each in (observer.highs, [-lows for lows in observer.lows])]
    alone = np.zeros(count, bool)
    alone[[int(end.argmax()) for end in ends]] = True
    others = np.flatnonzero(~alone)
    others = others[:: -(-len(others) // most)]
    numbers = np.union1d(np.flatnonzero(alone), others)
    weights = np.where(alone[numbers], 1.0, (count - alone.sum()) / max(1, len(others)))
    return numbers, weights


def _gradients(graph: Graph, values: Mapping[str, FloatArray], signs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """By value, from the last to the first, given those of the outputs. Values are left out from which nothing, or not all, comes back."""
    found, lost = dict(signs), set[str]()
    for node in reversed(graph.nodes):
        if node.output in lost or node.output not in found:
            lost |= set(node.inputs) if node.output in lost else set()
            continue
        back = operand_gradients(node, graph, values, found[node.output])
        if back is None:
            lost |= set(node.inputs)
            continue
        for name, gradient in zip(node.inputs, back, strict=True):
            found[name] = found[name] + gradient if name in found else gradient
    return {name: gradient for name, gradient in found.items() if name not in lost}


def _energy(graph: Graph, name: str, value: FloatArray, gradient: FloatArray, weights: npt.NDArray[np.float64]) -> Channels:
    producer = graph.producer(name)
    free = gradient if producer is None else inside(producer.op, value, gradient)
    by_input = np.einsum("nhwc,nhwc->nc", free, free)
    energy: Channels = weights @ by_input.astype(np.float64) / weights.sum()
    return energy


def _mean_squares(gradient: FloatArray) -> FloatArray:
    """(H, W, C)"""
    counts = np.maximum((gradient != 0).sum(0, dtype=np.float32), np.float32(1))
    squares: FloatArray = np.einsum("nhwc,nhwc->hwc", gradient, gradient) / counts
    return squares
