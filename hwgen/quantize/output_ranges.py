"""Ranges with which the network's outputs move least: each end of a value's range is clipped as far as finer codes for all others are worth.

What rounding leaves at the outputs follows from the step; what clipping leaves, from the values beyond an end and from what the outputs
move with each of them. The input that reaches farthest meets the end that all others would have given, like one that was not seen: ends may
also lie beyond the extremes. Values that nothing reads with effect, as what an addition with ReLU takes below zero, are clipped for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.check import COPYING
from hwgen.quantize.groups import groups
from hwgen.quantize.options import Scheme
from hwgen.quantize.ranges import Observer, Range
from hwgen.quantize.room import reachable
from hwgen.quantize.samples import Samples
from hwgen.quantize.schemes import steps
from hwgen.quantize.sensitivity import Sensitivity

GREATEST, STEP = 1.3, 0.02
FACTORS = GREATEST - STEP * np.arange(46)  # of each end; below 0.4 the outputs no longer follow to first order
Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Ends:
    """One side of the range of values that share a quantization. `sign`: -1 for the low, 1 for the high one; `magnitude` is what all samples
    reach, `others` (N,) what all but each of them reach, `reach` what none can exceed."""

    sign: float
    magnitude: float
    others: Reals
    reach: float

    @classmethod
    def of(cls, extremes: Reals, sign: float, reach: float) -> _Ends:
        """`extremes` (N,) of the samples, on that side."""
        ordered = np.maximum(np.sort(extremes), 0.0)
        others = np.where(np.arange(len(extremes)) == extremes.argmax(), ordered[-2:][0], ordered[-1])
        return cls(sign=sign, magnitude=float(ordered[-1]), others=others, reach=reach)

    @property
    def tried(self) -> Reals:
        """(factors,) magnitudes."""
        found: Reals = np.minimum(self.magnitude * FACTORS, self.reach)
        return found


def output_ranges(graph: Graph, samples: Samples, sensitivity: Sensitivity, seen: Mapping[str, Observer], scheme: Scheme) -> dict[str, Range]:
    """By value, as far as the way to the outputs is known; not of the outputs, whose extremes decide, nor of what the network is given, whose
    ends are known and whose codes often are its own. `seen`: what was observed of all samples; what clipping costs, those tell on which
    sensitivity was measured."""
    group, result = groups(graph), dict[str, Range]()
    for representative in dict.fromkeys(group.values()):
        members = [name for name in graph.values if group[name] == representative]
        written = [name for name in members if not _copied(graph, name)]
        ends_known = any(graph.producer(name) is None or graph.is_output(name) for name in members)
        if not ends_known and all(name in sensitivity.gradients for name in written):
            sides = [_side(graph, written, seen, sign) for sign in (-1.0, 1.0)]
            ends = _best(samples, sensitivity, written, sides, scheme)
            result |= {name: reachable(graph, name, ends) for name in members}
    return result


def _copied(graph: Graph, name: str) -> bool:
    producer = graph.producer(name)
    return producer is not None and isinstance(producer.op, COPYING)


def _side(graph: Graph, written: Sequence[str], seen: Mapping[str, Observer], sign: float) -> _Ends:
    extremes = [np.concatenate(seen[name].highs if sign > 0 else seen[name].lows) * sign for name in written]
    reach = [abs(reachable(graph, name, (-np.inf, np.inf))[int(sign > 0)]) for name in written]
    return _Ends.of(np.max(extremes, axis=0).astype(np.float64), sign, max(reach))


def _best(samples: Samples, sensitivity: Sensitivity, written: Sequence[str], sides: Sequence[_Ends], scheme: Scheme) -> Range:
    """The ends that leave least at the outputs."""
    lows, highs = -sides[0].tried, sides[1].tried
    left = _left(samples, sensitivity, written, sides, scheme)
    low, high = np.unravel_index(int(left.argmin()), left.shape)
    return 0.0 + float(lows[low]), float(highs[high])


def _left(samples: Samples, sensitivity: Sensitivity, written: Sequence[str], sides: Sequence[_Ends], scheme: Scheme) -> Reals:
    """(low factors, high factors) what rounding and clipping leave at the outputs of all samples."""
    gain = sum(float(sensitivity.energy[name].sum()) for name in written) * float(sensitivity.weights.sum()) / 12
    lost, numbers = np.zeros((2, len(FACTORS))), sensitivity.numbers
    for name in written:
        value, gradient = samples.values[name][numbers], sensitivity.gradients[name]
        for row, side in zip(lost, sides, strict=True):
            if side.magnitude:
                row += sensitivity.weights @ _clipped(value, gradient, sensitivity.squares[name], side.sign, side.others[numbers])
    result: Reals = gain * steps(-sides[0].tried[:, None], sides[1].tried, scheme) ** 2 + lost[0][:, None] + lost[1]
    return result


def _clipped(value: FloatArray, gradient: FloatArray, squares: FloatArray, sign: float, ends: Reals) -> Reals:
    """(N, factors) what limiting value (N, H, W, C), on the side of `sign`, at each factor of the `ends` (N,) leaves at the outputs of each input.

    The signed changes of an input are added up and squared, since what is clipped side by side adds up. One draw of signs may happen to
    cancel where few places are clipped: half the weight has the sum of the squares with the mean gradient of each place, where the
    outputs move at all. Both are sums over what lies beyond an end, and polynomials in the factor."""
    rows, count = value.reshape(len(value), -1), len(FACTORS)
    least = (np.float32(FACTORS[-1]) * ends.astype(np.float32))[:, None]
    found = np.flatnonzero(rows > least if sign > 0 else rows < -least)
    inputs, places = found // rows.shape[1], found % rows.shape[1]
    over, moves = np.abs(rows.reshape(-1)[found], dtype=np.float64), gradient.reshape(-1)[found].astype(np.float64)
    first = np.ceil((GREATEST - over / np.maximum(ends[inputs], np.finfo(np.float64).tiny)) / STEP)  # the greatest factor that clips it
    cells = inputs * count + np.clip(first, 0, count - 1).astype(np.int64)

    def beyond(weights: Reals) -> Reals:
        """(N, factors) sums over the places of each input that lie beyond each end."""
        sums: Reals = np.bincount(cells, weights, len(rows) * count).reshape(len(rows), count).cumsum(1)
        return sums

    limits = ends[:, None] * FACTORS
    together = beyond(over * moves) - limits * beyond(moves)
    weights = np.where(moves != 0, squares.reshape(-1)[places], 0.0)
    apart = beyond(over**2 * weights) - 2 * limits * beyond(over * weights) + limits**2 * beyond(weights)
    result: Reals = (together**2 + apart) / 2
    return result
