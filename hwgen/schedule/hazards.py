"""What a step must wait for: reads after writes, writes after reads and after writes, in memories and at their ports."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from hwgen.isa.fields import Engine
from hwgen.schedule.footprint import Interval


@dataclass(frozen=True)
class _Access:
    first: int
    end: int
    engine: Engine
    index: int
    writes: bool


@dataclass
class Hazards:
    """Accesses so far, in the order in which the program means them. Steps of one engine never wait for each other: engines work in order."""

    spaces: dict[Hashable, list[_Access]] = field(default_factory=dict)

    def access(self, space: Hashable, intervals: tuple[Interval, ...], step: tuple[Engine, int], *, writes: bool) -> dict[Engine, int]:
        """Record that `step` (engine, index in its order) reads or writes `intervals`; returns the last step of each other engine that it must follow."""
        engine, index = step
        entries = self.spaces.setdefault(space, [])
        after: dict[Engine, int] = {}
        for first, end in intervals:
            kept = []
            for entry in entries:
                if entry.first < end and first < entry.end:
                    if (writes or entry.writes) and entry.engine is not engine:
                        after[entry.engine] = max(after.get(entry.engine, -1), entry.index)
                    inside = first <= entry.first and entry.end <= end
                    if inside and (writes or (not entry.writes and entry.engine is engine)):
                        continue  # who waits for this step has waited for that one
                kept.append(entry)
            kept.append(_Access(first, end, engine, index, writes))
            entries[:] = kept
        return after


def latest(*waits: dict[Engine, int]) -> dict[Engine, int]:
    """For each engine the last step that any of them names."""
    result: dict[Engine, int] = {}
    for wait in waits:
        for engine, index in wait.items():
            result[engine] = max(result.get(engine, -1), index)
    return result
