"""Operators that move or repeat elements: no arithmetic, but data that must lie elsewhere. The processor moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hwgen.frontend.onnx_builder import Builder
from hwgen.frontend.onnx_constants import PROBE_BATCHES
from hwgen.frontend.onnx_node import OnnxNode
from hwgen.frontend.onnx_view import Constant
from hwgen.ir import host

REASON = "moves data, which the processor does"


def move(builder: Builder, node: OnnxNode, steps: Sequence[host.HostStep], output: int = 0) -> None:
    """Output number `output` is operand 0 after `steps`."""
    view = builder.view(node, 0)
    name = node.outputs[output]
    builder.env[name] = view
    for step in steps:
        known = builder.env[name]
        assert known is not None and not isinstance(known, Constant)
        builder.hand_over(node, known, step, REASON, name)


def _axis(node: OnnxNode, axis: int, rank: int) -> int:
    """A dimension that is not the batch, counted from 0 with the batch."""
    if not -rank <= axis < rank:
        raise node.malformed(f"axes must lie within the {rank} dimensions, not {axis}")
    if axis % rank == 0:
        raise node.refuse("must not run over the batch", "axis")
    return axis % rank


def _take(node: OnnxNode, axis: int, indices: Sequence[int], size: int) -> host.Take:
    if not all(-size <= index < size for index in indices):
        raise node.malformed(f"indices must lie within the {size} elements of dimension {axis}, not {min(indices)} .. {max(indices)}")
    return host.Take(axis=axis, indices=tuple(int(index) % size for index in indices))


def gather(builder: Builder, node: OnnxNode) -> None:
    """With constant indices, on the processor."""
    indices = builder.constant(node, 1, "the indices")
    shape = builder.view(node, 0).shape
    axis = _axis(node, node.integer("axis", 0), len(shape) + 1)
    if not indices.size:
        raise node.refuse("must take at least one element")
    take = _take(node, axis, indices.reshape(-1).tolist(), shape[axis - 1])
    move(builder, node, (take, host.Reshape(shape=(*shape[: axis - 1], *indices.shape, *shape[axis:]))))


def take_ranges(builder: Builder, node: OnnxNode, ranges: Mapping[int, range], output: int = 0) -> None:
    """Output number `output`: these positions of the dimensions (the batch not counted)."""
    if not all(ranges.values()):
        raise node.malformed("must keep something of each dimension")
    move(builder, node, [host.Take(axis=axis + 1, indices=tuple(kept)) for axis, kept in ranges.items()], output)


def tile(builder: Builder, node: OnnxNode) -> None:
    """Constant repeats, on the processor."""
    shape, repeats = builder.view(node, 0).shape, builder.numbers(node, 1, "repeats")
    if repeats is None or len(repeats) != len(shape) + 1 or min(repeats) < 1:
        raise node.malformed(f"repeats must be {len(shape) + 1} numbers of at least 1, not {repeats}")
    if repeats[0] != 1:
        raise node.refuse("must not repeat the batch", "repeats")
    takes = [host.Take(axis=k, indices=tuple(range(size)) * count) for k, (size, count) in enumerate(zip(shape, repeats[1:], strict=True), 1) if count > 1]
    move(builder, node, takes)


def expand(builder: Builder, node: OnnxNode) -> None:
    """To a shape that is constant but for the batch, on the processor."""
    shape, operand = builder.view(node, 0).shape, builder.operand(node, 1)
    if not isinstance(operand, Constant):
        raise node.refuse("the target shape must be constant but for the batch")
    low, high = (probe.reshape(-1).tolist() for probe in operand.probes)
    if len(low) > len(shape) + 1:
        raise node.refuse(f"must keep the {len(shape) + 1} dimensions, of which the first is the batch")
    low, high = [1] * (len(shape) + 1 - len(low)) + low, [1] * (len(shape) + 1 - len(high)) + high
    if (low[0], high[0]) not in ((1, 1), PROBE_BATCHES) or low[1:] != high[1:]:
        raise node.refuse("must keep the batch")
    takes = []
    for axis, (own, wide) in enumerate(zip(shape, low[1:], strict=True), 1):
        if own != wide and 1 not in (own, wide):
            raise node.malformed(f"target {low} does not broadcast with {['N', *shape]}")
        if wide > own:
            takes.append(host.Take(axis=axis, indices=(0,) * wide))
    move(builder, node, takes)


PAD_MODES = {"edge": "edge", "reflect": "reflect", "wrap": "wrap"}  # of ONNX: of numpy.pad


def pad_by_copies(builder: Builder, node: OnnxNode, amounts: dict[int, tuple[int, int]], mode: str) -> None:
    """Borders that repeat elements; `amounts` by dimension without the batch, at least 0."""
    shape = builder.view(node, 0).shape
    if min(min(pair) for pair in amounts.values()) < 0:
        raise node.refuse(f"must not be negative where the mode is {mode}", "pads")
    if mode == "reflect" and any(max(pair) >= shape[axis] for axis, pair in amounts.items()):
        raise node.malformed("pads must be smaller than the dimension that they reflect")
    takes = []
    for axis, pair in amounts.items():
        indices = np.pad(np.arange(shape[axis]), pair, mode=PAD_MODES[mode])  # type: ignore[call-overload]  # one of its modes
        takes.append(host.Take(axis=axis + 1, indices=tuple(indices.tolist())))
    move(builder, node, takes)


def arg_extremum(builder: Builder, node: OnnxNode) -> None:
    """ArgMax and ArgMin, on the processor: indices as real numbers."""
    shape = builder.view(node, 0).shape
    axis = _axis(node, node.integer("axis", 0), len(shape) + 1)
    step = host.ArgExtremum(axis=axis, largest=node.operator == "ArgMax", last=bool(node.integer("select_last_index", 0)))
    steps: list[host.HostStep] = [step]
    if not node.integer("keepdims", 1):
        steps.append(host.Reshape(shape=(*shape[: axis - 1], *shape[axis:])))
    for number, part in enumerate(steps):
        view = builder.view(node, 0) if number == 0 else builder.lookup(node.output)
        assert not isinstance(view, Constant)
        builder.hand_over(node, view, part, "gives indices, which only the processor can use")


MOVE_HANDLERS = {
    "Gather": gather,
    "Tile": tile,
    "Expand": expand,
    "ArgMax": arg_extremum,
    "ArgMin": arg_extremum,
}
