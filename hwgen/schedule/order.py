"""In which order the sequencer dispatches commands: each as soon as its queue has room, by estimate, and never one that waits for a later one.

The sequencer is one for all engines: a command that finds its queue full holds up those behind it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hwgen.isa.fields import Engine
from hwgen.isa.latency import QUEUE_DEPTH

_RECORD_CYCLES = 9  # between two commands that find room
_START_CYCLES = {Engine.LOAD: 8, Engine.COMPUTE: 16, Engine.STORE: 10}  # from the moment at which nothing is in its way to the first word or pixel


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A step keeps its engine busy for `cycles` and must follow, of each engine in `after`, the step of that index and all before it."""

    cycles: int
    after: Mapping[Engine, int]


def dispatch_order(plans: Mapping[Engine, Sequence[Plan]]) -> list[tuple[Engine, int]]:
    """Engine and index of every step; steps of one engine keep their order."""
    order: list[tuple[Engine, int]] = []
    starts: dict[Engine, list[int]] = {engine: [] for engine in plans}
    ends: dict[Engine, list[int]] = {engine: [] for engine in plans}
    now = 0
    while any(len(starts[engine]) < len(plans[engine]) for engine in plans):
        best: tuple[int, int, Engine] | None = None
        for engine, own in plans.items():
            index = len(starts[engine])
            if index == len(own) or any(len(starts[giver]) <= needed for giver, needed in own[index].after.items()):
                continue
            depth = QUEUE_DEPTH[engine]
            room = starts[engine][index - depth] if index >= depth else 0
            ready = max([now, ends[engine][-1] if ends[engine] else 0, *(ends[giver][needed] for giver, needed in own[index].after.items() if needed >= 0)])
            choice = (max(now, room), ready, engine)
            best = choice if best is None or choice < best else best
        assert best is not None, "steps wait for each other"
        enqueued, ready, engine = best
        now = enqueued + _RECORD_CYCLES
        starts[engine].append(max(ready, now))
        ends[engine].append(starts[engine][-1] + _START_CYCLES[engine] + plans[engine][len(ends[engine])].cycles)
        order.append((engine, len(starts[engine]) - 1))
    return order
