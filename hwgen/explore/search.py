"""Search over the formats of layers: greedy by measured sensitivities, every decision checked by full evaluation, then local improvement.

It knows neither networks nor formats: layers are names, a format is a number from 0 (the widest) on.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hwgen.errors import QuantizationError
from hwgen.explore.budget import Budget, Point

FRONT_POINTS = 12  # of the greedy path that are evaluated for the picture
IMPROVEMENTS = 24  # full evaluations that local improvement may take
PATIENCE = 6  # moves that may gain nothing, one after the other
TOLERANCE = 1.5  # noise that may be borne, over the greatest that was measured to keep a quality, where none was measured not to

Assignment = tuple[int, ...]  # the format of each layer
Evaluate = Callable[[Assignment], Point]


@dataclass(frozen=True, kw_only=True)
class Sensitivities:
    """`noise[layer][format]`: energy of the outputs' error with this layer alone in this format. `cost[layer][format]`: its share of what
    is saved, estimated. Both with the widest format first; costs fall."""

    noise: Sequence[Sequence[float]]
    cost: Sequence[Sequence[float]]

    @property
    def layers(self) -> int:
        return len(self.noise)

    def noise_of(self, assignment: Assignment) -> float:
        """Errors of layers as if they were independent."""
        return sum(self.noise[layer][chosen] for layer, chosen in enumerate(assignment))

    def cost_of(self, assignment: Assignment) -> float:
        return sum(self.cost[layer][chosen] for layer, chosen in enumerate(assignment))


@dataclass(frozen=True, kw_only=True)
class Found:
    """The best assignment that keeps the budget, and every assignment that was evaluated, in order."""

    best: Assignment
    evaluated: Mapping[Assignment, Point]


def greedy_path(sensitivities: Sensitivities) -> list[Assignment]:
    """From all layers in the widest format to all in the narrowest that saves anything; each step narrows the layer that adds the least
    noise for what it saves."""
    current = [0] * sensitivities.layers
    path = [tuple(current)]
    while steps := list(_narrowings(sensitivities, current)):
        _, layer, chosen = min(steps)
        current[layer] = chosen
        path.append(tuple(current))
    return path


def _narrowings(sensitivities: Sensitivities, current: Sequence[int]) -> Iterator[tuple[float, int, int]]:
    """(noise added / cost saved, layer, format) of every way to narrow one layer."""
    for layer, chosen in enumerate(current):
        noise, cost = sensitivities.noise[layer], sensitivities.cost[layer]
        for narrower in range(chosen + 1, len(cost)):
            saved = cost[chosen] - cost[narrower]
            if saved > 0:
                yield (noise[narrower] - noise[chosen]) / saved, layer, narrower


class Search:
    """One search; results of evaluations are kept. `unsaved`: what to say where narrower formats save nothing."""

    def __init__(self, sensitivities: Sensitivities, evaluate: Evaluate, budget: Budget, unsaved: str = "narrower formats save nothing") -> None:
        self.sensitivities, self.budget, self.unsaved = sensitivities, budget, unsaved
        self._evaluate = evaluate
        self.evaluated: dict[Assignment, Point] = {}

    def point(self, assignment: Assignment) -> Point:
        if assignment not in self.evaluated:
            self.evaluated[assignment] = self._evaluate(assignment)
        return self.evaluated[assignment]

    def run(self) -> Found:
        """Raises QuantizationError, saying what is reachable, when the budget is not."""
        path = greedy_path(self.sensitivities)
        self._sample(path)
        start = self._start(path)
        best = self._improved(start)
        return Found(best=best, evaluated=dict(self.evaluated))

    def _sample(self, path: Sequence[Assignment]) -> None:
        """Points of the path for the picture, about as far apart in decibels of noise."""
        noise = [math.log(max(self.sensitivities.noise_of(assignment), sys.float_info.min)) for assignment in path]
        for k in range(FRONT_POINTS):
            wanted = noise[0] + k * (noise[-1] - noise[0]) / (FRONT_POINTS - 1)
            self.point(min(zip(path, noise, strict=True), key=lambda each: abs(each[1] - wanted))[0])

    def _start(self, path: Sequence[Assignment]) -> Assignment:
        """The first of the path that keeps a cost, or the last that keeps a quality; by bisection, since both fall along it."""
        costs = self.budget.limit.is_cost
        low, high = 0, len(path) - 1
        reachable = path[high] if costs else path[low]
        if not self.budget.met(self.point(reachable)):
            self._refuse(path)
        while low < high:
            middle = (low + high) // 2 if costs else (low + high + 1) // 2
            if self.budget.met(self.point(path[middle])):
                low, high = (low, middle) if costs else (middle, high)
            else:
                low, high = (middle + 1, high) if costs else (low, middle - 1)
        kept = [assignment for assignment, point in self.evaluated.items() if self.budget.met(point)]
        return min((path[low], *kept), key=self._rank)

    def _refuse(self, path: Sequence[Assignment]) -> None:
        limit = self.budget.limit
        numbers = [self.point(assignment).of(limit) for assignment in (path[0], path[-1])]
        best = min(numbers) if limit.is_cost else max(point.of(limit) for point in self.evaluated.values())
        bound, side = ("at most", "least") if limit.is_cost else ("at least", "most")
        where = "all layers in the narrowest format" if limit.is_cost else "all layers in the widest format"
        nothing = f"; {self.unsaved}" if limit.is_cost and numbers[0] == numbers[1] else ""
        raise QuantizationError(
            f"budget {limit.value}: {bound} {self.budget.text()} cannot be met; the {side} that is reachable is {self.budget.text(best)}, with {where}{nothing}"
        )

    def _rank(self, assignment: Assignment) -> tuple[float, ...]:
        """Smaller is better: under a cost the SQNR counts, then the cost; under a quality the cost, then SQNR."""
        point = self.point(assignment)
        cost, noise = point.of(self.budget.cost), -point.sqnr_db
        return (noise, cost, *assignment) if self.budget.limit.is_cost else (cost, noise, *assignment)

    def _improved(self, best: Assignment) -> Assignment:
        """Moves one after the other, each chosen by what all evaluations so far say, until PATIENCE of them in a row gain nothing."""
        tries = patience = 0
        while tries < IMPROVEMENTS and patience < PATIENCE:
            candidate = self._best_move(best)
            if candidate is None:
                break
            tries, patience = tries + 1, patience + 1
            if self.budget.met(self.point(candidate)) and self._rank(candidate)[:2] < self._rank(best)[:2]:
                best, patience = candidate, 0
        return best

    def _best_move(self, current: Assignment) -> Assignment | None:
        """Of the assignments that differ in one or two layers and were not evaluated yet, the most promising by the sensitivities."""
        moves = ((noise, cost, move) for noise, cost, move in self._moves(current) if move not in self.evaluated)
        if self.budget.limit.is_cost:
            spare = self.budget.value - self.point(current).of(self.budget.limit)
            return min(((noise, cost, move) for noise, cost, move in moves if cost <= spare and noise < 0), default=(0, 0, None))[2]
        kept, lost = self._bearable()
        now = self.sensitivities.noise_of(current)
        saving = [(cost, noise, move) for noise, cost, move in moves if cost < 0 and now + noise < lost]
        likely = [each for each in saving if now + each[1] <= math.sqrt(kept * lost)]
        return min(likely or sorted(saving, key=lambda each: each[1])[:1], default=(0, 0, None))[2]

    def _bearable(self) -> tuple[float, float]:
        """The greatest noise that was measured to keep the quality, and the least above it that was measured not to."""
        noise = {assignment: self.sensitivities.noise_of(assignment) for assignment in self.evaluated}
        kept = max(noise[each] for each, point in self.evaluated.items() if self.budget.met(point))
        lost = min((noise[each] for each, point in self.evaluated.items() if not self.budget.met(point) and noise[each] > kept), default=TOLERANCE * kept)
        return kept, lost

    def _moves(self, current: Assignment) -> Iterator[tuple[float, float, Assignment]]:
        """(noise added, cost added, assignment)."""
        s = self.sensitivities
        singles = [
            (s.noise[layer][chosen] - s.noise[layer][before], s.cost[layer][chosen] - s.cost[layer][before], layer, chosen)
            for layer, before in enumerate(current)
            for chosen in range(len(s.cost[layer]))
            if chosen != before
        ]
        for noise, cost, layer, chosen in singles:
            one = _changed(current, layer, chosen)
            yield noise, cost, one
            for more_noise, more_cost, other, other_chosen in singles:
                if other > layer:
                    yield noise + more_noise, cost + more_cost, _changed(one, other, other_chosen)


def _changed(assignment: Assignment, layer: int, chosen: int) -> Assignment:
    return (*assignment[:layer], chosen, *assignment[layer + 1 :])


def pareto(points: Mapping[Assignment, Point], budget: Budget) -> list[Assignment]:
    """Those of which no other one costs no more and is better, by rising cost."""
    front: list[Assignment] = []
    best = float("-inf")
    for assignment in sorted(points, key=lambda each: (points[each].of(budget.cost), -points[each].sqnr_db, each)):
        if points[assignment].sqnr_db > best:
            front.append(assignment)
            best = points[assignment].sqnr_db
    return front
