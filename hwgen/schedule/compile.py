"""Quantized graph + hardware configuration -> programs, memory images and the map between layers and commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError, ConfigError
from hwgen.ir.graph import Graph
from hwgen.layout import BlockedLayout, Layout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.conv import Conv
from hwgen.ops.integer import accumulator_bounds
from hwgen.schedule.crossing import Places, crossing_tensors
from hwgen.schedule.emission import Emitter, Written
from hwgen.schedule.homes import Homes, granule, homes, host_tensors
from hwgen.schedule.inputs import packed_layout
from hwgen.schedule.network import CompiledNetwork, Layer, Part, Routine
from hwgen.schedule.operations import operations
from hwgen.schedule.phases import Phase, crossing_spans, divide, in_order, program_graph, trimmed
from hwgen.schedule.prepare import Positions, blocks_of, channel_positions, prepare, without_gaps
from hwgen.schedule.segments import Segment, plan
from hwgen.schedule.share import Report, between, silent
from hwgen.schedule.stream import Stream, Streamer, Weights
from hwgen.schedule.timing import predict
from hwgen.schedule.work import Workload, workload

__all__ = ["CompiledNetwork", "Layer", "Part", "Routine", "compile_network"]

SHARES = (2, 4, 8, 16, 32)  # a piece of weights takes at most one of so many parts of the buffer; the fastest program wins
_ALWAYS = 8  # smaller pieces than that only as long as they make the program faster
_PLANNING, _EMISSION = 0.1, 0.4  # shares of the time that planning takes, and commands of one program before their prediction


def compile_network(graph: Graph, config: HardwareConfig, *, progress: Callable[[int], None] | None = None) -> CompiledNetwork:
    """Compile a quantized graph. `progress` is told how many percent are done: a large network in small buffers takes half a minute.

    Raises ConfigError where graph and hardware disagree on arithmetic, CapacityError where a buffer or the accumulator is too
    small (which, where, by how much).
    """
    report: Report = silent if progress is None else lambda share: progress(round(100 * share))
    _check_arithmetic(graph, config)
    divided = _divided(graph, config)
    _check_accumulators(divided.graph, config)
    try:
        found = _programs(divided, report)
        _check_fields(*found.routines)
    except CapacityError as error:
        raise CapacityError(f"network {graph.name!r}: {error}") from error
    return found


@dataclass(frozen=True, kw_only=True)
class _Divided:
    """A network cut into phases: `graph` is all of it, `programs` the accelerator's part of each phase that has one."""

    graph: Graph
    phases: tuple[Phase, ...]
    programs: tuple[Graph, ...]
    positions: Mapping[str, Positions]
    layouts: Mapping[str, Layout]
    config: HardwareConfig


def _divided(graph: Graph, config: HardwareConfig) -> _Divided:
    """The accelerator's graphs with their copies, and all of them with the processor's nodes as one graph."""
    graph = graph if config.output_gaps else without_gaps(graph)
    phases = divide(graph, config)
    if len(phases) == 1 and not phases[0].kernels:
        graph = prepare(graph, config.in_lanes)
        positions, phases = channel_positions(graph, config.in_lanes), (Phase(kernels=(), nodes=graph.nodes),)
        return _Divided(graph=graph, phases=phases, programs=(graph,), positions=positions, layouts=_layouts(graph, positions, config), config=config)
    positions = {i.value: tuple(range(graph.values[i.value].type.channels)) for i in graph.inputs}
    programs: list[Graph] = []
    found: list[Phase] = []
    for index, phase in enumerate(phases):
        positions |= {node.output: tuple(range(graph.values[node.output].type.channels)) for node in phase.kernels}
        if not index or phase.nodes:
            program = prepare(program_graph(graph, phases, index), config.in_lanes, positions)
            positions |= channel_positions(program, config.in_lanes, positions)
            graph = replace(graph, values=program.values)
            programs.append(trimmed(program))
            phase = replace(phase, nodes=program.nodes)
        found.append(phase)
    graph = graph.with_nodes(in_order(found))
    return _Divided(graph=graph, phases=tuple(found), programs=tuple(programs), positions=positions, layouts=_layouts(graph, positions, config), config=config)


def _programs(divided: _Divided, report: Report) -> CompiledNetwork:
    """One program after the other, their weights in one region. Raises CapacityError."""
    graph, config, layouts = divided.graph, divided.config, divided.layouts
    network = host_tensors(graph, layouts)
    crossing = crossing_tensors(crossing_spans(graph, divided.phases), layouts, config)
    places = Places.of(network, crossing)
    first_free = max((-(-(t.offset + t.size_bytes) // granule(config)) * granule(config) for t in crossing), default=0)
    kernels = tuple(tuple(places.kernel(node, graph) for node in phase.kernels) for phase in divided.phases)
    scratch = max((kernel.scratch_bytes for group in kernels for kernel in group), default=0)
    weights = Weights(config)
    routines: list[Routine] = []
    arena_bytes = first_free + -(-scratch // granule(config)) * granule(config)
    for index, program in enumerate(divided.programs):
        own = between(report, index / len(divided.programs), (index + 1) / len(divided.programs))
        load = workload(program, operations(program), divided.positions, layouts, config)
        segments = plan(load, between(own, 0, _PLANNING))
        where = homes(load, segments, places.ends(program, graph), first_free)
        arena_bytes = max(arena_bytes, where.arena_bytes)
        single = not any(kernels)
        found, weights = _routines(load, segments, where, weights, single=single, report=between(own, _PLANNING, 1))
        routines += found
    resident = routines.pop() if not any(kernels) and len(routines) > 1 else None
    routines = _followed(routines if resident is None else [*routines, resident], config)
    return CompiledNetwork(
        graph=graph,
        config=config,
        cold=routines[0],
        resident=None if resident is None else routines[1],
        weights=bytes(weights.image),
        arena_bytes=arena_bytes,
        inputs=network[0],
        outputs=network[1],
        positions=divided.positions,
        later=() if resident else tuple(routines[1:]),
        kernels=kernels if any(kernels) else (),
        crossing=crossing,
        scratch_offset=first_free,
        scratch_bytes=scratch,
    )


def _followed(routines: list[Routine], config: HardwareConfig) -> list[Routine]:
    """Programs that lie one behind the other in their region: a program's last records are fetched with those behind it."""
    behind = [sum(len(other.commands) for other in routines[k + 1 :]) for k in range(len(routines))]
    return [
        replace(routine, prediction=predict(routine.commands, config, records_behind=records)) if records else routine
        for routine, records in zip(routines, behind, strict=True)
    ]


def _routines(load: Workload, segments: tuple[Segment, ...], places: Homes, before: Weights, *, single: bool, report: Report) -> tuple[list[Routine], Weights]:
    """A program, and where it is the network's `single` one and all weights stay in the buffers, another that finds them there.

    The whole layers' weights at once where they stay; else the share of the buffer that gives the fastest program. `before`: weights of
    the programs in front of this one.
    """

    def emitted(weights: Weights, share: int, report: Report) -> Routine:
        return _routine(Emitter(load, places, Streamer(load.config, weights), share), segments, report)

    if all(sum(words) <= size for words, size in _needed(load)):
        weights = before.following()
        cold = emitted(weights, 1, between(report, 0, 0.5))
        if weights.resident:
            return [cold, emitted(weights, 1, between(report, 0.5, 1))] if single else [cold], weights
    best: tuple[Routine, Weights] | None = None
    for index, share in enumerate(SHARES):
        weights = before.following()
        routine = emitted(weights, share, between(report, index / len(SHARES), (index + 1) / len(SHARES)))
        if best is None or routine.prediction.total_cycles < best[0].prediction.total_cycles:
            best = routine, weights
        elif share >= _ALWAYS:
            break
    report(1)
    assert best is not None
    cold, weights = best
    return [cold], weights


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


def _check_fields(*routines: Routine) -> None:
    """Raises CapacityError where a number does not fit its field."""
    for routine in routines:
        size_bytes = len(routine.records)
        assert size_bytes == routine.size_bytes


def _check_arithmetic(graph: Graph, config: HardwareConfig) -> None:
    a = graph.arithmetic
    if (a.multiplier_bits, a.rounding) != (config.multiplier_bits, config.rounding):
        raise ConfigError(
            f"network {graph.name!r} is quantized for multiplier_bits {a.multiplier_bits} and rounding {a.rounding.value}, the hardware {config.name!r} has "
            f"{config.multiplier_bits} and {config.rounding.value}; quantize it for this hardware"
        )


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
        weights=tuple(sets for entry in own if (sets := stream.weights[entry.conv]) is not None),
    )
