"""Graph -> graph that the accelerator's storage can hold: copies where one value must lie in two places, realignment where channel positions differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from types import MappingProxyType

import numpy as np

from hwgen.ir.graph import Graph, Node, Value, fresh_name
from hwgen.ir.host import Reshape, Take, Transpose, simplified
from hwgen.ops.add import Add
from hwgen.ops.base import UNLIMITED, Window
from hwgen.ops.clamp import Clamp
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.interleave import Interleave
from hwgen.ops.move import Move
from hwgen.ops.resize import Resize
from hwgen.ops.slice import Slice

Positions = tuple[int, ...]

CHANNELS = 2  # Concat axis
NO_POSITIONS: Mapping[str, Positions] = MappingProxyType({})


def is_lane_wise(node: Node) -> bool:
    """Does each output channel lie in the lane of its input channel? True of all but dense convolutions and concatenation."""
    return not isinstance(node.op, Concat | Interleave) and not (isinstance(node.op, Conv) and not node.op.is_lane_wise)


def blocks_of(positions: Positions, lanes: int) -> int:
    return max(positions) // lanes + 1


def channel_positions(graph: Graph, lanes: int, given: Mapping[str, Positions] = NO_POSITIONS) -> dict[str, Positions]:
    """Physical channel of each logical channel, for every value (a packed input's entry is not used). `given`: of inputs that another
    program has written."""
    positions = _input_positions(graph, given)
    for node in graph.nodes:
        positions[node.output] = _positions_after(node, graph, positions, lanes)
    return positions


def _input_positions(graph: Graph, given: Mapping[str, Positions]) -> dict[str, Positions]:
    return {i.value: given.get(i.value) or tuple(range(graph.values[i.value].type.channels)) for i in graph.inputs}


def _positions_after(node: Node, graph: Graph, positions: dict[str, Positions], lanes: int) -> Positions:
    if isinstance(node.op, Concat) and node.op.axis == CHANNELS:
        joined: list[int] = []
        first_block = 0
        for name in node.inputs:
            joined += [first_block * lanes + p for p in positions[name]]
            first_block += blocks_of(positions[name], lanes)
        return tuple(joined)
    if isinstance(node.op, Concat | Interleave) or is_lane_wise(node):
        return positions[node.inputs[0]]
    return tuple(range(graph.values[node.output].type.channels))


class _Rewriter:
    """Collects the new node list; adds values under names that no model value has."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Node] = []
        self.values: dict[str, Value] = dict(graph.values)

    def insert(self, value: str, purpose: str, op: Clamp | Conv | Slice, like: str | None = None) -> str:
        """A value computed from `value`, quantized as that or as `like`."""
        name = fresh_name(f"{like or value}.{purpose}", self.values)
        self.values[name] = replace(self.graph.values[like or value], name=name, type=op.infer(self.graph.values[value].type))
        self.nodes.append(Node(name=name, op=op, inputs=(value,), output=name))
        return name

    def result(self) -> Graph:
        return replace(self.graph, nodes=tuple(self.nodes), values=self.values)


def copy_for_concat(graph: Graph) -> Graph:
    """Every Concat input becomes a value that is produced by a node and lies in that one Concat only."""
    rewriter = _Rewriter(graph)
    taken: set[str] = {i.value for i in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, Concat):
            inputs = []
            for name in node.inputs:
                source = rewriter.insert(name, "copy", Clamp(clamp=UNLIMITED)) if name in taken else name
                taken.add(source)
                inputs.append(source)
            node = replace(node, inputs=tuple(inputs))
        rewriter.nodes.append(node)
    return rewriter.result()


def realign(graph: Graph, lanes: int, given: Mapping[str, Positions] = NO_POSITIONS) -> Graph:
    """Where an Add or a spatial Concat meets different channel positions, an identity convolution brings both to standard positions."""
    rewriter = _Rewriter(graph)
    positions = _input_positions(graph, given)
    for node in graph.nodes:
        together = isinstance(node.op, Add) or (isinstance(node.op, Concat) and node.op.axis != CHANNELS)
        if together and len({positions[name] for name in node.inputs}) > 1:
            inputs = []
            for name in node.inputs:
                standard = tuple(range(graph.values[name].type.channels))
                source = name if positions[name] == standard else rewriter.insert(name, "aligned", _identity(graph.values[name]))
                positions[source] = standard
                inputs.append(source)
            node = replace(node, inputs=tuple(inputs))
        rewriter.nodes.append(node)
        positions[node.output] = _positions_after(node, graph, positions, lanes)
    return rewriter.result()


def _identity(value: Value) -> Conv:
    """A 1x1 convolution that leaves every integer as it is: weight 1 at scale 1."""
    return _selection(value.type.channels, range(value.type.channels))


def _selection(channels: int, kept: range) -> Conv:
    """A 1x1 convolution of so many channels that leaves every integer of those that are `kept` as it is."""
    weight = np.eye(channels, dtype=np.int8)[list(kept)].reshape(len(kept), 1, 1, channels)
    return Conv(weight=weight, bias=np.zeros(len(kept), np.int32), window=Window(kernel=(1, 1)), weight_scale=np.ones(len(kept), np.float32))


def enlarge(graph: Graph) -> Graph:
    """A Resize becomes as many copies as a pixel becomes pixels, interleaved, a DepthToSpace so many parts of its channels; a
    transposed convolution as many convolutions, each of the kernel's taps that meet pixels there, and if need be without the rows and
    columns beyond the last."""
    rewriter = _Rewriter(graph)
    for node in graph.nodes:
        if isinstance(node.op, Resize):
            op = Interleave(factors=node.op.factors)
            copies = tuple(rewriter.insert(node.inputs[0], "copy", Clamp(clamp=UNLIMITED)) for _ in range(op.count))
            node = replace(node, op=op, inputs=copies)
        if isinstance(node.op, DepthToSpace):
            source, pair = graph.values[node.inputs[0]].type, (node.op.block, node.op.block)
            kept = [node.op.part(index, source.channels) for index in range(node.op.block**2)]
            slices = [Slice(starts=(0, 0, c.start), counts=(source.height, source.width, len(c)), steps=(1, 1, c.step)) for c in kept]
            parts = tuple(rewriter.insert(node.inputs[0], "part", part) for part in slices)
            node = replace(node, op=Interleave(factors=pair), inputs=parts)
        if isinstance(node.op, Conv) and node.op.is_transposed:
            node = _transposed(rewriter, node, node.op)
        rewriter.nodes.append(node)
    return rewriter.result()


def _transposed(rewriter: _Rewriter, node: Node, op: Conv) -> Node:
    """The last node of those that compute a transposed convolution."""
    x, y = (rewriter.graph.values[name].type for name in (node.inputs[0], node.output))
    join = Interleave(factors=op.spread)
    size = -(-y.height // op.spread[0]), -(-y.width // op.spread[1])
    parts = []
    for row, column in product(range(op.spread[0]), range(op.spread[1])):
        part = _phase(op, [(row, column)], (x.height, x.width), size)
        parts.append(rewriter.insert(node.inputs[0], "phase", part, node.output))
    kind = join.infer(*(rewriter.values[part].type for part in parts))
    if kind == y:
        return replace(node, op=join, inputs=tuple(parts))
    name = fresh_name(f"{node.output}.whole", rewriter.values)
    rewriter.values[name] = replace(rewriter.graph.values[node.output], name=name, type=kind)
    rewriter.nodes.append(Node(name=name, op=join, inputs=tuple(parts), output=name))
    return replace(node, op=Slice(starts=(0, 0, 0), counts=y.shape), inputs=(name,))


def _phase(op: Conv, phases: Sequence[tuple[int, int]], source: tuple[int, int], size: tuple[int, int]) -> Conv:
    """The convolution that computes every spread-th row and column of a transposed one, from each of `phases` on, with the channels of one
    phase behind those of the one before: `size` pixels of an image of `source` pixels."""
    reach = []  # of each axis: first and last row of the input, counted from the result's own
    for axis in (0, 1):
        places = [place for phase in phases for _, place in _taps(op, axis, phase[axis])]
        reach.append((min(0, *places, 0), max(0, *places, source[axis] - size[axis])))  # whoever pads must not crop
    (top, bottom), (left, right) = reach
    weight = np.zeros((len(phases), op.channels, bottom - top + 1, right - left + 1, op.weight.shape[3]), op.codes.dtype)
    for index, phase in enumerate(phases):
        for (row, y), (column, x) in product(*(_taps(op, axis, phase[axis]) for axis in (0, 1))):
            weight[index, :, y - top, x - left] = op.codes[:, row, column]
    window = Window(kernel=(weight.shape[2], weight.shape[3]), pads=(-top, -left, size[0] - source[0] + bottom, size[1] - source[1] + right))
    limits = [end if np.size(end) == 1 else tuple(np.tile(end, len(phases)).tolist()) for end in op.clamp]
    return replace(
        op,
        weight=weight.reshape(-1, *weight.shape[2:]),
        bias=np.concatenate([op.bias] * len(phases)),
        weight_scale=np.tile(op.weight_scale, len(phases)) if op.weight_scale is not None else None,
        clamp=(limits[0], limits[1]),
        window=window,
        spread=(1, 1),
    )


def _taps(op: Conv, axis: int, phase: int) -> list[tuple[int, int]]:
    """Those of the kernel that meet pixels there, and the row (or column) of the input that they meet, counted from the result's own."""
    offsets = [(tap, phase + tap * op.window.dilations[axis] - op.window.pads[axis]) for tap in range(op.window.kernel[axis])]
    return [(tap, offset // op.spread[axis]) for tap, offset in offsets if offset % op.spread[axis] == 0]


def without_gaps(graph: Graph) -> Graph:
    """For hardware that cannot leave gaps between columns: a transposed convolution as one whose channels are the pixels that a pixel
    becomes, and which the processor moves to their places."""
    rewriter = _Rewriter(graph)
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Conv) and op.spread[1] > 1:
            x, y = (graph.values[name].type for name in (node.inputs[0], node.output))
            rows, columns = op.spread
            size = -(-y.height // rows), -(-y.width // columns)
            phases = rewriter.insert(node.inputs[0], "phases", _phase(op, list(product(range(rows), range(columns))), (x.height, x.width), size), node.output)
            rewriter.nodes[-1] = replace(rewriter.nodes[-1], source=node.source)
            steps = (
                Reshape(shape=(*size, rows, columns, y.channels)),
                Transpose(permutation=(0, 1, 3, 2, 4, 5)),
                Reshape(shape=(size[0] * rows, size[1] * columns, y.channels)),
                Take(axis=1, indices=tuple(range(y.height))),
                Take(axis=2, indices=tuple(range(y.width))),
            )
            node = replace(node, op=Move(steps=simplified(steps, rewriter.values[phases].type.shape)), inputs=(phases,))  # type: ignore[arg-type]  # moving
        rewriter.nodes.append(node)
    return rewriter.result()


def select_channels(graph: Graph) -> Graph:
    """A Slice of channels becomes a 1x1 convolution that reads these; one of rows and columns as well, both, one after the other."""
    rewriter = _Rewriter(graph)
    for node in graph.nodes:
        kind = graph.values[node.inputs[0]].type
        if isinstance(node.op, Slice) and node.op.counts[2] != kind.channels:
            inputs = node.inputs
            if node.op.counts[:2] != kind.shape[:2]:
                whole = (0, kind.channels, 1)
                starts, counts, steps = ((*triple[:2], every) for triple, every in zip((node.op.starts, node.op.counts, node.op.steps), whole, strict=True))
                inputs = (rewriter.insert(inputs[0], "part", Slice(starts=starts, counts=counts, steps=steps)),)
            node = replace(node, op=_selection(kind.channels, node.op.channels), inputs=inputs)
        rewriter.nodes.append(node)
    return rewriter.result()


def prepare(graph: Graph, lanes: int, given: Mapping[str, Positions] = NO_POSITIONS) -> Graph:
    """All of the above; a quantized graph in, a quantized graph of the same meaning out."""
    return copy_for_concat(realign(select_channels(enlarge(graph)), lanes, given))
