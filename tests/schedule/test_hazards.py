"""Hazards against all pairs of accesses."""

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


@settings(deadline=None)
@given(st.lists(access, max_size=25))
def test_every_conflict_is_ordered_and_no_wait_is_in_vain(accesses):
    hazards, steps, waits = Hazards(), [], []
    for engine, space, intervals, writes in accesses:
        step = (engine, sum(s[0] is engine for s in steps))
        waits.append(hazards.access(space, tuple(intervals), step, writes=writes))
        steps.append(step)
    behind = []  # for every step all steps that are surely done before it
    for j, (engine, _) in enumerate(steps):
        own = {k for k in range(j) if steps[k][0] is engine}
        awaited = {steps.index((giver, needed)) for giver, needed in waits[j].items()}
        assert engine not in waits[j]
        before = own | awaited
        behind.append(before.union(*(behind[k] for k in before)))
        for k in range(j):
            if steps[k][0] is not engine and _conflict(accesses[k], accesses[j]):
                assert k in behind[j], (k, j)
        assert all(_conflict(accesses[k], accesses[j]) for k in awaited)


def test_reads_of_the_same_words_do_not_wait_for_each_other():
    hazards = Hazards()
    assert hazards.access("a", ((0, 4),), (Engine.LOAD, 0), writes=True) == {}
    assert hazards.access("a", ((0, 4),), (Engine.COMPUTE, 0), writes=False) == {Engine.LOAD: 0}
    assert hazards.access("a", ((0, 4),), (Engine.STORE, 0), writes=False) == {Engine.LOAD: 0}
    assert hazards.access("a", ((3, 5),), (Engine.LOAD, 1), writes=True) == {Engine.COMPUTE: 0, Engine.STORE: 0}


def test_the_latest_of_several_waits():
    assert latest() == {}
    assert latest({Engine.LOAD: 3, Engine.STORE: 1}, {Engine.LOAD: 2, Engine.COMPUTE: 0}) == {Engine.LOAD: 3, Engine.STORE: 1, Engine.COMPUTE: 0}
