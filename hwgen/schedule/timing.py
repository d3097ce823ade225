"""When every command runs: the program on the machine's engines, queues, tokens and buses, command by command.

The memory is ideal unless a latency is given: every address is taken at once, its first data come `latency_cycles` later, one bus
word per cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES, Engine
from hwgen.isa.instructions import Command, Conv, Load, Store
from hwgen.schedule.cost import array_cycles

QUEUE_DEPTH = {Engine.LOAD: 4, Engine.COMPUTE: 2, Engine.STORE: 2}  # as in rtl/top.py
START_CYCLES = 10  # from start to the first record at the sequencer, less the record's own bus words
RECORD_GAP_CYCLES = 1  # a record is taken over in one cycle more than it has bus words
GATE_CYCLES = 1  # from the queue to the engine
LOAD_CYCLES = 6  # from acceptance of a load to its end, without its bus words
STORE_CYCLES = 9
END_CYCLES = 3


@dataclass(frozen=True, kw_only=True)
class Span:
    """A command is accepted by its engine in cycle `start`; its last write is done in cycle `end`."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One span per command, and the whole inference from start to interrupt."""

    spans: tuple[Span, ...]
    total_cycles: int


@dataclass
class _Engines:
    """Times that decide when the next command may start."""

    starts: dict[Engine, list[int]] = field(default_factory=lambda: {e: [] for e in Engine})
    ends: dict[Engine, int] = field(default_factory=lambda: dict.fromkeys(Engine, 0))
    given: dict[tuple[Engine, Engine], list[int]] = field(default_factory=lambda: {(a, b): [] for a in Engine for b in Engine})
    taken: dict[tuple[Engine, Engine], int] = field(default_factory=lambda: {(a, b): 0 for a in Engine for b in Engine})

    def queue_free(self, engine: Engine) -> int:
        """When the queue has room for one more: its oldest waiting command has started."""
        started, depth = self.starts[engine], QUEUE_DEPTH[engine]
        return started[-depth] if len(started) >= depth else 0

    def tokens(self, command: Command) -> int:
        """When all awaited tokens are there; takes them."""
        assert command.engine is not None
        latest = 0
        for giver in command.waits:
            pair = (giver, command.engine)
            latest = max(latest, self.given[pair][self.taken[pair]])
            self.taken[pair] += 1
        return latest


def compute_overhead(config: HardwareConfig) -> int:
    """Cycles of a CONV command besides its array cycles: first weights and parameters, then the pipeline until the last write."""
    stages = len(config.requantize.stages) + len(config.add_requantize.stages)
    return 2 * config.weight_load_cycles + stages + (config.in_lanes - 1).bit_length() // 2 + 12


def predict(commands: Sequence[Command], config: HardwareConfig, latency_cycles: int = 1) -> Prediction:
    """Spans of all commands of one inference."""
    engines, spans = _Engines(), []
    record = COMMAND_BYTES // config.bus_bytes
    offered = START_CYCLES + latency_cycles
    for command in commands:
        offered += record + RECORD_GAP_CYCLES
        if command.engine is None:
            spans.append(Span(start=offered, end=max(offered, *engines.ends.values()) + END_CYCLES))
            continue
        offered = max(offered, engines.queue_free(command.engine))
        start = max(offered + GATE_CYCLES, engines.tokens(command))
        end = _end(command, start, engines.ends[command.engine], config, latency_cycles)
        engines.starts[command.engine].append(start)
        engines.ends[command.engine] = end
        for taker in command.signals:
            engines.given[(command.engine, taker)].append(end + 1)
        spans.append(Span(start=start, end=end))
    return Prediction(spans=tuple(spans), total_cycles=max(span.end for span in spans))


def _end(command: Command, start: int, previous_end: int, config: HardwareConfig, latency_cycles: int) -> int:
    if isinstance(command, Conv):
        return max(start, previous_end + 1) + compute_overhead(config) + array_cycles(command, config)
    assert isinstance(command, Load | Store)
    beats = command.rows * (command.row_bytes // config.bus_bytes)
    alone = start + beats + (LOAD_CYCLES if isinstance(command, Load) else STORE_CYCLES) + latency_cycles
    return max(alone, previous_end + beats)
