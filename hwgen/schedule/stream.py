"""Jobs -> program: weights cut into pieces that fit the weight buffer, places in the two rings, tokens, order of commands."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError
from hwgen.isa.fields import Buffer, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.layout import parameter_bytes, weight_bytes
from hwgen.schedule.cost import array_cycles
from hwgen.schedule.jobs import Job, tile_channels, tile_range
from hwgen.schedule.order import ConvPlan, LoadPlan, dispatch_order


@dataclass(frozen=True, kw_only=True, eq=False)
class Piece:
    """One CONV command of layer `layer`."""

    layer: int
    job: Job


def cut(jobs: Sequence[Job], layer: int, name: str, config: HardwareConfig, share: int) -> list[Piece]:
    """Split by output tiles so that a piece takes at most 1/share of each buffer where it can, so that loading and computing overlap.

    Raises CapacityError naming layer and buffer where even the smallest piece does not fit.
    """
    pieces = []
    for job in jobs:
        tiles, granule = job.command.output_tiles, max(1, config.in_lanes // tile_channels(job.command, config))
        smallest = tile_range(job, 0, min(granule, tiles), config)
        _check_fits(smallest, name, config)
        count = tiles
        while count > granule and not _fits(tile_range(job, 0, count, config), config, share):
            count = -(-count // 2 // granule) * granule
        for first in range(0, tiles, count):
            pieces.append(Piece(layer=layer, job=tile_range(job, first, min(first + count, tiles), config)))
    return pieces


def _fits(job: Job, config: HardwareConfig, share: int) -> bool:
    return share * job.weight_words(config) <= config.weight_words and share * job.parameter_words(config) <= config.parameter_words


def _check_fits(job: Job, name: str, config: HardwareConfig) -> None:
    for buffer, words, limit in (
        ("weight", job.weight_words(config), config.weight_words),
        ("parameter", job.parameter_words(config), config.parameter_words),
    ):
        if words > limit:
            raise CapacityError(
                f"{buffer} buffer: layer {name!r} needs {words} words for its smallest group of output channels, the hardware {config.name!r} has {limit}: "
                f"{words - limit} words too few; set {buffer}_words to {1 << (words - 1).bit_length()} or more"
            )


@dataclass
class _Ring:
    """Places pieces one after the other in a buffer of `size` words; tells which earlier piece must be done before a place is free."""

    size: int
    head: int = 0
    live: list[tuple[int, int, int]] = field(default_factory=list)  # first, end, piece

    def place(self, words: int, piece: int) -> tuple[int, int]:
        """(address, last earlier piece that lies there; -1 for none)."""
        if self.head + words > self.size:
            self.head = 0
        first, end = self.head, self.head + words
        overlapping = [entry for entry in self.live if entry[0] < end and first < entry[1]]
        self.live = [entry for entry in self.live if entry not in overlapping] + [(first, end, piece)]
        self.head = end
        return first, max((entry[2] for entry in overlapping), default=-1)


@dataclass
class _Step:
    """A command under construction, and for each other engine the index (in that engine's order) of the step it must follow."""

    command: Command
    after: dict[Engine, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The finished program. `pieces[k]` is the index of the command that executes piece k."""

    commands: tuple[Command, ...]
    weights: bytes
    pieces: tuple[int, ...]


class Streamer:
    """Builds the program: input loads, then pieces with their weights ahead of them, then output stores."""

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        self.loads: list[_Step] = []
        self.convs: list[_Step] = []
        self.stores: list[_Step] = []
        self.image = bytearray()
        self.rings = {Buffer.WEIGHT: _Ring(config.weight_words), Buffer.PARAMETER: _Ring(config.parameter_words)}
        self.needs: list[int] = []  # for each piece, how many loads must be dispatched before it

    def _append(self, data: bytes) -> int:
        """Offset of `data` in the weight image, on a bus word boundary."""
        offset = len(self.image)
        self.image += data + bytes(-len(data) % self.config.bus_bytes)
        return offset

    def load_input(self, address: int, offset: int, size_bytes: int) -> None:
        self.loads.append(_Step(Load(region=Region.INPUT, memory_offset=offset, buffer_address=address, row_bytes=size_bytes)))

    def add_piece(self, piece: Piece) -> None:
        """Load what the piece reads, then the piece."""
        index, command = len(self.convs), piece.job.command
        if piece.job.weights is not None:
            address = self._load(Buffer.WEIGHT, weight_bytes(piece.job.weights), piece.job.weight_words(self.config), index)
            command = replace(command, weight_address=address)
        address = self._load(Buffer.PARAMETER, parameter_bytes(dict(piece.job.parameters)), piece.job.parameter_words(self.config), index)
        command = replace(command, parameter_address=address)
        self.convs.append(_Step(command, {Engine.LOAD: len(self.loads) - 1}))

    def _load(self, buffer: Buffer, data: bytes, words: int, piece: int) -> int:
        address, previous = self.rings[buffer].place(words, piece)
        load = Load(destination=buffer, region=Region.WEIGHTS, memory_offset=self._append(data), buffer_address=address, row_bytes=len(data))
        self.loads.append(_Step(load, {Engine.COMPUTE: previous}))
        return address

    def store_output(self, store: Store, after_piece: int) -> None:
        self.stores.append(_Step(store, {Engine.COMPUTE: after_piece} if after_piece >= 0 else {Engine.LOAD: len(self.loads) - 1}))

    def finish(self) -> Stream:
        _assign_tokens({Engine.LOAD: self.loads, Engine.COMPUTE: self.convs, Engine.STORE: self.stores})
        commands, pieces = self._order()
        return Stream(commands=(*commands, End()), weights=bytes(self.image), pieces=tuple(pieces))

    def _order(self) -> tuple[list[Command], list[int]]:
        """All commands in the order of dispatch, stores right behind what they store, and the places of the pieces."""
        loads = [LoadPlan(cycles=_beats(step.command, self.config), after=step.after.get(Engine.COMPUTE, -1)) for step in self.loads]
        convs = [ConvPlan(cycles=_array_cycles(step.command, self.config), needs=step.after[Engine.LOAD]) for step in self.convs]
        commands: list[Command] = []
        pieces: list[int] = []
        stores = deque(self.stores)
        for engine, index in dispatch_order(loads, convs):
            if engine is Engine.LOAD:
                commands.append(self.loads[index].command)
                continue
            pieces.append(len(commands))
            commands.append(self.convs[index].command)
            while stores and stores[0].after.get(Engine.COMPUTE, -1) <= index:
                commands.append(stores.popleft().command)
        return commands + [step.command for step in stores], pieces


def _beats(command: Command, config: HardwareConfig) -> int:
    assert isinstance(command, Load)
    return command.rows * command.row_bytes // config.bus_bytes


def _array_cycles(command: Command, config: HardwareConfig) -> int:
    assert isinstance(command, Conv)
    return array_cycles(command, config)


def _flagged(command: Command, flag: str) -> Command:
    changes: dict[str, Any] = {flag: 1}
    return replace(command, **changes)


def _assign_tokens(steps: dict[Engine, list[_Step]]) -> None:
    """One token per dependency that no earlier token of the same pair of engines implies: waits and signals come in the same order."""
    for waiter, own in steps.items():
        for giver in Engine:
            seen = -1
            for step in own:
                needed = step.after.get(giver, -1)
                if needed > seen:
                    seen = needed
                    step.command = _flagged(step.command, f"wait_{giver.name.lower()}")
                    target = steps[giver][needed]
                    target.command = _flagged(target.command, f"signal_{waiter.name.lower()}")
