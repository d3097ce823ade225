"""When every command runs, to the cycle: program fetch, queues, tokens, engines and buses, by the timing that the RTL documents.

The memory takes every address at once, gives the first bus word `latency_cycles` later and then one per cycle. Only cycles in which
something can happen are visited, so the time taken depends on the number of commands and bursts.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from hwgen.config import HardwareConfig, Machine
from hwgen.errors import CapacityError
from hwgen.isa import latency
from hwgen.isa.fields import COMMAND_BYTES, Engine
from hwgen.isa.instructions import Command, Conv, Load, Store
from hwgen.packing import WeightFormat
from hwgen.schedule import serial
from hwgen.schedule.cost import command_cycles

_NEVER = 1 << 62


@dataclass(frozen=True, kw_only=True)
class Span:
    """A command is accepted by its engine in cycle `start`; its last write is done in cycle `end`. END: from its decoding on."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One span per command, and what the cycle counter shows after one inference. The last bus word that is read comes before cycle
    `reads_until`: on Wishbone, stores that begin before it share the bus with reads, which takes cycles that are not counted here."""

    spans: tuple[Span, ...]
    total_cycles: int
    reads_until: int


class _Arrivals:
    """Bus words of loads between R and the buffers: one may wait beside the port while the one before it is being written."""

    def __init__(self) -> None:
        self.wait_free = self.write_free = 0  # cycles from which a bus word is taken from R, and from which one is written

    def take(self, offered: int, cycles: tuple[int, int, int]) -> int:
        """A burst whose first bus word is on R from cycle `offered` on; returns the cycle in which its last one is taken. `cycles`: how long
        it is written, and how long its bus words but the last one, and but the last two."""
        first = max(offered, self.wait_free)
        begin = max(first + 1, self.write_free)
        written, but_one, but_two = cycles
        self.write_free, self.wait_free = begin + written, begin + but_one
        return first if but_one == 0 else begin + but_two


def _bursts(first_beat: int, beats: int) -> Iterator[int]:
    """Lengths of the bursts of a row: they end at multiples of BURST_BEATS."""
    while beats:
        length = min(beats, latency.BURST_BEATS - first_beat % latency.BURST_BEATS)
        yield length
        first_beat, beats = first_beat + length, beats - length


class _Source:
    """Row generator and burst splitter of one engine."""

    def __init__(self) -> None:
        self.rows: deque[deque[int]] = deque()  # burst lengths of the rows that the splitter has not taken
        self.row_from = 0  # cycle from which the next row is offered to the splitter
        self.accept_from = 0  # cycle from which the next command is accepted
        self.bursts: deque[int] = deque()
        self.burst_from = 0

    def accepts(self, now: int) -> bool:
        return not self.rows and now >= self.accept_from

    def accept(self, now: int, rows: Iterable[Iterable[int]]) -> None:
        self.rows.extend(deque(row) for row in rows)
        self.row_from = now + latency.ROW_CYCLES

    def take_row(self, now: int) -> bool:
        """Move the next row to the splitter if that is free; it offers the first burst in the next cycle."""
        if not self.rows or now < self.row_from or self.bursts:
            return False
        self.bursts, self.burst_from = self.rows.popleft(), now + 1
        self.row_from, self.accept_from = now + latency.ROW_CYCLES, now + 1
        return True

    def offers(self, now: int) -> bool:
        return bool(self.bursts) and now >= self.burst_from


class _Machine:
    """The machine's control state; `run` visits cycles in order."""

    def __init__(self, commands: Sequence[Command], config: HardwareConfig, latency_cycles: int, records: int) -> None:
        self.records_there = records  # in the program region from the first command on
        self.commands, self.config, self.latency_cycles = commands, config, latency_cycles
        self.starts, self.ends = [0] * len(commands), [0] * len(commands)
        self.signals = [command.signals for command in commands]
        self.wakeups = [0]
        self.queues: dict[Engine, deque[tuple[int, int]]] = {engine: deque() for engine in Engine}  # (command, visible from)
        self.tokens: dict[tuple[Engine, Engine], list[int]] = {(a, b): [] for a in Engine for b in Engine}  # heaps of the cycles from which they count
        self.awaited = [tuple(self.tokens[(giver, c.engine)] for giver in c.waits) if c.engine is not None else () for c in commands]
        self.fetch, self.load = _Source(), _Source()
        self.record_beats = COMMAND_BYTES // config.bus_bytes
        self.requested = self.assembled = 0  # records asked for, and complete before this cycle
        self.completions: deque[int] = deque()
        self.records: deque[int] = deque()  # last bus word of each record that has not been taken over
        self.place_free = 0  # cycle from which the next record may be taken over
        self.next_command, self.record_at = 0, _NEVER
        self.bus_free = 0
        self.read_next = _NEVER  # next cycle in which the read DMA can do something
        self.under_way: deque[int] = deque()  # last bus word of the bursts that the read DMA has accepted
        self.loads: deque[tuple[int, int]] = deque()  # (command, bursts left)
        self.arrivals, self.writing = _Arrivals(), deque[tuple[int, int, int]]()  # `cycles` of each burst of loads
        self.compute_free, self.compute_end = 0, -1
        self.store = _Source()
        self.stores: deque[tuple[int, int]] = deque()  # (command, bursts left)
        self.words_free = 0  # cycle from which the store engine takes the next burst
        self.unconfirmed: deque[int] = deque()  # responses to the bursts that the write DMA has accepted

    def wake(self, cycle: int) -> None:
        heapq.heappush(self.wakeups, cycle)

    def run(self) -> int:
        """Cycle in which END is done."""
        previous = -1
        while self.wakeups:
            now = heapq.heappop(self.wakeups)
            if now > previous:
                previous = now
                self._sequencer(now)
                if self.next_command == len(self.commands):
                    return now
                self._engines(now)
                self._read_dma(now)
                self._write_dma(now)
                self._fetch(now)
                self._stream_loads()
        raise CapacityError(f"program: command {self.next_command} can never be dispatched; tokens that nobody gives are awaited")

    def _stream_loads(self) -> None:
        """Bursts of loads one after the other, as long as nothing else can happen in between."""
        while self.read_next < (self.wakeups[0] if self.wakeups else _NEVER) and not self.fetch.bursts:
            self._read_dma(self.read_next)
        if self.read_next != _NEVER:
            self.wake(self.read_next)

    def _fetch(self, now: int) -> None:
        """Rows of the program: one record each, at most RECORDS_AHEAD that are not complete."""
        if self.fetch.accepts(now) and self.requested < self.records_there:
            self.fetch.accept(now, [_bursts(self.requested * self.record_beats, self.record_beats)])
            self.wake(self.fetch.row_from)
        while self.completions and self.completions[0] < now:
            self.completions.popleft()
            self.assembled += 1
        if self.requested - self.assembled < latency.RECORDS_AHEAD and self.fetch.take_row(now):
            self.requested += 1
            self.wake(now + 1)

    def _read_dma(self, now: int) -> None:
        """At most one burst per cycle, the program's first, while fewer than OUTSTANDING_BURSTS are under way."""
        while self.under_way and self.under_way[0] < now:
            self.under_way.popleft()
        source = self.fetch if self.fetch.offers(now) else self.load if self.load.offers(now) else None
        self.read_next = _NEVER
        if source is not None and len(self.under_way) < latency.OUTSTANDING_BURSTS:
            self._read(source, now)
            self.read_next = now + 1
        elif source is not None:
            self.read_next = self.under_way[0] + 1
        if self.load.take_row(now):
            self.wake(self.load.row_from)
            self.read_next = now + 1
            if not self.load.rows:
                self.wake(self.load.accept_from)  # the engine takes its next command

    def _read(self, source: _Source, now: int) -> None:
        """A burst: its bus words follow those of the bursts before it."""
        offered, beats = max(now + 1 + self.latency_cycles, self.bus_free), source.bursts.popleft()
        source.burst_from = now + 1
        self.bus_free = 1 + (self.arrivals.take(offered, self.writing.popleft()) if source is self.load else offered + beats - 1)
        self.under_way.append(self.bus_free - 1)
        if source is self.load:
            self._burst_done(self.loads, self.arrivals.write_free - 1)
        elif not source.bursts:
            self.records.append(self.bus_free - 1)
            self._take_over()

    def _burst_done(self, transfers: deque[tuple[int, int]], cycle: int) -> None:
        """With its last burst the oldest transfer is done in `cycle`."""
        command, left = transfers.popleft()
        if left > 1:
            transfers.appendleft((command, left - 1))
        else:
            self._done(command, cycle)

    def _write_dma(self, now: int) -> None:
        """A burst's words are read one per cycle; the next burst is taken with its last word, while fewer than OUTSTANDING_BURSTS wait for a response."""
        while self.unconfirmed and self.unconfirmed[0] < now:
            self.unconfirmed.popleft()
        if self.store.offers(now):
            if now >= self.words_free and len(self.unconfirmed) < latency.OUTSTANDING_BURSTS:
                beats = self.store.bursts.popleft()
                self.store.burst_from, self.words_free = now + 1, now + beats
                self.unconfirmed.append(now + latency.STORE_CYCLES - 1 + beats + self.latency_cycles)
                self._burst_done(self.stores, self.unconfirmed[-1])
            full = len(self.unconfirmed) == latency.OUTSTANDING_BURSTS
            self.wake(max(now + 1, self.words_free, self.unconfirmed[0] + 1 if full else 0))
        if self.store.take_row(now):
            self.wake(now + 1)
            self.wake(self.store.row_from)

    def _take_over(self) -> None:
        """The next record goes to the sequencer, word by word, as soon as the one there has left."""
        if self.record_at == _NEVER and self.records:
            complete = max(self.records.popleft() + 1, self.place_free + self.record_beats - 1)
            self.completions.append(complete)
            self.record_at = complete + 1
            self.wake(self.record_at)

    def _sequencer(self, now: int) -> None:
        """A record leaves when its queue has room; END leaves when nothing else is left to do."""
        if now < self.record_at:
            return
        command = self.commands[self.next_command]
        if command.engine is None:
            if any(self.queues.values()) or self.loads or self.stores:
                return  # whatever ends there wakes
            last = max([*self.ends[: self.next_command], *self.under_way], default=-1)
            if last >= now:
                self.wake(last + 1)
                return
            self.starts[self.next_command] = self.ends[self.next_command] = now
        elif len(self.queues[command.engine]) < latency.QUEUE_DEPTH[command.engine]:
            self.queues[command.engine].append((self.next_command, now + 1))
        else:
            return
        self.next_command += 1
        self.record_at, self.place_free = _NEVER, now + 1
        self._take_over()
        self.wake(now + 1)

    def _engines(self, now: int) -> None:
        """Commands whose tokens are there enter their engines; the place in the queue is free from the next cycle on."""
        for engine, queue in self.queues.items():
            if not queue or queue[0][1] > now or not self._is_free(engine, now):
                continue
            index = queue[0][0]
            if all(tokens and tokens[0] <= now for tokens in self.awaited[index]):
                for tokens in self.awaited[index]:
                    heapq.heappop(tokens)
                queue.popleft()
                self.starts[index] = now
                self._begin(index, self.commands[index], now)
                self.wake(now + 1)

    def _is_free(self, engine: Engine, now: int) -> bool:
        if engine is Engine.COMPUTE:
            return now >= self.compute_free
        return (self.load if engine is Engine.LOAD else self.store).accepts(now)

    def _begin(self, index: int, command: Command, now: int) -> None:
        if isinstance(command, Load | Store):
            source, transfers = (self.load, self.loads) if isinstance(command, Load) else (self.store, self.stores)
            rows = [list(row) for row in self._rows(command)]
            source.accept(now, rows)
            transfers.append((index, sum(len(row) for row in rows)))
            if isinstance(command, Load):
                self.writing.extend(cycles for row in rows for cycles in self._write_cycles(WeightFormat(command.format), row))
            self.wake(source.row_from)
        else:
            assert isinstance(command, Conv)
            write = latency.write_cycles(self.config, bool(command.residual), bool(command.table))
            first = max(now + latency.SETUP_CYCLES, self.compute_end + 1)
            self.compute_end = first + command_cycles(command, self.config) - 1 + write
            self.compute_free = self.compute_end - write + 1
            self.wake(self.compute_free)
            self._done(index, self.compute_end)

    def _rows(self, command: Load | Store) -> Iterator[Iterator[int]]:
        bus = self.config.bus_bytes
        for row in range(command.rows):
            yield _bursts((command.memory_offset + row * command.memory_row_stride) // bus, command.row_bytes // bus)

    def _write_cycles(self, kind: WeightFormat, row: Sequence[int]) -> Iterator[tuple[int, int, int]]:
        """For each burst of a row what `_Arrivals.take` asks for."""
        first = 0
        for beats in row:
            written, but_one, but_two = (latency.decode_cycles(self.config, kind, first, max(first, first + beats - less)) for less in range(3))
            yield written, but_one, but_two
            first += beats

    def _done(self, index: int, cycle: int) -> None:
        command = self.commands[index]
        assert command.engine is not None
        self.ends[index] = cycle
        for taker in self.signals[index]:
            heapq.heappush(self.tokens[(command.engine, taker)], cycle + 1)
        self.wake(cycle + 1)


def predict(commands: Sequence[Command], config: HardwareConfig, latency_cycles: int = 1, records_behind: int = 0) -> Prediction:
    """Spans of all commands of one inference, from the first cycle after start. `records_behind`: how many records the program region
    holds after the last command; the first few are fetched in vain, and END waits for them."""
    if config.machine is Machine.SERIAL:
        starts, ends = serial.ends(commands, config, latency_cycles)
        return Prediction(spans=tuple(Span(start=a, end=b) for a, b in zip(starts, ends, strict=True)), total_cycles=ends[-1] + 1, reads_until=0)
    machine = _Machine(commands, config, latency_cycles, len(commands) + records_behind)
    total = machine.run() + 1
    spans = tuple(Span(start=a, end=b) for a, b in zip(machine.starts, machine.ends, strict=True))
    return Prediction(spans=spans, total_cycles=total, reads_until=machine.bus_free)
