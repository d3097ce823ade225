"""Which network inputs lie packed: kernel columns and channels together in the lanes."""

from __future__ import annotations

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph, Node
from hwgen.layout import PackedLayout
from hwgen.ops.conv import Conv
from hwgen.schedule.dense import packed_steps

LARGEST_ROW_BYTES = 32767  # origin_column is a signed 16-bit field


def packed_layout(graph: Graph, value: str, config: HardwareConfig) -> PackedLayout | None:
    """The packed layout of a graph input, or None where the blocked one needs no more passes (or is the only legal one)."""
    readers = graph.consumers(value)
    convs = [(node, node.op) for node in readers if isinstance(node.op, Conv)]
    if len(convs) != len(readers) or not convs or graph.is_output(value):
        return None
    kind = graph.values[value].type
    if sum(_packed_passes(op, kind.channels, config) - _blocked_passes(op, kind.channels, config) for _, op in convs) >= 0:
        return None
    left = max(op.window.pads[1] for _, op in convs) * kind.channels
    ends = [left + kind.width * kind.channels, *(_last_byte(node, op, graph, left, config) for node, op in convs)]
    row_words = -(-max(ends) // config.in_lanes)
    strides_fit = all(op.window.strides[1] * kind.channels <= 65535 and op.window.pads[1] >= 0 for _, op in convs)
    if row_words * config.in_lanes > LARGEST_ROW_BYTES or not strides_fit:
        return None
    return PackedLayout(
        height=kind.height,
        width=kind.width,
        channels=kind.channels,
        lanes=config.in_lanes,
        left_bytes=left,
        row_words=row_words,
        fill=graph.values[value].quantized.zero_point,
    )


def _packed_passes(op: Conv, channels: int, config: HardwareConfig) -> int:
    tiles = -(-op.channels // config.out_lanes)
    return tiles * op.window.kernel[0] * packed_steps(op, channels, config.in_lanes)


def _blocked_passes(op: Conv, channels: int, config: HardwareConfig) -> int:
    rows, columns = op.window.kernel
    if op.is_lane_wise:
        return -(-channels // config.depthwise_lanes) * rows * -(-columns // config.taps)
    return -(-op.channels // config.out_lanes) * rows * columns * -(-channels // config.in_lanes)


def _last_byte(node: Node, op: Conv, graph: Graph, left: int, config: HardwareConfig) -> int:
    """One past the last byte that any window of the convolution reads in a row."""
    channels = graph.values[node.inputs[0]].type.channels
    last = (graph.values[node.output].type.width - 1) * op.window.strides[1] * channels
    return left - op.window.pads[1] * channels + last + packed_steps(op, channels, config.in_lanes) * config.in_lanes
