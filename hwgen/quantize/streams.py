"""Values whose channels can be scaled together without changing what the network computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from hwgen.ir.graph import Graph, Node
from hwgen.ir.types import FloatArray
from hwgen.ops.add import Add
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.base import UNLIMITED, channel_limits, clamp_of
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.optimize.rewrite import with_node

Scales = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Stream:
    """`values` are written by the convolutions `writers`, passed on by operators for which f(x / s) = f(x) / s, and read by the
    convolutions `readers`; both are named by their outputs."""

    values: tuple[str, ...]
    writers: tuple[str, ...]
    readers: tuple[str, ...]


def streams(graph: Graph, *, additions: bool) -> tuple[Stream, ...]:
    """The streams of a float graph, each value in at most one; with `additions`, residual additions join their operands."""
    parent = {name: name for name in graph.values}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    closed = {entry.value for entry in graph.inputs} | {output.value for output in graph.outputs}
    for node in graph.nodes:
        if isinstance(node.op, Conv):
            continue
        for name in node.inputs:
            parent[root(name)] = root(node.output)
        if not _passes_scales(node) or (isinstance(node.op, Add) and not additions):
            closed.add(node.output)
    shut = {root(name) for name in closed}
    members: dict[str, list[str]] = {}
    for name in graph.values:
        if root(name) not in shut:
            members.setdefault(root(name), []).append(name)
    convolutions = [node for node in graph.nodes if isinstance(node.op, Conv)]
    found = (
        Stream(
            values=tuple(values),
            writers=tuple(node.output for node in convolutions if node.output in values),
            readers=tuple(node.output for node in convolutions if node.inputs[0] in values),
        )
        for values in members.values()
    )
    return tuple(stream for stream in found if stream.writers and stream.readers)


def _passes_scales(node: Node) -> bool:
    """The operator gives s times the result for s times its operands, channel by channel, for every s > 0."""
    if isinstance(node.op, Pad):
        return node.op.value == 0
    return isinstance(node.op, Add | AveragePool | Clamp | MaxPool) and clamp_of(node.op) in (UNLIMITED, (0.0, np.inf))


def divide(graph: Graph, stream: Stream, scales: Scales) -> Graph:
    """The same network with the stream's values divided by `scales` (C,), all above 0: weights, biases and clamps of the writers become
    smaller by them, weights of the readers larger. A clamp per channel keeps ReLU6 exact."""
    for name in stream.writers:
        node = _conv(graph, name)
        op = node.op
        assert isinstance(op, Conv)
        low, high = (channel_limits(np.broadcast_to(np.asarray(end, np.float64), scales.shape) / scales) for end in op.clamp)
        weight, bias = op.weight / scales.reshape(-1, 1, 1, 1), op.bias / scales
        op = replace(op, weight=weight.astype(np.float32), bias=bias.astype(np.float32), clamp=(low, high), moments=_divided_moments(op, scales))
        graph = with_node(graph, replace(node, op=op))
    for name in stream.readers:
        node = _conv(graph, name)
        op = node.op
        assert isinstance(op, Conv)
        weight = op.weight * by_input(op, scales)
        graph = with_node(graph, replace(node, op=replace(op, weight=weight.astype(np.float32))))
    return graph


def _divided_moments(op: Conv, scales: Scales) -> tuple[FloatArray, FloatArray] | None:
    return None if op.moments is None else ((op.moments[0] / scales).astype(np.float32), (op.moments[1] / scales).astype(np.float32))


def by_input(op: Conv, channels: Scales) -> Scales:
    """One number per input channel, shaped to meet the weights (C_out, rows, columns, C_in / group)."""
    groups = np.repeat(channels.reshape(op.group, 1, 1, -1), op.channels // op.group, axis=0)
    return groups.reshape(op.channels, 1, 1, -1)


def _conv(graph: Graph, output: str) -> Node:
    node = graph.producer(output)
    assert node is not None
    return node


def divided(scales: Mapping[str, Scales], stream: Stream, by: Scales) -> dict[str, Scales]:
    """What each value has been divided by, after one more division."""
    return {**scales, **{name: scales.get(name, np.ones(len(by))) * by for name in stream.values}}
