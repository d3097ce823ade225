"""The order of dispatch: loads ahead of the array, never in its way, and no deadlock."""

from hypothesis import given
from hypothesis import strategies as st

from hwgen.isa.fields import Engine
from hwgen.schedule.order import ConvPlan, LoadPlan, dispatch_order

LOAD, COMPUTE = Engine.LOAD, Engine.COMPUTE


def test_loads_run_ahead_while_the_array_works():
    loads = [LoadPlan(cycles=100, after=-1) for _ in range(4)]
    convs = [ConvPlan(cycles=1000, needs=k) for k in range(4)]
    assert dispatch_order(loads, convs)[:5] == [(LOAD, 0), (COMPUTE, 0), (LOAD, 1), (LOAD, 2), (LOAD, 3)]


def test_a_load_that_would_find_its_queue_full_stays_behind_the_array():
    loads = [LoadPlan(cycles=10_000, after=-1) for _ in range(8)]
    convs = [ConvPlan(cycles=100, needs=0) for _ in range(3)] + [ConvPlan(cycles=100, needs=7)]
    order = dispatch_order(loads, convs)
    assert order.index((LOAD, 5)) < order.index((COMPUTE, 2)) < order.index((LOAD, 6))


def test_a_load_stays_behind_the_command_that_it_waits_for():
    loads = [LoadPlan(cycles=10, after=-1), LoadPlan(cycles=10, after=0)]
    order = dispatch_order(loads, [ConvPlan(cycles=500, needs=0), ConvPlan(cycles=500, needs=1)])
    assert order == [(LOAD, 0), (COMPUTE, 0), (LOAD, 1), (COMPUTE, 1)]


@given(st.data())
def test_every_command_once_and_in_its_order(data):
    """Whatever the durations: needed loads come first, awaited CONV commands too, and nothing is lost."""
    count = data.draw(st.integers(1, 12))
    per_conv = [data.draw(st.integers(0, 3)) for _ in range(count)]
    loads, convs = [], []
    for index, number in enumerate(per_conv):
        for _ in range(number):
            loads.append(LoadPlan(cycles=data.draw(st.integers(1, 3000)), after=data.draw(st.integers(-1, index - 1))))
        convs.append(ConvPlan(cycles=data.draw(st.integers(1, 3000)), needs=len(loads) - 1))
    loads.append(LoadPlan(cycles=1, after=count - 1))  # after the last CONV command
    order = dispatch_order(loads, convs)
    place = {entry: position for position, entry in enumerate(order)}
    assert [index for engine, index in order if engine is LOAD] == list(range(len(loads)))
    assert [index for engine, index in order if engine is COMPUTE] == list(range(count))
    for index, conv in enumerate(convs):
        assert conv.needs < 0 or place[(LOAD, conv.needs)] < place[(COMPUTE, index)]
    for index, load in enumerate(loads):
        assert load.after < 0 or place[(COMPUTE, load.after)] < place[(LOAD, index)]
