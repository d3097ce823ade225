"""Room in ranges for inputs that go beyond all calibration inputs: how much, the calibration inputs themselves tell.

Each input is taken in turn as the one that was not seen: the ranges that the others alone would have given clip what goes beyond them, and
the float network says what that does to its outputs. Wider ranges clip less, but every code becomes coarser.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.blas import single_threaded
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.base import clamp_of
from hwgen.quantize.ranges import Range
from hwgen.quantize.samples import Samples

FACTORS = (1.0, 1.05, 1.1, 1.15, 1.2, 1.3, 1.4, 1.5, 1.75, 2.0)
LEAST_INPUTS = 8  # fewer do not tell how far others go
Flags = npt.NDArray[np.bool_]  # (inputs,)
_Change = tuple[Flags, FloatArray]  # the inputs in which a value is another, and what it is there


def with_room(graph: Graph, ranges: Mapping[str, Range], room: float) -> dict[str, Range]:
    """Ranges `room` times as wide, but where an operator's limits end; what the network is given has known ends."""
    given = {entry.value for entry in graph.inputs}
    return {name: ends if name in given else reachable(graph, name, (ends[0] * room, ends[1] * room)) for name, ends in ranges.items()}


def reachable(graph: Graph, name: str, ends: Range) -> Range:
    """What of a range the operator that computes the value can reach; zero is always in it."""
    producer = graph.producer(name)
    limits = clamp_of(producer.op) if producer is not None else (-np.inf, np.inf)
    return min(max(ends[0], float(np.min(limits[0]))), 0.0), max(min(ends[1], float(np.max(limits[1]))), 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Unseen:
    """Inputs that reach beyond all others somewhere: their `samples`, and by value the ends (inputs,) of the range without them, infinite
    where it is that of all inputs, and the `extremes` (inputs,). `signal`: the outputs' energy over all inputs."""

    graph: Graph
    samples: Samples
    ends: Mapping[str, tuple[FloatArray, FloatArray]]
    extremes: Mapping[str, tuple[FloatArray, FloatArray]]
    signal: float

    @classmethod
    def of(cls, graph: Graph, samples: Samples, ranges: Mapping[str, Range], *, shares: bool = False) -> Unseen:
        """`ranges`: those of all inputs, which may lie inside the extremes; then no input alone decided them, unless they are `shares` of
        the extremes."""
        ends, extremes = {}, {}
        beyond = np.zeros(samples.count, bool)
        for name, value in samples.values.items():
            rows = value.reshape(len(value), -1)
            least, greatest = extremes[name] = rows.min(1), rows.max(1)
            low, high = ends[name] = -_others(-least, -ranges[name][0], shares=shares), _others(greatest, ranges[name][1], shares=shares)
            beyond |= np.isfinite(low) | np.isfinite(high)
        chosen = np.flatnonzero(beyond)
        values = {name: value[chosen] for name, value in samples.values.items()}
        kept, reached = ({name: (low[chosen], high[chosen]) for name, (low, high) in pairs.items()} for pairs in (ends, extremes))
        signal = sum(float((samples.values[output.value].astype(np.float64) ** 2).sum()) for output in graph.outputs)
        return cls(graph=graph, samples=Samples(arrays={}, values=values), ends=kept, extremes=reached, signal=signal)

    def lost(self, room: float) -> float:
        """The energy of what clipping changes at the outputs, relative to theirs, if each input meets ranges made without it and then
        widened by `room`. The input that loses most is left out, so that no single one decides."""
        noise = np.zeros(self.samples.count)
        changes = self._changes(room)
        for name in dict.fromkeys(output.value for output in self.graph.outputs if output.value in changes):
            rows, now = changes[name]
            noise[rows] += ((now.astype(np.float64) - self.samples.values[name][rows]) ** 2).sum((1, 2, 3))
        return float(noise.sum() - noise.max(initial=0.0)) / max(self.signal, np.finfo(np.float64).tiny)

    def _changes(self, room: float) -> dict[str, _Change]:
        """By value; most inputs are clipped in few places, and behind these alone the network must be run again."""
        changes: dict[str, _Change] = {}
        for node in self.graph.nodes:
            moved = np.logical_or.reduce([changes[name][0] for name in node.inputs if name in changes] or [np.zeros(self.samples.count, bool)])
            (low, high), (least, greatest) = (end * np.float32(room) for end in self.ends[node.output]), self.extremes[node.output]
            rows = moved | (least < low) | (greatest > high)
            if rows.any():
                result = self.samples.values[node.output][rows]
                if moved.any():
                    with single_threaded():
                        result[moved[rows]] = node.op.reference(*(self._now(name, moved, changes) for name in node.inputs))
                changes[node.output] = rows, np.clip(result, *(end[rows].reshape(-1, 1, 1, 1) for end in (low, high)))
        return changes

    def _now(self, name: str, rows: Flags, changes: Mapping[str, _Change]) -> FloatArray:
        """A value of the inputs `rows`, among them all those in which it has changed."""
        value = self.samples.values[name][rows]
        if name in changes:
            changed, now = changes[name]
            value[changed[rows]] = now
        return value


def _others(extremes: FloatArray, end: float, *, shares: bool) -> FloatArray:
    """(inputs,) how far the range reaches without each input; infinite where it reaches `end` all the same."""
    result = np.full(len(extremes), np.inf, np.float32)
    most = int(extremes.argmax())
    second = max(float(np.partition(extremes, -2)[-2]), 0.0)
    if shares:
        second *= end / max(float(extremes[most]), float(np.finfo(np.float32).tiny))
    if second < end:
        result[most] = second
    return result


def best_room(unseen: Unseen, noise: float) -> float:
    """The factor with the least expected noise; `noise` is that of codes without room, relative to the signal, of which a factor takes its
    square: all of it is laid to activations."""
    best, least = 1.0, float("inf")
    for room in FACTORS:
        if noise * room**2 >= least:
            break
        expected = noise * room**2 + unseen.lost(room)
        if expected < least:
            best, least = room, expected
    return best
