"""Which network inputs lie packed (kernel columns and channels together in the lanes), and which folded (kernel rows as well)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hwgen.config import BANKS, HardwareConfig, Machine
from hwgen.ir.graph import Graph
from hwgen.isa.fields import fields_of
from hwgen.isa.instructions import Conv as ConvCommand
from hwgen.isa.instructions import chain_lanes
from hwgen.isa.latency import PASS_CYCLES
from hwgen.layout import PackedLayout, RowWindow
from hwgen.ops.conv import Conv
from hwgen.schedule.dense import packed_steps

_FIELDS = {field.name: field for field in fields_of(ConvCommand)}
HIDDEN_BEATS = 2  # one of so many bus words of an image is taken to load while nothing else could be done


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """A convolution that reads the input, and its output's size."""

    op: Conv
    rows: int
    columns: int

    @property
    def row_window(self) -> RowWindow:
        w = self.op.window
        return RowWindow(outputs=self.rows, kernel=w.kernel[0], stride=w.strides[0], dilation=w.dilations[0], top=w.pads[0])

    def cycles(self, passes: int, lanes: int) -> int:
        """With so many passes per tile of `lanes` output channels."""
        return -(-self.op.channels // lanes) * passes * max(self.rows * self.columns, PASS_CYCLES)


def packed_layout(graph: Graph, value: str, config: HardwareConfig) -> PackedLayout | None:
    """The packed layout of a graph input that takes the fewest cycles, or None where the blocked one takes no more (or is the only legal one)."""
    readers = _readers(graph, value)
    if not readers or graph.is_output(value):
        return None
    packed = _layout(graph, value, readers, None, config)
    folded = _layout(graph, value, readers, readers[0].row_window, config)
    fold_is_legal = all(reader.row_window == readers[0].row_window for reader in readers) and (
        folded.words <= config.activation_words // 2 or _is_tiled(packed, readers, config)
    )
    best, least = None, _blocked_cost(graph, value, readers, config)
    for layout in (packed, folded) if fold_is_legal else (packed,):
        cost = _cost(layout, readers, config)
        if _is_legal(layout, readers, config) and cost < least:
            best, least = layout, cost
    return best


def _readers(graph: Graph, value: str) -> list[_Reader]:
    """All that read the input; none where one is no convolution."""
    nodes = graph.consumers(value)
    readers = [
        _Reader(op=node.op, rows=graph.values[node.output].type.height, columns=graph.values[node.output].type.width)
        for node in nodes
        if isinstance(node.op, Conv)
    ]
    return readers if len(readers) == len(nodes) else []


def _layout(graph: Graph, value: str, readers: Sequence[_Reader], fold: RowWindow | None, config: HardwareConfig) -> PackedLayout:
    """Rows as wide as the readers' windows reach."""
    kind = graph.values[value].type
    column_bytes = kind.channels * (fold.kernel if fold else 1)
    left = max(reader.op.window.pads[1] for reader in readers) * column_bytes
    ends = [left + kind.width * column_bytes]
    for reader in readers:
        window = reader.op.window
        first_of_last = left + ((reader.columns - 1) * window.strides[1] - window.pads[1]) * column_bytes
        ends.append(first_of_last + packed_steps(reader.op, column_bytes, config.in_lanes) * config.in_lanes)
    return PackedLayout(
        height=kind.height,
        width=kind.width,
        channels=kind.channels,
        lanes=config.in_lanes,
        left_bytes=left,
        row_words=-(-max(ends) // config.in_lanes),
        fill=graph.values[value].quantized.zero_point,
        fold=fold,
    )


def _is_legal(layout: PackedLayout, readers: Sequence[_Reader], config: HardwareConfig) -> bool:
    """Every number of the commands fits its field."""
    largest = {
        "origin_column": layout.row_words * layout.lanes,
        "stride_columns": max(reader.op.window.strides[1] for reader in readers) * layout.column_bytes,
        "kernel_steps": max(packed_steps(reader.op, layout.column_bytes, config.in_lanes) for reader in readers),
        "input_rows": layout.rows,
    }
    return all(value <= _FIELDS[name].max for name, value in largest.items())


def _is_tiled(layout: PackedLayout, readers: Sequence[_Reader], config: HardwareConfig) -> bool:
    """Image and results do not fit the buffer together: the image comes a few rows at a time, however large it is."""
    results = sum(reader.rows * reader.columns * -(-reader.op.channels // config.in_lanes) for reader in readers)
    return layout.words + results > config.activation_words


def _load_cost(size_bytes: int, config: HardwareConfig) -> int:
    return size_bytes // config.bus_bytes // HIDDEN_BEATS


def _cost(layout: PackedLayout, readers: Sequence[_Reader], config: HardwareConfig) -> int:
    """Estimated cycles of loading the image and of all convolutions that read it."""
    cycles = _load_cost(layout.size_bytes, config)
    more = int(config.machine is Machine.SERIAL)  # words of a stretch that begins in the middle of one
    for reader in readers:
        rows = reader.op.window.kernel[0] // layout.row_window.kernel
        cycles += reader.cycles(rows * (packed_steps(reader.op, layout.column_bytes, config.in_lanes) + more), config.out_lanes)
    return cycles


def _blocked_cost(graph: Graph, value: str, readers: Sequence[_Reader], config: HardwareConfig) -> int:
    kind = graph.values[value].type
    blocks = -(-kind.channels // config.in_lanes)
    cycles = _load_cost(kind.height * kind.width * blocks * config.in_lanes, config)
    for reader in readers:
        if reader.op.is_lane_wise:
            cycles += reader.cycles(_window_passes(reader.op, config), config.depthwise_lanes)
        else:
            cycles += reader.cycles(reader.op.window.area * blocks, config.out_lanes)
    return cycles


def _window_passes(op: Conv, config: HardwareConfig) -> int:
    """Of depthwise mode, if the best number of rows lies in different banks; a pass counts once for each new column of a pixel.
    Serial machine: one word for each tap."""
    if config.machine is Machine.SERIAL:
        return op.window.area
    rows, columns = op.window.kernel
    found = []
    for together in range(1, min(BANKS, rows) + 1):
        taps = min(chain_lanes(together, config.window_taps), columns)
        found.append(-(-rows // together) * -(-columns // taps) * min(op.window.strides[1], taps))
    return min(found)
