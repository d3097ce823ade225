"""Segments against brute force: who reads what, what is alive, and the cheapest of all divisions."""

import itertools

import pytest
from schedule_support import random_workload, small

from hwgen.config import SIDES
from hwgen.errors import CapacityError
from hwgen.ops.concat import Concat
from hwgen.schedule import segments
from hwgen.schedule.cascade import best_cascade
from hwgen.schedule.segments import plan, run, traffic
from hwgen.schedule.tiling import best_tiling


def _loads(words_there, seeds=range(40), array="8x8"):
    for seed in seeds:
        yield random_workload(seed, small(array, activation_words=words_there), nodes=5)


def _parts_of(load, name):
    """The values that a value consists of, through concatenations."""
    producer = load.graph.producer(name)
    if producer is not None and isinstance(producer.op, Concat):
        return {leaf for part in producer.inputs for leaf in _parts_of(load, part)}
    return {name}


def test_traffic_is_what_crosses_the_ends_of_a_run():
    crossing = 0
    for load in _loads(4096, range(30)):
        made = [work.operation.output for work in load.works]
        read = [{leaf for name in work.operation.reads for leaf in _parts_of(load, name)} for work in load.works]
        given = {leaf for output in load.graph.outputs for leaf in _parts_of(load, output.value)}
        for first, end in itertools.combinations(range(len(load.works) + 1), 2):
            moved = traffic(load, first, end)
            assert set(moved.loads) == set().union(*read[first:end]) - set(made[first:end])
            assert set(moved.stores) == {name for name in made[first:end] if name in given or any(name in later for later in read[end:])}
            assert len(set(moved.loads)) == len(moved.loads)
            crossing += len(moved.loads) > 1
    assert crossing > 0


def test_segments_follow_each_other_and_hold_every_operation():
    kinds = set()
    for load in itertools.chain(_loads(128), _loads(256), _loads(4096, range(5))):
        try:
            found = plan(load)
        except CapacityError:
            continue
        assert [s.first for s in found] == [0, *(s.end for s in found)][: len(found)] and found[-1].end == len(load.works)
        assert all(sum(part is not None for part in (s.tiling, s.cascade, s.addresses)) == 1 for s in found)
        kinds |= {("tiled" if s.tiling else "cascade" if s.cascade else "run", min(3, s.end - s.first)) for s in found}
        assert (len(found) == 1 and found[0].addresses is not None) == (run(load, 0, len(load.works)) is not None)
    assert kinds == {("tiled", 1), ("cascade", 2), ("run", 1), ("run", 2), ("run", 3)}


def _alive(load, segment):
    """For every step of a run: the words of every value's storage that is used before (or now) and later (or now)."""
    touched = {}
    for index in range(segment.first, segment.end):
        operation = load.works[index].operation
        for name in (*operation.reads, operation.output):
            touched.setdefault(load.origin[name].root, []).append(index)
    for index in range(segment.first, segment.end):
        yield {
            root: range(address, address + load.pitch[root] * load.extent(root).rows * load.extent(root).blocks)
            for root, address in segment.addresses.items()
            if touched[root][0] <= index <= touched[root][-1]
        }


def test_what_is_alive_in_a_run_does_not_overlap():
    chunked = runs = 0
    for load in itertools.chain(_loads(256), _loads(1024), _loads(256, range(20), "4x16")):
        words = load.config.activation_words
        for first, end in itertools.combinations(range(len(load.works) + 1), 2):
            segment = run(load, first, end)
            if segment is None:
                continue
            runs += 1
            for step, places in enumerate(_alive(load, segment)):
                taken = [word for place in places.values() for word in place]
                assert len(taken) == len(set(taken)) and max(taken) < words
                if segment.chunked and step == 0:
                    operation = load.works[first].operation
                    source, target = places.pop(load.origin[operation.input].root), places.pop(load.origin[operation.output].root)
                    assert source[-1] < words // SIDES <= target[0] and not places and operation.residual is None
                    chunked += 1
    assert chunked > 10 and runs > chunked


def _divisions(count):
    """All ways to cut 0..count into ranges."""
    for cuts in itertools.product([False, True], repeat=count - 1):
        limits = [0, *(k for k, there in enumerate(cuts, 1) if there), count]
        yield list(zip(limits, limits[1:], strict=False))


def test_the_division_is_the_cheapest_of_all():
    several = 0
    for load in itertools.chain(_loads(128, range(40)), _loads(256, range(40))):
        count = len(load.works)
        if count > 7 or run(load, 0, count) is not None:
            continue
        cost = {}
        for first, end in itertools.combinations(range(count + 1), 2):
            on_chip = segments._run_estimate(load, first, end) if run(load, first, end) is not None else None
            divided = best_tiling(load.works[first], load) if end == first + 1 else best_cascade(load, first) if end == first + 2 else None
            cost[first, end] = min((c for c in (on_chip, divided and divided.estimate) if c is not None), default=None)
        possible = [sum(cost[part] for part in parts) for parts in _divisions(count) if None not in [cost[part] for part in parts]]
        if not possible:
            with pytest.raises(CapacityError, match="too few"):
                plan(load)
            continue
        found = [s.division.estimate if s.division else segments._run_estimate(load, s.first, s.end) for s in plan(load)]
        assert sum(found) == min(possible)
        several += count > 2
    assert several > 10


def test_a_run_that_turns_out_not_to_fit_is_divided_otherwise(monkeypatch):
    """Where memory is in fragments: what is alive at one time would fit, but at no addresses."""
    load = next(load for load in _loads(256) if len(load.works) > 2 and any(s.end - s.first > 1 for s in plan(load)) and len(plan(load)) > 1)
    longest = max(plan(load), key=lambda s: s.end - s.first)

    def fragmented(load, first, end):
        return None if (first, end) == (longest.first, longest.end) else run(load, first, end)

    monkeypatch.setattr(segments, "run", fragmented)
    found = plan(load)
    assert (longest.first, longest.end) not in [(s.first, s.end) for s in found]
    assert sorted(k for s in found for k in range(s.first, s.end)) == list(range(len(load.works)))


def test_an_operation_that_fits_in_no_way_says_what_it_needs():
    config, found = small("4x4", activation_words=64), []
    for seed in range(60):
        try:
            plan(random_workload(seed, config))
        except CapacityError as error:
            found.append(str(error))
    assert found
    for text in found:
        assert text.startswith("activation buffer: layer 'n") and "even in its smallest tile, the hardware '4x4' has 64 (0.2 KiB)" in text
        needed, missing = int(text.split(" needs at least ")[1].split()[0]), int(text.split("KiB): ")[1].split()[0])
        assert missing == max(needed - 64, 1)
        assert int(text.rsplit(" ", 1)[1]) >= max(needed, 128)


def test_a_network_in_more_tiles_than_are_sensible(monkeypatch):
    monkeypatch.setattr(segments, "MOST_TILES", 3)
    load = random_workload(0, small("8x8", activation_words=128))
    rule = r"^activation buffer: the network falls into 14 tiles, more than the 3 that are sensible; the hardware .* has 128 words; set activation_words to 512"
    with pytest.raises(CapacityError, match=rule):
        segments.plan(load)
