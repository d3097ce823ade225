"""In which order the sequencer dispatches loads and CONV commands: loads as early as possible without making the array wait.

The sequencer is one for all engines: a load that finds its queue full holds up the CONV commands behind it, and the other way round. So a
load goes in front of a CONV command only if, by estimate, it finds room in its queue before the array runs out of work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwgen.isa.fields import Engine
from hwgen.isa.latency import QUEUE_DEPTH, SETUP_CYCLES

_DISPATCH_CYCLES = 40  # from a record's turn to its command's first pixel, with some reserve


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """A load keeps the bus for `cycles` and must follow CONV command `after` (-1: none)."""

    cycles: int
    after: int


@dataclass(frozen=True, kw_only=True)
class ConvPlan:
    """A CONV command keeps the array for `cycles` and needs load `needs` and all before it."""

    cycles: int
    needs: int


def dispatch_order(loads: Sequence[LoadPlan], convs: Sequence[ConvPlan]) -> list[tuple[Engine, int]]:
    """Engine and index in its own order of every load and CONV command. Loads wait only for CONV commands that are dispatched before."""
    order: list[tuple[Engine, int]] = []
    load_starts: list[int] = []
    load_end = conv_end = 0
    load_ends: list[int] = []
    conv_ends: list[int] = []
    while len(conv_ends) < len(convs):
        conv, next_load = convs[len(conv_ends)], len(load_ends)
        legal = next_load < len(loads) and loads[next_load].after < len(conv_ends)
        needed = next_load <= conv.needs
        room_at = load_starts[next_load - QUEUE_DEPTH[Engine.LOAD]] if next_load >= QUEUE_DEPTH[Engine.LOAD] else 0
        if needed or (legal and room_at + _DISPATCH_CYCLES <= conv_end):
            assert legal, "a load waits for a CONV command that needs it"
            load = loads[next_load]
            load_starts.append(max(load_end, conv_ends[load.after] if load.after >= 0 else 0))
            load_end = load_starts[-1] + load.cycles
            load_ends.append(load_end)
            order.append((Engine.LOAD, next_load))
        else:
            ready = load_ends[conv.needs] if conv.needs >= 0 else 0
            conv_end = max(conv_end, ready) + SETUP_CYCLES + conv.cycles
            order.append((Engine.COMPUTE, len(conv_ends)))
            conv_ends.append(conv_end)
    return order + [(Engine.LOAD, index) for index in range(len(load_ends), len(loads))]
