"""The search over formats, on problems small enough to try everything; budgets as text."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from hwgen.errors import ConfigError, QuantizationError
from hwgen.explore.budget import Budget, Limit, Point, parse_budget
from hwgen.explore.search import Search, Sensitivities, greedy_path, pareto

LAYERS, FORMATS = 5, 4


def problem(seed):
    """Layers whose noise grows and whose cost falls with the format; and the truth, which is near to them, but not the sum."""
    rng = np.random.default_rng(seed)
    noise = np.cumsum(rng.exponential(size=(LAYERS, FORMATS)) * 10.0 ** rng.uniform(-2, 1, (LAYERS, 1)), axis=1)
    weights = rng.integers(10, 1000, (LAYERS, 1))
    cost = weights * np.array([8, 4, 2, 1])

    def evaluate(assignment):
        total = sum(noise[layer, chosen] for layer, chosen in enumerate(assignment))
        wobble = 1 + 0.05 * math.sin(sum(assignment) * 7.1)
        return Point(
            weight_bytes=int(sum(cost[layer, chosen] for layer, chosen in enumerate(assignment))) + 100,
            cycles=1000 - 10 * sum(assignment),
            sqnr_db=-10 * math.log10(total * wobble),
            agreement=1 / (1 + total),
        )

    return Sensitivities(noise=noise.tolist(), cost=cost.tolist()), evaluate


def everything(evaluate):
    return {assignment: evaluate(assignment) for assignment in itertools.product(range(FORMATS), repeat=LAYERS)}


def test_the_path_goes_from_widest_to_narrowest_and_costs_fall():
    sensitivities, evaluate = problem(1)
    path = greedy_path(sensitivities)
    assert path[0] == (0,) * LAYERS and path[-1] == (FORMATS - 1,) * LAYERS
    costs = [evaluate(assignment).weight_bytes for assignment in path]
    assert costs == sorted(costs, reverse=True) and len(set(costs)) == len(costs)


@pytest.mark.parametrize("seed", range(8))
def test_a_cost_is_kept_and_quality_near_the_optimum(seed):
    sensitivities, evaluate = problem(seed)
    every = everything(evaluate)
    least, most = min(p.weight_bytes for p in every.values()), max(p.weight_bytes for p in every.values())
    budget = Budget(limit=Limit.WEIGHTS, value=least + 0.4 * (most - least))
    found = Search(sensitivities, evaluate, budget).run()
    optimum = max(point.sqnr_db for point in every.values() if budget.met(point))
    assert budget.met(every[found.best])
    assert every[found.best].sqnr_db >= optimum - 0.5
    assert len(found.evaluated) <= 60


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [Limit.SQNR, Limit.AGREEMENT])
def test_a_quality_is_reached_at_nearly_the_least_cost(seed, limit):
    sensitivities, evaluate = problem(seed)
    every = everything(evaluate)
    numbers = sorted(point.of(limit) for point in every.values())
    budget = Budget(limit=limit, value=numbers[len(numbers) // 2])
    found = Search(sensitivities, evaluate, budget).run()
    optimum = min(point.weight_bytes for point in every.values() if budget.met(point))
    assert budget.met(every[found.best])
    assert every[found.best].weight_bytes <= 1.25 * optimum


def test_a_budget_that_cannot_be_met_says_what_is_reachable():
    sensitivities, evaluate = problem(3)
    every = everything(evaluate)
    least = min(point.weight_bytes for point in every.values())
    message = rf"^budget weights: at most 50 bytes cannot be met; the least that is reachable is {least:,} bytes, with all layers in the narrowest format$"
    with pytest.raises(QuantizationError, match=message):
        Search(sensitivities, evaluate, parse_budget("weights=50")).run()
    message = r"^budget sqnr: at least 300\.00 dB cannot be met; the most that is reachable is \S+ dB, with all layers in the widest format$"
    with pytest.raises(QuantizationError, match=message):
        Search(sensitivities, evaluate, parse_budget("sqnr=300dB")).run()


def test_generous_budgets_change_nothing_or_as_much_as_they_allow():
    sensitivities, evaluate = problem(4)
    best = Search(sensitivities, evaluate, parse_budget("weights=1MiB")).run().best
    assert evaluate(best).sqnr_db >= evaluate((0,) * LAYERS).sqnr_db
    assert Search(sensitivities, evaluate, parse_budget("agreement=0")).run().best == (FORMATS - 1,) * LAYERS


def test_the_front_holds_what_nothing_else_beats():
    sensitivities, evaluate = problem(5)
    every = everything(evaluate)
    budget = parse_budget("weights=1MiB")
    front = pareto(every, budget)
    assert len(front) > 3
    for assignment in front:
        point = every[assignment]
        assert not any(other.weight_bytes <= point.weight_bytes and other.sqnr_db > point.sqnr_db for other in every.values())


@pytest.mark.parametrize(
    ("text", "limit", "value"),
    [
        ("weights=40KiB", Limit.WEIGHTS, 40960),
        ("weights=1.5MB", Limit.WEIGHTS, 1.5e6),
        ("weights=123", Limit.WEIGHTS, 123),
        ("cycles=50000", Limit.CYCLES, 50000),
        ("cycles=50k", Limit.CYCLES, 50000),
        ("sqnr=30dB", Limit.SQNR, 30),
        ("agreement=99%", Limit.AGREEMENT, 0.99),
        ("agreement=0.99", Limit.AGREEMENT, 0.99),
    ],
)
def test_budgets_as_text(text, limit, value):
    assert parse_budget(text) == Budget(limit=limit, value=pytest.approx(value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("40KiB", r"^budget '40KiB': must be weights=\.\.\., cycles=\.\.\., sqnr=\.\.\., agreement=\.\.\., for example weights=40KiB"),
        ("bytes=40", r"must be weights="),
        ("weights=-4", r"must be weights="),
        ("weights=nan", r"must be weights="),
        ("weights=٤", r"must be weights="),
        ("weights=40dB", r"^budget 'weights=40dB': the unit must be B, KB, MB, KiB, MiB or none, not 'dB'$"),
        ("agreement=99", r"^budget 'agreement=99': agreement must be a share of at most 1, or 100%$"),
    ],
)
def test_budgets_that_are_none(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_budget(text)
