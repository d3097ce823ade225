"""A compiled network as data: its programs, what each command computes, and where everything lies in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph
from hwgen.isa.fields import COMMAND_BYTES, Region
from hwgen.isa.instructions import Command
from hwgen.isa.program import encode
from hwgen.layout import Int8Array
from hwgen.schedule.box import Box
from hwgen.schedule.crossing import Kernel
from hwgen.schedule.homes import HostTensor
from hwgen.schedule.storage import View
from hwgen.schedule.stored import WeightMemory, weight_memory
from hwgen.schedule.timing import Prediction, predict


@dataclass(frozen=True, kw_only=True)
class Part:
    """What command `command` (program index) writes: `box` of a layer's value. Pixel (y, x) of block b lies at word
    view.address + b * view.block_stride + y * view.row_stride + x, modulo 2**24 and the size of the buffer."""

    command: int
    box: Box
    view: View


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one operation of the accelerator computes: `value`, by the CONV commands `commands` (program indices), which write `parts` and
    read the sets `weights`."""

    name: str
    op: str
    sources: tuple[str, ...]
    macs: int
    elements: int
    value: str
    commands: tuple[int, ...]
    parts: tuple[Part, ...]
    weights: tuple[Int8Array, ...] = field(default=(), compare=False)


@dataclass(frozen=True, kw_only=True)
class Routine:
    """One program of a network. `prediction` says when each command runs, with a memory that answers in the next cycle."""

    commands: tuple[Command, ...]
    layers: tuple[Layer, ...]
    prediction: Prediction

    @property
    def size_bytes(self) -> int:
        """Of its records."""
        return len(self.commands) * COMMAND_BYTES

    @cached_property
    def records(self) -> bytes:
        """What the machine reads. Raises CapacityError where a number does not fit its field."""
        return encode(self.commands)


@dataclass(frozen=True, kw_only=True)
class CompiledNetwork:
    """`graph` is the quantized graph as compiled (with the compiler's copies); its golden model describes every layer's value.

    `cold` is complete. `resident`, where weights and parameters fit their buffers, does without loading them: it may run after
    the other one has, or itself, as long as nobody else has used the accelerator. Both lie in the program region, `cold` first.

    Where the processor works in between, `cold` is the first program, `later` are the others, and `kernels[k]` is what the processor
    computes before program k, or behind the last one; `crossing` are the values that it reads and writes besides the network's own, and
    those that one program hands to another; `scratch_bytes` from `scratch_offset` of the arena are its own.
    """

    graph: Graph
    config: HardwareConfig
    cold: Routine
    resident: Routine | None
    weights: bytes
    arena_bytes: int
    inputs: tuple[HostTensor, ...]
    outputs: tuple[HostTensor, ...]
    positions: Mapping[str, tuple[int, ...]]
    later: tuple[Routine, ...] = ()
    kernels: tuple[tuple[Kernel, ...], ...] = ()
    crossing: tuple[HostTensor, ...] = ()
    scratch_offset: int = 0
    scratch_bytes: int = 0

    @property
    def steady(self) -> Routine:
        """What all inferences but the first run."""
        return self.resident or self.cold

    @property
    def commands(self) -> tuple[Command, ...]:
        return self.cold.commands

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Of all programs."""
        return tuple(layer for phase in self.phases for layer in phase.layers)

    @property
    def prediction(self) -> Prediction:
        return self.cold.prediction

    @property
    def phases(self) -> tuple[Routine, ...]:
        """The programs of one inference, in order; the first of them `cold`."""
        return (self.cold, *self.later)

    @property
    def routines(self) -> tuple[Routine, ...]:
        """As they follow each other in the program region."""
        return (self.cold, *self.later) if self.resident is None else (self.cold, self.resident)

    @property
    def entries(self) -> tuple[int, ...]:
        """Byte offset of each phase's program in the program region."""
        return tuple(sum(phase.size_bytes for phase in self.phases[:k]) for k in range(len(self.phases)))

    def alone(self, phase: int) -> CompiledNetwork:
        """One phase, as what runs on the accelerator; the first one as all inferences but the first run it."""
        return replace(self, cold=self.later[phase - 1] if phase else self.steady, resident=None, later=(), kernels=())

    @property
    def predicted_cycles(self) -> int:
        """Of the accelerator in an inference that is not the first."""
        return self.steady.prediction.total_cycles + sum(phase.prediction.total_cycles for phase in self.later)

    @property
    def program(self) -> bytes:
        return b"".join(routine.records for routine in self.routines)

    @property
    def resident_entry(self) -> int | None:
        """Byte offset of the resident program in the program region."""
        return self.cold.size_bytes if self.resident else None

    def predict(self, latency_cycles: int, *, resident: bool = False, phase: int = 0) -> Prediction:
        """When each command of a program runs with a memory of that latency."""
        behind = len(self.resident.commands) if self.resident and not resident else sum(len(later.commands) for later in self.later[phase:])
        routine = self.resident if resident else self.phases[phase]
        assert routine is not None
        return predict(routine.commands, self.config, latency_cycles, behind)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def weight_memory(self) -> WeightMemory:
        """Of all layers."""
        return weight_memory((weights for layer in self.layers for weights in layer.weights), self.config)

    def region_bytes(self) -> dict[Region, int]:
        """Size of every region."""
        ends = {region: max((t.offset + t.size_bytes for t in (*self.inputs, *self.outputs) if t.region is region), default=0) for region in Region}
        return ends | {Region.PROGRAM: sum(routine.size_bytes for routine in self.routines), Region.WEIGHTS: len(self.weights), Region.ARENA: self.arena_bytes}
