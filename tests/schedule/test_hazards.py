"""Hazards against all pairs of accesses."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from hwgen.isa.fields import Engine
from hwgen.schedule.hazards import Hazards, latest

ENGINES = list(Engine)

access = st.tuples(
    st.sampled_from(ENGINES),
    st.sampled_from(["a", "b"]),
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8)).map(lambda p: (p[0], p[0] + p[1])), min_size=1, max_size=2),
    st.booleans(),
)


def _conflict(a, b):
    """Of two accesses in the program's order: must they keep it?"""
    (_, space, intervals, writes), (_, other, others, also) = a, b
    met = any(first < e and f < end for first, end in intervals for f, e in others)
    return space == other and (writes or also) and met


def _check(accesses):
    """Every conflict is ordered by waits and the engines' own order; nobody waits for a step with which it has no conflict."""
    hazards, steps, waits, place = Hazards(), [], [], {}
    counts = dict.fromkeys(ENGINES, 0)
    for engine, space, intervals, writes in accesses:
        step = (engine, counts[engine])
        counts[engine] += 1
        place[step] = len(steps)
        waits.append(hazards.access(space, tuple(intervals), step, writes=writes))
        steps.append(step)
    behind = []  # for every step all steps (as bits) that are surely done before it
    last = dict.fromkeys(ENGINES, 0)
    for j, (engine, _) in enumerate(steps):
        assert engine not in waits[j]
        awaited = [place[entry] for entry in waits[j].items()]
        before = last[engine]
        for k in awaited:
            before |= behind[k] | 1 << k
        behind.append(before)
        last[engine] = before | 1 << j
        for k in range(j):
            if steps[k][0] is not engine and _conflict(accesses[k], accesses[j]):
                assert before >> k & 1, (k, j)
        assert all(_conflict(accesses[k], accesses[j]) for k in awaited)
    return hazards


@settings(deadline=None)
@given(st.lists(access, max_size=25))
def test_every_conflict_is_ordered_and_no_wait_is_in_vain(accesses):
    _check(accesses)


def test_accesses_for_which_nobody_can_wait_any_more_are_forgotten():
    """Of long programs: all conflicts stay ordered, and what is remembered does not grow with the program."""
    r = random.Random(1)
    accesses = []
    for _ in range(1500):
        first = r.randint(0, 400)
        accesses.append((r.choice(ENGINES), r.choice("ab"), [(first, first + r.choice([1, 2, 60]))], r.random() < 0.3))
    remembered = _check(accesses).spaces.values()
    assert max(map(len, remembered)) < 300


def test_reads_of_the_same_words_do_not_wait_for_each_other():
    hazards = Hazards()
    assert hazards.access("a", ((0, 4),), (Engine.LOAD, 0), writes=True) == {}
    assert hazards.access("a", ((0, 4),), (Engine.COMPUTE, 0), writes=False) == {Engine.LOAD: 0}
    assert hazards.access("a", ((0, 4),), (Engine.STORE, 0), writes=False) == {Engine.LOAD: 0}
    assert hazards.access("a", ((3, 5),), (Engine.LOAD, 1), writes=True) == {Engine.COMPUTE: 0, Engine.STORE: 0}


def test_the_latest_of_several_waits():
    assert latest() == {}
    assert latest({Engine.LOAD: 3, Engine.STORE: 1}, {Engine.LOAD: 2, Engine.COMPUTE: 0}) == {Engine.LOAD: 3, Engine.STORE: 1, Engine.COMPUTE: 0}


def test_the_last_step_is_not_forgotten_too_early():
    """Two engines that follow the third at a distance of one step, for longer than accesses are remembered."""
    hazards = Hazards()
    for k in range(300):
        hazards.access("a", ((k, k + 1),), (Engine.LOAD, k), writes=True)
        for engine in (Engine.COMPUTE, Engine.STORE):
            assert hazards.access("a", ((k - 1, k),), (engine, k), writes=False) == ({Engine.LOAD: k - 1} if k else {})
