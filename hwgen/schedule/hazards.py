"""What a step must wait for: reads after writes, writes after reads and after writes, in memories and at their ports."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from hwgen.isa.fields import Engine
from hwgen.schedule.footprint import Interval

_MANY = 48  # accesses after which those are forgotten for which nobody can wait any more


@dataclass(frozen=True, slots=True)
class _Access:
    first: int
    end: int
    engine: Engine
    index: int
    writes: bool


@dataclass
class Hazards:
    """Accesses so far, in the order in which the program means them. Steps of one engine never wait for each other: engines work in order.

    waited: for each pair of engines the last step of the second for which a step of the first has waited already.
    """

    spaces: dict[Hashable, list[_Access]] = field(default_factory=dict)
    limits: dict[Hashable, int] = field(default_factory=dict)
    waited: dict[tuple[Engine, Engine], int] = field(default_factory=dict)

    def access(self, space: Hashable, intervals: tuple[Interval, ...], step: tuple[Engine, int], *, writes: bool) -> dict[Engine, int]:
        """Record that `step` (engine, index in its order) reads or writes `intervals`; returns the last step of each other engine that it must follow."""
        engine, index = step
        entries = self.spaces.get(space, [])
        after: dict[Engine, int] = {}
        for first, end in intervals:
            staying = []
            for entry in entries:
                if entry.first < end and first < entry.end:
                    if (writes or entry.writes) and entry.engine is not engine:
                        after[entry.engine] = max(after.get(entry.engine, -1), entry.index)
                    inside = first <= entry.first and entry.end <= end
                    if inside and (writes or (not entry.writes and entry.engine is engine)):
                        continue  # who waits for this step has waited for that one
                staying.append(entry)
            entries = [*staying, _Access(first, end, engine, index, writes)]
        self.spaces[space] = entries
        self.must_follow(step, after)
        if len(entries) > self.limits.get(space, _MANY):
            self.spaces[space] = [entry for entry in entries if self._matters(entry)]
            self.limits[space] = max(_MANY, 2 * len(self.spaces[space]))
        return after

    def must_follow(self, step: tuple[Engine, int], after: dict[Engine, int]) -> None:
        """Note that `step` follows these."""
        for giver, needed in after.items():
            self.waited[step[0], giver] = max(self.waited.get((step[0], giver), -1), needed)

    def _matters(self, entry: _Access) -> bool:
        """Some engine has not waited for it, and may have to."""
        return any(self.waited.get((engine, entry.engine), -1) < entry.index for engine in Engine if engine is not entry.engine)


def latest(*waits: dict[Engine, int]) -> dict[Engine, int]:
    """For each engine the last step that any of them names."""
    result: dict[Engine, int] = {}
    for wait in waits:
        for engine, index in wait.items():
            result[engine] = max(result.get(engine, -1), index)
    return result
