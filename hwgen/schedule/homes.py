"""Which values lie in system memory between operations, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph
from hwgen.isa.fields import Region
from hwgen.isa.latency import BURST_BEATS
from hwgen.layout import Layout
from hwgen.schedule.memory import Home
from hwgen.schedule.segments import Segment, traffic
from hwgen.schedule.storage import Span, allocate, extent, needed_words
from hwgen.schedule.work import Workload


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
class Homes:
    """`of` holds the home from which each root is read; `outputs` the network outputs, whose leaves are stored there besides."""

    of: Mapping[str, Home]
    outputs: tuple[tuple[str, Home], ...]
    arena_bytes: int


Ends = tuple[tuple[HostTensor, ...], tuple[HostTensor, ...]]  # inputs, outputs


def host_tensors(graph: Graph, layouts: Mapping[str, Layout]) -> Ends:
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


def home_of(layout: Layout, region: Region, offset: int) -> Home:
    """Rows and blocks without gaps."""
    box = extent(layout)
    row_bytes = box.columns * layout.lanes
    return Home(region=region, offset=offset, row_bytes=row_bytes, block_bytes=box.rows * row_bytes, blocks=box.blocks)


def granule(config: HardwareConfig) -> int:
    """Bytes of which offsets in the arena are multiples."""
    return BURST_BEATS * config.bus_bytes


def homes(load: Workload, segments: tuple[Segment, ...], ends: Ends, first_free: int = 0) -> Homes:
    """Inputs at their place; values that segments hand on in the output region where they are outputs as a whole, else in the arena,
    from byte `first_free` on, whose bytes are used again when nobody reads them any more."""
    inputs, outputs = ends
    of = {t.value: home_of(t.layout, t.region, t.offset) for t in inputs}
    found = tuple((t.value, home_of(t.layout, t.region, t.offset)) for t in outputs)
    whole = {value: home for value, home in found if load.origin[value].root == value}
    spans = _spans(load, segments)
    unit = granule(load.config)
    sizes = {}
    for root, span in spans.items():
        if root in whole:
            of.setdefault(root, whole[root])
        elif root not in of:
            sizes[root] = (-(-load.layouts[root].size_bytes // unit), span)
    placed = allocate(sizes)
    of |= {root: home_of(load.layouts[root], Region.ARENA, first_free + address * unit) for root, address in placed.items()}
    return Homes(of=of, outputs=found, arena_bytes=first_free + unit * needed_words(sizes, placed))


def _spans(load: Workload, segments: tuple[Segment, ...]) -> dict[str, Span]:
    """First segment that writes each root that later ones read, and last one that reads it."""
    spans: dict[str, Span] = {}
    written: dict[str, int] = {}
    for index, segment in enumerate(segments):
        moved = traffic(load, segment.first, segment.end)
        for leaf in moved.stores:
            written.setdefault(load.origin[leaf].root, index)
        for leaf in moved.loads:
            root = load.origin[leaf].root
            if root in written:
                spans[root] = (written[root], index)
    return spans
