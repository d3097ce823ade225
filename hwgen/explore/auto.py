"""`--auto`: the best way to quantize a network for one hardware, found on calibration data alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwgen.arrays import AnyArray
from hwgen.config import HardwareConfig
from hwgen.errors import ConfigError, DataError, QuantizationError
from hwgen.explore.methods import describe
from hwgen.explore.table import Json, attempt_json
from hwgen.explore.workbench import Attempt, Workbench
from hwgen.ir.graph import Graph
from hwgen.network import Labels
from hwgen.progress import Progress
from hwgen.quantize import CALIBRATED, Effort, Granularity, QuantizeOptions, RangeMethod, Scheme

TIE_DB = 0.25  # what gains less than this over something simpler is not worth it
HELD_OUT = 4  # of so many calibration inputs one is held out
LEAST_INPUTS, MOST_INPUTS = 8, 512
PERCENTILES = (99.9, 99.99, 99.999)


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """`attempts` in the order in which they were made, which is from simple to complex within each step; `best` is one of them."""

    attempts: tuple[Attempt, ...]
    best: Attempt
    held_out: int

    def tried(self) -> list[Json]:
        """The table, as report.json holds it."""
        return [attempt_json(attempt) for attempt in self.attempts]


def split(arrays: Mapping[str, AnyArray]) -> tuple[dict[str, AnyArray], dict[str, AnyArray], np.ndarray]:
    """Calibration inputs to fit with, those that are held out (every fourth one), and the places of the latter. Of very many inputs an
    evenly spaced part. Raises DataError for too few."""
    count = len(next(iter(arrays.values())))
    if count < LEAST_INPUTS:
        raise DataError(f"calibration data: to choose by them, at least {LEAST_INPUTS} inputs are needed, of which some are held out; found {count}")
    used = np.unique(np.linspace(0, count - 1, min(count, MOST_INPUTS)).round().astype(np.int64))
    held = np.arange(len(used)) % HELD_OUT == HELD_OUT - 1
    return (*({name: array[used[part]] for name, array in arrays.items()} for part in (~held, held)), used[held])


def best_of(attempts: Sequence[Attempt]) -> Attempt:
    """The first, so the simplest, of those whose SQNR is within TIE_DB of the greatest. Raises QuantizationError when all were refused."""
    possible = [attempt for attempt in attempts if not attempt.refused]
    if not possible:
        raise QuantizationError(f"network: no way to quantize it was possible; the first one: {attempts[0].name}: {attempts[0].refused}")
    most = max(attempt.sqnr_db for attempt in possible)
    return next(attempt for attempt in possible if attempt.sqnr_db >= most - TIE_DB or attempt.sqnr_db == most)


def schemes_for(hardware: HardwareConfig) -> tuple[Scheme, ...]:
    """What the hardware can compute, the simplest first."""
    return (Scheme.POWER_OF_TWO, Scheme.SYMMETRIC, Scheme.ASYMMETRIC) if hardware.multiplier_bits else (Scheme.POWER_OF_TWO,)


def _schemes(start: QuantizeOptions, hardware: HardwareConfig) -> list[QuantizeOptions]:
    pairs = itertools.product((Granularity.TENSOR, Granularity.CHANNEL), schemes_for(hardware))
    return [replace(start, scheme=scheme, granularity=granularity) for granularity, scheme in pairs]


def _ranges(start: QuantizeOptions, hardware: HardwareConfig) -> list[QuantizeOptions]:
    del hardware
    percentiles = [replace(start, ranges=RangeMethod.PERCENTILE, percentile=percentile) for percentile in PERCENTILES]
    others = [replace(start, ranges=method) for method in CALIBRATED if method is not RangeMethod.PERCENTILE]
    return [options for options in (*percentiles, *others) if options != start]


STEPS: dict[str, Callable[[QuantizeOptions, HardwareConfig], list[QuantizeOptions]]] = {  # from the best so far to what is tried next, the simpler first
    "schemes": _schemes,
    "ranges": _ranges,
}


def _repairs_up_to(most: Effort) -> Callable[[QuantizeOptions, HardwareConfig], list[QuantizeOptions]]:
    efforts = list(Effort)[1 : list(Effort).index(most) + 1]
    return lambda start, hardware: [replace(start, effort=effort) for effort in efforts]


def _require_open(base: QuantizeOptions) -> None:
    """Raises ConfigError where `base` says what is to be chosen."""
    said = [name for name in ("scheme", "granularity", "ranges") if name in base.asked]
    if said:
        raise ConfigError(f"options {', '.join(said)}: must be left open where the way to quantize is chosen by trial; leave them out")


def choose(
    graph: Graph, arrays: Mapping[str, AnyArray], labels: Labels | None, hardware: HardwareConfig, base: QuantizeOptions, progress: Progress
) -> Choice:
    """Try schemes and granularities, then ranges for the best of them, then repairs up to the effort of `base`; each is fitted to a part of
    the calibration inputs and judged by the SQNR of the outputs on the rest.

    Raises DataError for too few inputs, ConfigError where `base` says what is to be chosen, QuantizationError when nothing is possible.
    """
    _require_open(base)
    fit, held, places = split(arrays)
    bench = Workbench(graph, fit, held, None if labels is None else labels[places], hardware)
    attempts: list[Attempt] = []
    plain = replace(base, effort=Effort.NONE)
    steps = STEPS if base.effort is Effort.NONE else STEPS | {"repairs": _repairs_up_to(base.effort)}
    for title, step in steps.items():
        every = step(best_of(attempts).options if attempts else plain, hardware)
        progress.stage(f"try {title}", total=len(every))
        attempts += _tried(bench, every, progress)
    return Choice(attempts=tuple(attempts), best=best_of(attempts), held_out=len(places))


def _tried(bench: Workbench, every: Iterable[QuantizeOptions], progress: Progress) -> list[Attempt]:
    attempts = []
    for done, options in enumerate(every, 1):
        attempts.append(bench.attempt(describe(options), options))
        progress.step(done)
    return attempts
