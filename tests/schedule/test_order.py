"""The order of dispatch: every command as soon as its queue has room, and no deadlock."""

from hypothesis import given
from hypothesis import strategies as st

from hwgen.isa.fields import TOKEN_LIMIT, Engine
from hwgen.isa.latency import QUEUE_DEPTH
from hwgen.schedule.order import Plan, Token, dispatch_order, tokens

LOAD, COMPUTE, STORE = Engine.LOAD, Engine.COMPUTE, Engine.STORE


def test_loads_run_ahead_while_the_array_works():
    loads = [Plan(cycles=100, after={}) for _ in range(4)]
    convs = [Plan(cycles=1000, after={LOAD: k}) for k in range(4)]
    order = dispatch_order({LOAD: loads, COMPUTE: convs})
    assert order.index((LOAD, 3)) < order.index((COMPUTE, 2))


def test_a_load_that_would_find_its_queue_full_stays_behind_the_array():
    loads = [Plan(cycles=10_000, after={}) for _ in range(8)]
    convs = [Plan(cycles=100, after={LOAD: 0}) for _ in range(3)] + [Plan(cycles=100, after={LOAD: 7})]
    order = dispatch_order({LOAD: loads, COMPUTE: convs})
    assert order.index((COMPUTE, 1)) < order.index((LOAD, 5))


def test_stores_that_wait_for_a_long_command_do_not_hold_up_what_follows():
    convs = [Plan(cycles=10_000, after={}), Plan(cycles=10, after={})]
    stores = [Plan(cycles=10, after={COMPUTE: 0}) for _ in range(6)]
    order = dispatch_order({COMPUTE: convs, STORE: stores})
    assert order.index((COMPUTE, 1)) < order.index((STORE, 3))


@given(st.data())
def test_every_command_once_and_behind_what_it_waits_for(data):
    """Whatever the durations: nothing is lost, engines keep their order, and no command comes before one that it awaits."""
    plans = {engine: [] for engine in Engine}
    for _ in range(data.draw(st.integers(1, 30))):
        engine = data.draw(st.sampled_from(list(Engine)))
        after = {giver: data.draw(st.integers(-1, len(plans[giver]) - 1)) for giver in Engine if giver is not engine}
        plans[engine].append(Plan(cycles=data.draw(st.integers(1, 3000)), after=after))
    order = dispatch_order(plans)
    place = {entry: position for position, entry in enumerate(order)}
    for engine, own in plans.items():
        assert [index for found, index in order if found is engine] == list(range(len(own)))
        for index, plan in enumerate(own):
            assert all(needed < 0 or place[(giver, needed)] < place[(engine, index)] for giver, needed in plan.after.items())


def test_never_more_tokens_than_the_machine_counts():
    """Loads could run ahead of a long command without end; the machine stops when an engine gives more tokens than it counts."""
    loads = [Plan(cycles=10, after={}) for _ in range(2 * TOKEN_LIMIT)]
    convs = [Plan(cycles=100_000, after={LOAD: k}) for k in range(2 * TOKEN_LIMIT)]
    order, open_tokens = dispatch_order({LOAD: loads, COMPUTE: convs}), []
    for place in range(len(order)):
        ahead = [engine for engine, _ in order[: place + 1]]
        open_tokens.append(ahead.count(LOAD) - (ahead.count(COMPUTE) - min(QUEUE_DEPTH[COMPUTE] + 1, ahead.count(COMPUTE))))
    assert TOKEN_LIMIT // 2 < max(open_tokens) <= TOKEN_LIMIT


def test_tokens_that_earlier_ones_imply_are_left_out():
    loads, convs = [Plan(cycles=1, after={})] * 3, [Plan(cycles=1, after={LOAD: k}) for k in (0, 2, 1, 2)]
    plans = {LOAD: loads, COMPUTE: convs, STORE: [Plan(cycles=1, after={COMPUTE: -1})]}
    assert list(tokens(plans)) == [Token(LOAD, 0, COMPUTE, 0), Token(LOAD, 2, COMPUTE, 1)]
