"""Which repairs help: each is tried on top of those kept so far, and kept only where it gains on inputs that it was not fitted to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwgen.errors import QuantizationError
from hwgen.ir.evaluate import evaluate, from_canonical
from hwgen.ir.graph import Graph
from hwgen.ir.types import FloatArray
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.quantize import room
from hwgen.quantize.absorb import absorb
from hwgen.quantize.equalize import equalize
from hwgen.quantize.few_bits import WeightCodes
from hwgen.quantize.fit import FITTED, fit
from hwgen.quantize.metrics import agreement, decibel, sqnr_db
from hwgen.quantize.options import Effort, QuantizeOptions, RangeMethod, Repair
from hwgen.quantize.ranges import Range
from hwgen.quantize.samples import Samples
from hwgen.quantize.sensitivity import Sensitivity
from hwgen.quantize.trial import Score, Trial

LEAST_GAIN_DB = 0.05
WIDE_GAIN_DB = 0.5  # for coarser outputs: ties between classes cost agreement that few inputs do not show
HALF_LOSS_DB = 0.2
FAST_INPUTS, LEAST_INPUTS = 128, 8  # of one trial
FAST_WORK = 6e8  # multiply-accumulates of the inputs of one trial: about 0.1 s
STATISTICS_INPUTS = 32
FAST_RANGES = (RangeMethod.MINMAX, RangeMethod.MSE, RangeMethod.OUTPUT)
BEST_RANGES = (*FAST_RANGES, RangeMethod.AVERAGE, RangeMethod.PERCENTILE, RangeMethod.KL)
RangesOf = Callable[["Candidate", Sequence[slice]], Mapping[str, Range]]  # outputs' ranges from parts of the samples, the others' from all
Variant = Callable[["Candidate"], "Candidate"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidate:
    """A way to quantize: the float graph after changes that keep its meaning, its values, and what is then done.
    `wide_outputs`: the ranges of the network's outputs go beyond the extremes seen. `room`: by which all ranges are wider."""

    graph: Graph
    samples: Samples
    options: QuantizeOptions
    sensitivity: Sensitivity | None = None
    fitted: frozenset[Repair] = frozenset()
    wide_outputs: bool = False
    room: float = 1.0

    @property
    def ranging(self) -> tuple[QuantizeOptions, bool, float]:
        """What ranges depend on beside the samples."""
        return self.options, self.wide_outputs, self.room


def search(start: Candidate, ranges_of: RangesOf) -> tuple[Candidate, tuple[Trial, ...]]:
    """The best candidate that `start` can be turned into, and what was tried."""
    judge = _Judge(start, ranges_of)
    best, marks = start, judge.marks(start)
    trials = []
    for repair, detail, change in _changes(start):
        begin = time.perf_counter()
        candidate = change(best)
        if candidate is best:
            continue
        found = judge.marks(candidate)
        least = WIDE_GAIN_DB if candidate.wide_outputs and not best.wide_outputs else LEAST_GAIN_DB
        reason, seconds = judge.against(marks, found, least), time.perf_counter() - begin
        trials.append(Trial(repair=repair, detail=detail, reason=reason, before=marks[0], after=found[0], inputs=judge.count, seconds=seconds))
        if not reason:
            best, marks = candidate, found
    best, trial = _with_room(best, marks, judge)
    return best, (*trials, *trial)


def _with_room(best: Candidate, marks: tuple[Score, ...], judge: _Judge) -> tuple[Candidate, tuple[Trial, ...]]:
    """Ranges wide enough for inputs that are unlike all others, where those held out say so; scores count what clipping costs these."""
    begin, samples = time.perf_counter(), best.samples
    if Repair.RANGE not in best.options.repairs or samples.made_up or samples.count < room.LEAST_INPUTS:
        return best, ()
    unseen = room.Unseen.of(best.graph, samples, judge.ranges_of(best, (slice(None),)), shares=best.options.ranges is RangeMethod.OUTPUT)
    chosen = room.best_room(unseen, 10 ** (-marks[0].sqnr_db / 10))
    if chosen == 1.0:
        return best, ()
    before, after = (
        tuple(_risking(score, factor, unseen.lost(factor)) for score in marks) for factor in (1.0, chosen)
    )  # coarser codes are known to leave factor**2 of the noise: scores of few inputs would only add chance
    reason, seconds = judge.against(before, after), time.perf_counter() - begin
    detail = f"{chosen:g} times as wide, for unseen extremes"
    trial = Trial(repair=Repair.RANGE, detail=detail, reason=reason, before=before[0], after=after[0], inputs=judge.count, seconds=seconds)
    return best if reason else replace(best, room=chosen), (trial,)


def _risking(score: Score, room: float, lost: float) -> Score:
    """As expected of ranges `room` times as wide, where clipping leaves `lost`, relative to the signal."""
    return replace(score, sqnr_db=-decibel(10 ** (-score.sqnr_db / 10) * room**2 + lost, 1.0))


class _Judge:
    """Scores a candidate on samples that neither weights nor the ranges of outputs were fitted to: every `step`-th is held out, layers are
    fitted to as many others. Too few samples to be parted, and made-up ones, serve for all three."""

    def __init__(self, start: Candidate, ranges_of: RangesOf) -> None:
        self.ranges_of = ranges_of
        self.ranges: list[tuple[Candidate, Mapping[str, Range]]] = []
        samples, whole = start.samples, slice(None)
        step = max(2, -(-samples.count // (most_inputs(start) // 2)))
        parted = samples.count >= 2 * step and not samples.made_up
        self.held_out = slice(step - 1, None, step) if parted else whole
        self.fitting = slice(0, None, step) if parted else whole
        self.ranging = tuple(slice(first, None, step) for first in range(step - 1)) if parted else (whole,)
        self.reference = _outputs(start.graph, samples.part(self.held_out))
        self.count = len(next(iter(self.reference.values())))

    def marks(self, candidate: Candidate) -> tuple[Score, ...]:
        """On all held-out samples, and on either half of them; each is that of the output that fares worst there, minus infinity where
        there is no integer form."""
        options, samples = replace(candidate.options, certify=False), candidate.samples
        try:
            ranges = self._ranges(candidate)
            held_out = samples.part(self.held_out)
            fitted = fit(candidate.graph, samples.part(self.fitting), ranges, candidate.fitted, options, held_out)
        except QuantizationError:
            return (Score(sqnr_db=float("-inf"), agreement=0.0),) * 3
        quantized = fitted.graph
        outputs = {output: quantized.values[output.value].quantized.dequantize(fitted.outputs[output.value]) for output in quantized.outputs}
        reals = {output.name: from_canonical(output, real, softmax=False) for output, real in outputs.items()}
        halves = (slice(None), slice(0, None, 2), slice(1, None, 2)) if self.count > 1 else (slice(None),)
        return tuple(self._score(reals, half) for half in halves)

    def _ranges(self, candidate: Candidate) -> Mapping[str, Range]:
        """Computed once for candidates that differ in nothing that ranges depend on."""
        for other, ranges in self.ranges:
            if other.samples is candidate.samples and other.ranging == candidate.ranging:
                return ranges
        self.ranges.append((candidate, self.ranges_of(candidate, self.ranging)))
        return self.ranges[-1][1]

    def _score(self, reals: Mapping[str, FloatArray], part: slice) -> Score:
        pairs = [(self.reference[name][part], real[part]) for name, real in reals.items()]
        scores = (Score(sqnr_db=sqnr_db(wanted, real), agreement=agreement(wanted, real)) for wanted, real in pairs)
        return min(scores, key=lambda score: score.sqnr_db)

    def against(self, before: tuple[Score, ...], after: tuple[Score, ...], least_db: float = LEAST_GAIN_DB) -> str:
        """What speaks against a candidate, "" if nothing does: it must be nearer by SQNR, on neither half much less so that no single sample
        decides, and no more than one input less may agree."""
        if after[0].sqnr_db < before[0].sqnr_db + least_db:
            return f"gains less than {least_db:g} dB" if after[0].sqnr_db > -np.inf else "has no integer form"
        loss = max(old.sqnr_db - new.sqnr_db if new.sqnr_db < old.sqnr_db else 0.0 for new, old in zip(after, before, strict=True))
        if loss > HALF_LOSS_DB:
            return f"loses {loss:.2f} dB on one half of the held-out inputs"
        if after[0].agreement < before[0].agreement - 1.5 / self.count:
            return f"{round((before[0].agreement - after[0].agreement) * self.count)} fewer inputs agree"
        return ""


def _outputs(graph: Graph, samples: Samples) -> dict[str, FloatArray]:
    """Of the float network, by name, without Softmax. Values that were made up are not what the inputs give."""
    if samples.made_up:
        return evaluate(graph, samples.arrays, softmax=False)
    return {output.name: from_canonical(output, samples.values[output.value], softmax=False) for output in graph.outputs}


def most_inputs(start: Candidate) -> int:
    """Samples that a trial is fitted to and scored on, together; and those that sensitivity is measured on."""
    if start.options.effort is Effort.BEST:
        return max(2, start.samples.count)
    work = sum(node.op.work(*start.graph.input_types(node)) for node in start.graph.nodes)
    return int(np.clip(FAST_WORK // max(1, work), LEAST_INPUTS, FAST_INPUTS))


def _changes(start: Candidate) -> Iterator[tuple[Repair, str, Variant]]:
    """What is tried, in this order: what is fitted to one layer comes behind what moves between layers, because it takes longer."""
    made_up, thorough = start.samples.made_up, start.options.effort is Effort.BEST
    few_bits = any(kind is not WeightFormat.INT8 for kind in _kinds(start))
    for repairs, detail, change in _all_changes(made_up=made_up, thorough=thorough, few_bits=few_bits):
        if set(repairs) <= set(start.options.repairs):
            yield repairs[0], detail, change


def _kinds(start: Candidate) -> frozenset[WeightCodes]:
    """What weights of its layers may be."""
    return frozenset(start.options.weights_of(node.name) for node in start.graph.nodes if isinstance(node.op, Conv))


def _all_changes(*, made_up: bool, thorough: bool, few_bits: bool) -> Iterator[tuple[tuple[Repair, ...], str, Variant]]:
    """With the repairs that each is made of. Those that alone may gain less than chance moves the scores of few inputs come together first."""
    if few_bits and not made_up:  # first: what else gains shows only on a network that works
        yield (Repair.SOLVE,), "float outputs from quantized inputs", _fitting(Repair.SOLVE)
    if not made_up:
        yield (Repair.RANGE,), "outputs beyond the extremes", _widening
        yield (Repair.EQUALIZE, Repair.RANGE, Repair.ROUND, Repair.BIAS), "chains and residual additions; ranges by outputs; weights, biases fitted", _together
    yield (Repair.BIAS,), "mean error, analytic" if made_up else "mean error, measured", _fitting(Repair.BIAS)
    yield (Repair.EQUALIZE,), "chains", _unless_together(_equalizing(additions=False), thorough=thorough)
    if thorough or made_up:
        yield (Repair.EQUALIZE,), "chains and residual additions", _equalizing(additions=True)
        yield (Repair.ABSORB,), "least value of each channel", _absorbing
    if not made_up:
        for method in BEST_RANGES if thorough else FAST_RANGES:
            yield (Repair.RANGE,), method.value, _unless_together(_ranging(method), thorough=thorough)
        yield (Repair.ROUND,), "second moments of the layer's inputs", _fitting(Repair.ROUND)
    if thorough or few_bits:
        yield (Repair.CLIP,), "max, 4, 3, 2.5, 2 sigma, mse", _fitting(Repair.CLIP)
    if thorough:
        yield (Repair.EQUALIZE,), "chains, again", _equalizing(additions=False)
        yield (Repair.BIAS,), "mean error, again", _fitting(Repair.BIAS)


def _together(candidate: Candidate) -> Candidate:
    """What each gains, the others do not take away."""
    for change in (_equalizing(additions=True), _ranging(RangeMethod.OUTPUT), _fitting(Repair.ROUND, Repair.BIAS)):
        candidate = change(candidate)
    return candidate


def _unless_together(change: Variant, *, thorough: bool) -> Variant:
    """What is tried without effort only where `_together` was left."""
    return lambda candidate: change(candidate) if thorough or candidate.options.ranges is not RangeMethod.OUTPUT else candidate


def _fitting(*repairs: Repair) -> Variant:
    assert set(repairs) <= FITTED

    def change(candidate: Candidate) -> Candidate:
        done = candidate.fitted
        if Repair.SOLVE in done and WeightFormat.INT8 not in _kinds(candidate):
            done |= {Repair.ROUND, Repair.BIAS}  # which it holds
        return candidate if done >= set(repairs) else replace(candidate, fitted=candidate.fitted | set(repairs))

    return change


def _ranging(method: RangeMethod) -> Variant:
    def change(candidate: Candidate) -> Candidate:
        return candidate if candidate.options.ranges is method else replace(candidate, options=replace(candidate.options, ranges=method))

    return change


def _widening(candidate: Candidate) -> Candidate:
    return replace(candidate, wide_outputs=True)


def _equalizing(*, additions: bool) -> Variant:
    def change(candidate: Candidate) -> Candidate:
        step = -(-candidate.samples.count // STATISTICS_INPUTS)
        seen = candidate.samples.channels(slice(None, None, step))
        sensitivity = candidate.sensitivity
        energy = None if sensitivity is None else sensitivity.energy
        graph, scales = equalize(candidate.graph, seen, candidate.options, additions=additions, energy=energy)
        if not scales:
            return candidate
        sensitivity = None if sensitivity is None else sensitivity.divided(scales)
        return replace(candidate, graph=graph, samples=candidate.samples.divided(scales), sensitivity=sensitivity)

    return change


def _absorbing(candidate: Candidate) -> Candidate:
    graph, samples = absorb(candidate.graph, candidate.samples)
    return candidate if graph is candidate.graph else replace(candidate, graph=graph, samples=samples)
