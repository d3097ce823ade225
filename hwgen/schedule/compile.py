"""Quantized graph + hardware configuration -> program, memory images and the map between layers and commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.errors import CapacityError, ConfigError
from hwgen.ir.graph import Graph
from hwgen.isa.fields import COMMAND_BYTES, Region
from hwgen.isa.instructions import Command, Store
from hwgen.isa.program import encode
from hwgen.layout import BlockedLayout, Layout, PackedLayout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.integer import accumulator_bounds
from hwgen.schedule.inputs import packed_layout
from hwgen.schedule.lower import Place, lower
from hwgen.schedule.operations import Operation, operations
from hwgen.schedule.prepare import blocks_of, channel_positions, prepare
from hwgen.schedule.storage import View, allocate, views
from hwgen.schedule.stream import Piece, Stream, Streamer, cut
from hwgen.schedule.timing import Prediction, predict

SHARES = (2, 4, 8)  # a piece of weights takes at most one of so many parts of the buffer; the fastest program wins


@dataclass(frozen=True, kw_only=True)
class HostTensor:
    """A network input or output in system memory: `size_bytes` from `offset` of `region`, in `layout`."""

    name: str
    value: str
    region: Region
    offset: int
    layout: Layout

    @property
    def size_bytes(self) -> int:
        return self.layout.size_bytes


@dataclass(frozen=True, kw_only=True)
class Layer:
    """What one operation of the accelerator computes: `value`, lying at `view`, by the CONV commands `commands` (program indices)."""

    name: str
    op: str
    sources: tuple[str, ...]
    macs: int
    elements: int
    value: str
    view: View
    commands: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CompiledNetwork:
    """`graph` is the quantized graph as compiled (with the compiler's copies); its golden model describes every layer's value.

    `prediction` says when each command runs, with a memory that answers in the next cycle.
    """

    graph: Graph
    config: HardwareConfig
    commands: tuple[Command, ...]
    weights: bytes
    inputs: tuple[HostTensor, ...]
    outputs: tuple[HostTensor, ...]
    layers: tuple[Layer, ...]
    positions: Mapping[str, tuple[int, ...]]
    prediction: Prediction

    @property
    def program(self) -> bytes:
        return encode(self.commands)

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    def region_bytes(self) -> dict[Region, int]:
        """Size of every region."""
        ends = {region: max((t.offset + t.size_bytes for t in (*self.inputs, *self.outputs) if t.region is region), default=0) for region in Region}
        return ends | {Region.PROGRAM: len(self.commands) * COMMAND_BYTES, Region.WEIGHTS: len(self.weights)}


def compile_network(graph: Graph, config: HardwareConfig) -> CompiledNetwork:
    """Compile a quantized graph.

    Raises ConfigError where graph and hardware disagree on arithmetic, CapacityError where a buffer or the accumulator is too
    small (which, where, by how much).
    """
    _check_arithmetic(graph, config)
    graph = prepare(graph, config.in_lanes)
    _check_accumulators(graph, config)
    steps = operations(graph)
    positions = channel_positions(graph, config.in_lanes)
    layouts = _layouts(graph, positions, config)
    place = Place(graph=graph, config=config, positions=positions, layouts=layouts, views=views(graph, layouts, allocate(graph, steps, layouts, config)))
    jobs = [lower(step, place) for step in steps]
    inputs, outputs = _host_tensors(graph, layouts)
    candidates = []
    for share in SHARES:
        pieces = [piece for index, step in enumerate(steps) for piece in cut(jobs[index], index, step.nodes[0].name, config, share)]
        stream = _stream(pieces, steps, place, (*inputs, *outputs))
        candidates.append((predict(stream.commands, config), stream, pieces))
    prediction, stream, pieces = min(candidates, key=lambda candidate: candidate[0].total_cycles)
    return CompiledNetwork(
        graph=graph,
        config=config,
        commands=stream.commands,
        weights=stream.weights,
        inputs=inputs,
        outputs=outputs,
        layers=tuple(_layer(index, step, place, pieces, stream.pieces) for index, step in enumerate(steps)),
        positions=positions,
        prediction=prediction,
    )


def _stream(pieces: list[Piece], steps: tuple[Operation, ...], place: Place, tensors: tuple[HostTensor, ...]) -> Stream:
    """The program of these pieces. Raises CapacityError where a number does not fit its field."""
    streamer = Streamer(place.config)
    for tensor in tensors:
        if tensor.region is Region.INPUT:
            streamer.load_input(place.views[tensor.value].address, tensor.offset, tensor.size_bytes)
    for piece in pieces:
        streamer.add_piece(piece)
    for tensor in tensors:
        if tensor.region is Region.OUTPUT:
            _store(tensor, place.views[tensor.value], _last_piece(tensor.value, place.graph, steps, pieces), streamer, place.config)
    try:
        stream = streamer.finish()
        encode(stream.commands)
    except CapacityError as error:
        raise CapacityError(f"network {place.graph.name!r}: {error}") from error
    return stream


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


def _host_tensors(graph: Graph, layouts: Mapping[str, Layout]) -> tuple[tuple[HostTensor, ...], tuple[HostTensor, ...]]:
    """Inputs and outputs one after the other in their regions."""
    result: list[tuple[HostTensor, ...]] = []
    for region, tensors in ((Region.INPUT, graph.inputs), (Region.OUTPUT, graph.outputs)):
        offset, found = 0, []
        for tensor in tensors:
            layout = layouts[tensor.value]
            found.append(HostTensor(name=tensor.name, value=tensor.value, region=region, offset=offset, layout=layout))
            offset += layout.size_bytes
        result.append(tuple(found))
    return result[0], result[1]


def _store(tensor: HostTensor, view: View, after_piece: int, streamer: Streamer, config: HardwareConfig) -> None:
    """One STORE where the value is contiguous, else one per block."""
    layout = tensor.layout
    block_words = layout.words // view.blocks
    whole = Store(region=Region.OUTPUT, memory_offset=tensor.offset, buffer_address=view.address, row_bytes=layout.size_bytes)
    if isinstance(layout, PackedLayout) or (view.row_stride == layout.width and view.block_stride == block_words):
        streamer.store_output(whole, after_piece)
        return
    row_bytes = layout.width * config.in_lanes
    for block in range(view.blocks):
        command = replace(
            whole,
            memory_offset=tensor.offset + block * block_words * config.in_lanes,
            buffer_address=view.address + block * view.block_stride,
            row_bytes=row_bytes,
            rows=layout.height,
            memory_row_stride=row_bytes,
            buffer_row_stride=view.row_stride,
        )
        streamer.store_output(command, after_piece)


def _last_piece(value: str, graph: Graph, steps: tuple[Operation, ...], pieces: list[Piece]) -> int:
    """The last piece that writes `value` (or, of a concatenation, one of its parts); -1 for a graph input."""
    parts, written = [value], set()
    while parts:  # not by recursion: a hostile model nests deeper than Python's stack
        node = graph.producer(written_value := parts.pop())
        written.add(written_value)
        parts += node.inputs if node is not None and isinstance(node.op, Concat) else ()
    return max((k for k, piece in enumerate(pieces) if steps[piece.layer].output in written), default=-1)


def _layer(index: int, step: Operation, place: Place, pieces: list[Piece], commands: tuple[int, ...]) -> Layer:
    graph = place.graph
    macs = sum(node.op.work(*graph.input_types(node)) for node in step.nodes)
    return Layer(
        name="+".join(node.name for node in step.nodes),
        op="+".join(type(node.op).__name__ for node in step.nodes),
        sources=tuple(source for node in step.nodes for source in node.source),
        macs=macs,
        elements=int(np.prod(graph.values[step.output].type.shape)),
        value=step.output,
        view=place.views[step.output],
        commands=tuple(command for command, piece in zip(commands, pieces, strict=True) if piece.layer == index),
    )
