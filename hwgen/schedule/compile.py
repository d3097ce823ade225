"""Quantized graph + hardware configuration -> program, memory images and the map between layers and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError, ConfigError, Unsupported, UnsupportedError
from hwgen.ir.graph import Graph, Node
from hwgen.isa.fields import COMMAND_BYTES, Region
from hwgen.isa.instructions import Command
from hwgen.isa.program import encode
from hwgen.layout import BlockedLayout, Layout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.integer import accumulator_bounds
from hwgen.ops.lookup import Lookup
from hwgen.ops.resize import Resize
from hwgen.schedule.box import Box
from hwgen.schedule.emission import Emitter, Written
from hwgen.schedule.homes import Homes, HostTensor, homes, host_tensors
from hwgen.schedule.inputs import packed_layout
from hwgen.schedule.operations import operations
from hwgen.schedule.prepare import blocks_of, channel_positions, prepare
from hwgen.schedule.segments import Segment, plan
from hwgen.schedule.share import Report, between, silent
from hwgen.schedule.storage import View
from hwgen.schedule.stream import Stream, Streamer, Weights
from hwgen.schedule.timing import Prediction, predict
from hwgen.schedule.work import Workload, workload

SHARES = (2, 4, 8)  # a piece of weights takes at most one of so many parts of the buffer; the fastest program wins
_PLANNING, _EMISSION = 0.1, 0.4  # shares of the time that planning takes, and commands of one program before their prediction


@dataclass(frozen=True, kw_only=True)
class Part:
    """What command `command` (program index) writes: `box` of a layer's value. Pixel (y, x) of block b lies at word
    view.address + b * view.block_stride + y * view.row_stride + x, modulo 2**24 and the size of the buffer."""

    command: int
    box: Box
    view: View


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one operation of the accelerator computes: `value`, by the CONV commands `commands` (program indices), which write `parts`."""

    name: str
    op: str
    sources: tuple[str, ...]
    macs: int
    elements: int
    value: str
    commands: tuple[int, ...]
    parts: tuple[Part, ...]


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

    @property
    def steady(self) -> Routine:
        """What all inferences but the first run."""
        return self.resident or self.cold

    @property
    def commands(self) -> tuple[Command, ...]:
        return self.cold.commands

    @property
    def layers(self) -> tuple[Layer, ...]:
        return self.cold.layers

    @property
    def prediction(self) -> Prediction:
        return self.cold.prediction

    @property
    def routines(self) -> tuple[Routine, ...]:
        """As they follow each other in the program region."""
        return (self.cold,) if self.resident is None else (self.cold, self.resident)

    @property
    def program(self) -> bytes:
        return b"".join(routine.records for routine in self.routines)

    @property
    def resident_entry(self) -> int | None:
        """Byte offset of the resident program in the program region."""
        return self.cold.size_bytes if self.resident else None

    def predict(self, latency_cycles: int, *, resident: bool = False) -> Prediction:
        """When each command of a program runs with a memory of that latency."""
        behind = len(self.resident.commands) if self.resident and not resident else 0
        routine = self.resident if resident else self.cold
        assert routine is not None
        return predict(routine.commands, self.config, latency_cycles, behind)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def region_bytes(self) -> dict[Region, int]:
        """Size of every region."""
        ends = {region: max((t.offset + t.size_bytes for t in (*self.inputs, *self.outputs) if t.region is region), default=0) for region in Region}
        return ends | {Region.PROGRAM: sum(routine.size_bytes for routine in self.routines), Region.WEIGHTS: len(self.weights), Region.ARENA: self.arena_bytes}


def compile_network(graph: Graph, config: HardwareConfig, *, progress: Callable[[int], None] | None = None) -> CompiledNetwork:
    """Compile a quantized graph. `progress` is told how many percent are done: a large network in small buffers takes half a minute.

    Raises ConfigError where graph and hardware disagree on arithmetic, CapacityError where a buffer or the accumulator is too
    small (which, where, by how much).
    """
    report: Report = silent if progress is None else lambda share: progress(round(100 * share))
    _check_arithmetic(graph, config)
    _check_operators(graph, config)
    graph = prepare(graph, config.in_lanes)
    _check_accumulators(graph, config)
    positions = channel_positions(graph, config.in_lanes)
    load = workload(graph, operations(graph), positions, _layouts(graph, positions, config), config)
    inputs, outputs = host_tensors(load)
    segments = plan(load, between(report, 0, _PLANNING))
    places = homes(load, segments, inputs, outputs)
    try:
        cold, resident, weights = _routines(load, segments, places, between(report, _PLANNING, 1))
        _check_fields(cold, resident)
    except CapacityError as error:
        raise CapacityError(f"network {graph.name!r}: {error}") from error
    return CompiledNetwork(
        graph=graph,
        config=config,
        cold=cold,
        resident=resident,
        weights=bytes(weights.image),
        arena_bytes=places.arena_bytes,
        inputs=inputs,
        outputs=outputs,
        positions=positions,
    )


def _routines(load: Workload, segments: tuple[Segment, ...], places: Homes, report: Report) -> tuple[Routine, Routine | None, Weights]:
    """The whole layers' weights at once where all stay in the buffers; else the share of the buffer that gives the fastest program."""

    def emitted(weights: Weights, share: int, report: Report) -> Routine:
        return _routine(Emitter(load, places, Streamer(load.config, weights), share), segments, report)

    if all(sum(words) <= size for words, size in _needed(load)):
        weights = Weights(load.config)
        cold = emitted(weights, 1, between(report, 0, 0.5))
        if weights.resident:
            resident = emitted(weights, 1, between(report, 0.5, 1))
            return _followed(cold, resident, load.config), resident, weights
    candidates = []
    for index, share in enumerate(SHARES):
        weights = Weights(load.config)
        candidates.append((emitted(weights, share, between(report, index / len(SHARES), (index + 1) / len(SHARES))), weights))
    cold, weights = min(candidates, key=lambda candidate: candidate[0].prediction.total_cycles)
    return cold, None, weights


def _needed(load: Workload) -> tuple[tuple[list[int], int], ...]:
    """Words of all weights, of all parameters and of all tables, each with the size of its buffer."""
    jobs, config = [job for work in load.works for job in work.jobs], load.config
    tables = {job.table.tobytes(): job.table_words for job in jobs if job.table is not None}
    return (
        ([job.weight_words(config) for job in jobs], config.weight_words),
        ([job.parameter_words(config) for job in jobs], config.parameter_words),
        (list(tables.values()), config.table_words),
    )


def _routine(emitter: Emitter, segments: tuple[Segment, ...], report: Report) -> Routine:
    """Raises CapacityError where a layer's weights do not fit a buffer."""
    load = emitter.load
    emitter.copy_inputs()
    for index, segment in enumerate(segments):
        emitter.emit(segment)
        report(_EMISSION * (index + 1) / len(segments))
    stream = emitter.streamer.finish()
    layers = tuple(_layer(index, load, emitter.written, stream) for index in range(len(load.works)))
    prediction = predict(stream.commands, load.config)
    report(1)
    return Routine(commands=stream.commands, layers=layers, prediction=prediction)


def _followed(routine: Routine, following: Routine, config: HardwareConfig) -> Routine:
    """`routine` with another one behind it in the program region."""
    return replace(routine, prediction=predict(routine.commands, config, records_behind=len(following.commands)))


def _check_fields(*routines: Routine | None) -> None:
    """Raises CapacityError where a number does not fit its field."""
    for routine in routines:
        if routine is not None:
            size_bytes = len(routine.records)
            assert size_bytes == routine.size_bytes


def _check_arithmetic(graph: Graph, config: HardwareConfig) -> None:
    a = graph.arithmetic
    if (a.multiplier_bits, a.rounding) != (config.multiplier_bits, config.rounding):
        raise ConfigError(
            f"network {graph.name!r} is quantized for multiplier_bits {a.multiplier_bits} and rounding {a.rounding.value}, the hardware {config.name!r} has "
            f"{config.multiplier_bits} and {config.rounding.value}; quantize it for this hardware"
        )


def _column_step(node: Node) -> int:
    """Columns from one that a command writes to the next."""
    if isinstance(node.op, Conv):
        return node.op.spread[1]
    if isinstance(node.op, DepthToSpace):
        return node.op.block
    return node.op.factors[1] if isinstance(node.op, Resize) else 1


def _check_operators(graph: Graph, config: HardwareConfig) -> None:
    spaced = [node for node in graph.nodes if _column_step(node) > 1]
    problems: list[Unsupported] = []
    if spaced and not config.output_gaps:
        reason = f"needs gaps between the columns of a result, which the hardware {config.name!r} cannot write; set output_gaps to true"
        names = ((node.name, "ConvTranspose" if isinstance(node.op, Conv) else type(node.op).__name__) for node in spaced)
        problems += [Unsupported(node=name, operator=operator, reason=reason) for name, operator in names]
    tables = [node for node in graph.nodes if isinstance(node.op, Lookup)]
    if tables and not config.activation_tables:
        reason = f"needs an activation table, which the hardware {config.name!r} has not; set activation_tables to 1, 2, 4 or 8"
        problems += [Unsupported(node=node.name, operator="Lookup", reason=reason) for node in tables]
    if problems:
        raise UnsupportedError(problems)


def _check_accumulators(graph: Graph, config: HardwareConfig) -> None:
    for node in graph.nodes:
        if isinstance(node.op, Conv | AveragePool):
            low, high = accumulator_bounds(node, graph)
            if not config.accumulator.holds(int(low.min()), int(high.max())):
                needed = max(int(high.max()).bit_length(), int(-1 - low.min()).bit_length()) + 1
                raise CapacityError(
                    f"accumulator: layer {node.name!r} may reach {int(low.min())}..{int(high.max())} and needs {needed} bits, "
                    f"the hardware {config.name!r} has {config.accumulator_bits}; set accumulator_bits to at least {needed}"
                )


def _layouts(graph: Graph, positions: Mapping[str, tuple[int, ...]], config: HardwareConfig) -> dict[str, Layout]:
    layouts: dict[str, Layout] = {}
    for name, value in graph.values.items():
        layouts[name] = BlockedLayout(
            height=value.type.height,
            width=value.type.width,
            lanes=config.in_lanes,
            positions=positions[name],
            blocks=blocks_of(positions[name], config.in_lanes),
            fill=value.quantized.zero_point,
        )
    for graph_input in graph.inputs:
        packed = packed_layout(graph, graph_input.value, config)
        if packed is not None:
            layouts[graph_input.value] = packed
    return layouts


def _layer(index: int, load: Workload, written: Sequence[Written], stream: Stream) -> Layer:
    graph, step = load.graph, load.works[index].operation
    own = [entry for entry in written if entry.layer == index]
    return Layer(
        name="+".join(node.name for node in step.nodes),
        op="+".join(type(node.op).__name__ for node in step.nodes),
        sources=tuple(source for node in step.nodes for source in node.source),
        macs=sum(node.op.work(*graph.input_types(node)) for node in step.nodes),
        elements=int(np.prod(graph.values[step.output].type.shape)),
        value=step.output,
        commands=tuple(stream.convs[entry.conv] for entry in own),
        parts=tuple(Part(command=stream.convs[entry.conv], box=entry.box, view=entry.view) for entry in own if entry.view is not None),
    )
