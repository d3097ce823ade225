"""Where every value lies in the activation buffer: layouts, views into concatenations, addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwgen.config import BANKS, HardwareConfig
from hwgen.errors import CapacityError
from hwgen.ir.graph import Graph
from hwgen.layout import BlockedLayout, Layout
from hwgen.ops.concat import Concat
from hwgen.schedule.operations import Operation
from hwgen.schedule.prepare import CHANNELS


@dataclass(frozen=True, kw_only=True)
class View:
    """A value in the buffer, in words: pixel (y, x) of block b lies at address + b * block_stride + y * row_stride + x.

    For a packed value only `address` and `row_stride` mean something.
    """

    address: int
    row_stride: int
    block_stride: int
    blocks: int

    def moved(self, words: int, blocks: int) -> View:
        return View(address=self.address + words, row_stride=self.row_stride, block_stride=self.block_stride, blocks=blocks)


def roots(graph: Graph) -> dict[str, str]:
    """For every value the value whose storage it lies in: itself, or the outermost concatenation."""
    parent = {name: node.output for node in graph.nodes if isinstance(node.op, Concat) for name in node.inputs}

    def root(name: str) -> str:
        while name in parent:
            name = parent[name]
        return name

    return {name: root(name) for name in graph.values}


def _lifetimes(graph: Graph, steps: tuple[Operation, ...], root_of: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """First and last step at which each root is alive; inputs from -1, outputs to the end."""
    spans: dict[str, tuple[int, int]] = {}

    def touch(name: str, step: int) -> None:
        root = root_of[name]
        first, last = spans.get(root, (step, step))
        spans[root] = (min(first, step), max(last, step))

    for graph_input in graph.inputs:
        touch(graph_input.value, -1)
    for index, step in enumerate(steps):
        for name in (*step.reads, step.output):
            touch(name, index)
    for output in graph.outputs:
        touch(output.value, len(steps))
    return spans


def allocate(graph: Graph, steps: tuple[Operation, ...], layouts: Mapping[str, Layout], config: HardwareConfig) -> dict[str, int]:
    """Address of every root: largest first, each at the lowest place that is free during its whole life.

    Raises CapacityError naming the layer at which most is needed, and how much.
    """
    spans = _lifetimes(graph, steps, roots(graph))
    placed: dict[str, int] = {}
    for name in sorted(spans, key=lambda n: (-layouts[n].words, spans[n][0], n)):
        address = 0
        others = sorted((placed[o], placed[o] + layouts[o].words) for o in placed if spans[o][0] <= spans[name][1] and spans[name][0] <= spans[o][1])
        for first, end in others:
            if address + layouts[name].words > first:
                address = max(address, -(-end // BANKS) * BANKS)
        placed[name] = address
    needed = max((placed[name] + layouts[name].words for name in placed), default=0)
    if needed > config.activation_words:
        raise CapacityError(_too_small(spans, layouts, steps, config, needed))
    return placed


def _too_small(spans: Mapping[str, tuple[int, int]], layouts: Mapping[str, Layout], steps: tuple[Operation, ...], config: HardwareConfig, needed: int) -> str:
    def alive(step: int) -> int:
        return sum(layouts[name].words for name, (first, last) in spans.items() if first <= step <= last)

    peak = max(range(-1, len(steps) + 1), key=alive)
    where = f"at layer {steps[peak].nodes[0].name!r}" if 0 <= peak < len(steps) else "at the network's input or output"
    kib = config.in_lanes / 1024
    return (
        f"activation buffer: the network needs {needed} words of {config.in_lanes} bytes ({needed * kib:.1f} KiB, most {where}), "
        f"the hardware {config.name!r} has {config.activation_words} ({config.activation_words * kib:.1f} KiB): "
        f"{needed - config.activation_words} words too few; set activation_words to {1 << (needed - 1).bit_length()} or choose a smaller network"
    )


def views(graph: Graph, layouts: Mapping[str, Layout], addresses: Mapping[str, int]) -> dict[str, View]:
    """The view of every value, concatenated ones inside their root."""
    found: dict[str, View] = {}
    for name, address in addresses.items():
        layout = layouts[name]
        if isinstance(layout, BlockedLayout):
            found[name] = View(address=address, row_stride=layout.width, block_stride=layout.height * layout.width, blocks=layout.blocks)
        else:
            found[name] = View(address=address, row_stride=layout.row_words, block_stride=0, blocks=1)
    for node in reversed(graph.nodes):
        if isinstance(node.op, Concat):
            _place_inside(node.inputs, node.op.axis, found[node.output], layouts, found)
    return found


def _place_inside(names: tuple[str, ...], axis: int, outer: View, layouts: Mapping[str, Layout], found: dict[str, View]) -> None:
    words = 0
    for name in names:
        inner = layouts[name]
        assert isinstance(inner, BlockedLayout)
        found[name] = outer.moved(words, inner.blocks)
        words += inner.blocks * outer.block_stride if axis == CHANNELS else (inner.height * outer.row_stride, inner.width)[axis]
