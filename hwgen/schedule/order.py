"""In which order the sequencer dispatches commands: each as soon as its queue has room, by estimate, and never one that waits for a later one.

The sequencer is one for all engines: a command that finds its queue full holds up those behind it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hwgen.isa.fields import TOKEN_LIMIT, Engine
from hwgen.isa.latency import QUEUE_DEPTH

_RECORD_CYCLES = 9  # between two commands that find room
_START_CYCLES = {Engine.LOAD: 8, Engine.COMPUTE: 16, Engine.STORE: 10}  # from the moment at which nothing is in its way to the first word or pixel
_MOST_TOKENS = TOKEN_LIMIT - 2 * max(QUEUE_DEPTH.values())  # given by dispatched commands to later ones; those in queues have not taken theirs yet


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A step keeps its engine busy for `cycles` and must follow, of each engine in `after`, the step of that index and all before it."""

    cycles: int
    after: Mapping[Engine, int]


@dataclass(frozen=True)
class Token:
    """Step `given` of engine `giver` gives it, step `taken` of engine `taker` awaits it."""

    giver: Engine
    given: int
    taker: Engine
    taken: int


def tokens(plans: Mapping[Engine, Sequence[Plan]]) -> Iterator[Token]:
    """One for each dependency that no earlier token of the same pair of engines implies: they are taken in the order in which they are given."""
    for taker, own in plans.items():
        for giver in plans:
            seen = -1
            for index, plan in enumerate(own):
                needed = plan.after.get(giver, -1)
                if needed > seen:
                    seen = needed
                    yield Token(giver, needed, taker, index)


@dataclass
class _Balance:
    """Tokens between the commands that are dispatched and those that are not: the machine counts only so many."""

    gives: Mapping[tuple[Engine, int], Sequence[Engine]]
    takes: Mapping[tuple[Engine, int], Sequence[Engine]]
    count: Counter[tuple[Engine, Engine]]

    def full(self, engine: Engine, index: int) -> bool:
        """Whether a step would give one too many."""
        return any(self.count[engine, taker] >= _MOST_TOKENS for taker in self.gives.get((engine, index), ()))

    def dispatched(self, engine: Engine, index: int) -> None:
        self.count.update((engine, taker) for taker in self.gives.get((engine, index), ()))
        self.count.subtract((giver, engine) for giver in self.takes.get((engine, index), ()))


def _balance(plans: Mapping[Engine, Sequence[Plan]]) -> _Balance:
    gives: dict[tuple[Engine, int], list[Engine]] = defaultdict(list)
    takes: dict[tuple[Engine, int], list[Engine]] = defaultdict(list)
    for token in tokens(plans):
        gives[token.giver, token.given].append(token.taker)
        takes[token.taker, token.taken].append(token.giver)
    return _Balance(gives, takes, Counter())


def dispatch_order(plans: Mapping[Engine, Sequence[Plan]]) -> list[tuple[Engine, int]]:
    """Engine and index of every step; steps of one engine keep their order."""
    order: list[tuple[Engine, int]] = []
    starts: dict[Engine, list[int]] = {engine: [] for engine in plans}
    ends: dict[Engine, list[int]] = {engine: [] for engine in plans}
    now, balance = 0, _balance(plans)
    while any(len(starts[engine]) < len(plans[engine]) for engine in plans):
        best: tuple[bool, int, int, Engine] | None = None
        for engine, own in plans.items():
            index = len(starts[engine])
            if index == len(own) or any(len(starts[giver]) <= needed for giver, needed in own[index].after.items()):
                continue
            depth = QUEUE_DEPTH[engine]
            room = starts[engine][index - depth] if index >= depth else 0
            ready = max([now, ends[engine][-1] if ends[engine] else 0, *(ends[giver][needed] for giver, needed in own[index].after.items() if needed >= 0)])
            choice = (balance.full(engine, index), max(now, room), ready, engine)
            best = choice if best is None or choice < best else best
        assert best is not None, "steps wait for each other"
        _, enqueued, ready, engine = best
        balance.dispatched(engine, len(starts[engine]))
        now = enqueued + _RECORD_CYCLES
        starts[engine].append(max(ready, now))
        ends[engine].append(starts[engine][-1] + _START_CYCLES[engine] + plans[engine][len(ends[engine])].cycles)
        order.append((engine, len(starts[engine]) - 1))
    return order
