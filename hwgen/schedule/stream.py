"""Steps -> program: weights loaded where they are not yet, tokens for what must wait, order of commands."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from hwgen.config import SIDES, HardwareConfig
from hwgen.isa.fields import Buffer, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.latency import decode_cycles
from hwgen.layout import Int8Array, parameter_bytes, table_bytes, weight_image
from hwgen.packing import WeightFormat
from hwgen.schedule.cost import command_cycles
from hwgen.schedule.footprint import Interval, buffer_words, conv_reads, conv_writes, sides
from hwgen.schedule.hazards import Hazards, latest
from hwgen.schedule.jobs import Job
from hwgen.schedule.memory import Home
from hwgen.schedule.order import Plan, dispatch_order, tokens
from hwgen.schedule.ring import Ring

_PORT = ((0, 1),)  # a port is one thing


@dataclass
class _Step:
    """A command under construction, and for each other engine the index (in that engine's order) of the step that it must follow."""

    command: Command
    after: dict[Engine, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A finished program. `convs[k]` is the index of the command that executes the k-th CONV, `weights[k]` the sets that it reads."""

    commands: tuple[Command, ...]
    convs: tuple[int, ...]
    weights: tuple[Int8Array | None, ...] = field(compare=False)


@dataclass
class Weights:
    """The weight region as it grows, and which contents lie where in it and in the buffers."""

    config: HardwareConfig
    image: bytearray = field(default_factory=bytearray)
    offsets: dict[Hashable, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {Buffer.WEIGHT: self.config.weight_words, Buffer.PARAMETER: self.config.parameter_words, Buffer.TABLE: self.config.table_words}
        self.rings = {buffer: Ring(size) for buffer, size in sizes.items()}

    def following(self) -> Weights:
        """For a program that runs behind another one of the same region: the contents of the region go on, the buffers hold anything."""
        return Weights(self.config, bytearray(self.image), dict(self.offsets))

    def offset(self, data: bytes, key: Hashable) -> int:
        """Where `data` lies in the region, on a bus word boundary; equal contents lie there once."""
        if key not in self.offsets:
            self.offsets[key] = len(self.image)
            self.image += data + bytes(-len(data) % self.config.bus_bytes)
        return self.offsets[key]

    @property
    def resident(self) -> bool:
        """Everything still lies in the buffers."""
        return not any(ring.evicted for ring in self.rings.values())


class Streamer:
    """Builds one program: steps are given in the order that the network means; the machine's order may differ wherever nobody can tell."""

    def __init__(self, config: HardwareConfig, weights: Weights) -> None:
        self.config, self.weights = config, weights
        self.steps: dict[Engine, list[_Step]] = {engine: [] for engine in Engine}
        self.hazards = Hazards()
        self.stored: set[Home] = set()
        self.last_load: dict[Home, int] = {}
        self.read: list[Int8Array | None] = []

    def load(self, command: Load, home: Home, rows: Interval) -> None:
        """Activations from memory: rows of what lies at `home`."""
        step = (Engine.LOAD, len(self.steps[Engine.LOAD]))
        waits = [self._touch(buffer_words(command, self.config.in_lanes), step, writes=True)]
        if home in self.stored:  # network inputs and weights are never written
            waits.append(self.hazards.access(home, (rows,), step, writes=False))
            self.last_load[home] = step[1]
        self.steps[Engine.LOAD].append(_Step(command, latest(*waits)))

    def store(self, command: Store, home: Home, rows: Interval) -> None:
        """Activations to memory: rows of what lies at `home`."""
        step = (Engine.STORE, len(self.steps[Engine.STORE]))
        waits = [self._touch(buffer_words(command, self.config.in_lanes), step, writes=False)]
        if home not in self.stored:
            waits.append(self._follow_readers(home, step))
        waits.append(self.hazards.access(home, (rows,), step, writes=True))
        self.steps[Engine.STORE].append(_Step(command, latest(*waits)))

    def _follow_readers(self, home: Home, step: tuple[Engine, int]) -> dict[Engine, int]:
        """The first store to a home follows all loads of values that have lain there before."""
        before = [index for other, index in self.last_load.items() if other.overlaps(home)]
        after = {Engine.LOAD: max(before)} if before else {}
        self.hazards.must_follow(step, after)
        self.stored.add(home)
        return after

    def _touch(self, words: tuple[Interval, ...], step: tuple[Engine, int], *, writes: bool) -> dict[Engine, int]:
        """What `step` must follow because of these words of the activation buffer and the ports through which it reads or writes them."""
        waits = [self.hazards.access(Buffer.ACTIVATION, words, step, writes=writes)]
        for side in sides(words, self.config.activation_words // SIDES):
            waits.append(self.hazards.access(("write port" if writes else "read port", side), _PORT, step, writes=True))
        return latest(*waits)

    def compute(self, job: Job) -> None:
        """A CONV, and before it the loads of what it needs and the buffers do not hold."""
        images = {Buffer.PARAMETER: (parameter_bytes(dict(job.parameters)), job.parameter_words(self.config), WeightFormat.INT8)}
        if job.parts:
            (weights,) = job.parts
            image = weight_image(weights, self.config)
            images[Buffer.WEIGHT] = (image.data, image.words, image.format)
        self.read.append(job.parts[0] if job.parts else None)
        if job.table is not None:
            images[Buffer.TABLE] = (table_bytes(job.table, self.config.bus_bytes), job.table_words, WeightFormat.INT8)
        places = {buffer: self._bring(buffer, *image) for buffer, image in sorted(images.items(), key=lambda item: item[0])}
        addresses = {"weight_address": Buffer.WEIGHT, "parameter_address": Buffer.PARAMETER, "table_address": Buffer.TABLE}
        command = job.command.altered(**{name: places.get(buffer, 0) for name, buffer in addresses.items()})
        step = (Engine.COMPUTE, len(self.steps[Engine.COMPUTE]))
        waits = [
            self._touch(conv_reads(command, self.config), step, writes=False),
            self._touch(conv_writes(command, self.config), step, writes=True),
        ]
        for buffer, (_, words, _) in images.items():
            waits.append(self.hazards.access(buffer, ((places[buffer], places[buffer] + words),), step, writes=False))
        self.steps[Engine.COMPUTE].append(_Step(command, latest(*waits)))

    def _bring(self, buffer: Buffer, data: bytes, words: int, kind: WeightFormat) -> int:
        """Address in the buffer, after a LOAD if it is not there. Equal contents are one."""
        key = blake2b(data, digest_size=16, person=bytes([kind])).digest()
        ring = self.weights.rings[buffer]
        address = ring.find(key)
        if address is None:
            address = ring.place(words, key)
            offset = self.weights.offset(data, key)
            load = Load(destination=buffer, region=Region.WEIGHTS, memory_offset=offset, buffer_address=address, row_bytes=len(data), format=kind)
            step = (Engine.LOAD, len(self.steps[Engine.LOAD]))
            self.steps[Engine.LOAD].append(_Step(load, self.hazards.access(buffer, ((address, address + words),), step, writes=True)))
        return address

    def finish(self) -> Stream:
        plans = {engine: [Plan(cycles=self._cycles(step.command), after=dict(step.after)) for step in steps] for engine, steps in self.steps.items()}
        _assign_tokens(self.steps, plans)
        order = dispatch_order(plans)
        commands = tuple(self.steps[engine][index].command for engine, index in order)
        convs = tuple(place for place, (engine, _) in enumerate(order) if engine is Engine.COMPUTE)
        return Stream(commands=(*commands, End()), convs=convs, weights=tuple(self.read))

    def _cycles(self, command: Command) -> int:
        if isinstance(command, Conv):
            return command_cycles(command, self.config)
        assert isinstance(command, Load | Store)
        words = command.row_bytes // self.config.bus_bytes
        written = decode_cycles(self.config, WeightFormat(command.format), 0, words) if isinstance(command, Load) else words
        return command.rows * max(words, written, 3)


def _assign_tokens(steps: dict[Engine, list[_Step]], plans: Mapping[Engine, Sequence[Plan]]) -> None:
    flags: dict[tuple[Engine, int], dict[str, int]] = defaultdict(dict)
    for token in tokens(plans):
        flags[token.taker, token.taken][f"wait_{token.giver.name.lower()}"] = 1
        flags[token.giver, token.given][f"signal_{token.taker.name.lower()}"] = 1
    for (engine, index), changes in flags.items():
        step = steps[engine][index]
        step.command = step.command.altered(**changes)
