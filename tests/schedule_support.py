"""Random networks as the scheduler sees them, and the meaning of single jobs on the instruction-level simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from random_graphs import random_graph

from hwgen.config import PRESETS, HardwareConfig, with_array
from hwgen.ir.graph import Graph, GraphOutput
from hwgen.isa.execute import run_conv
from hwgen.isa.machine import Memories
from hwgen.layout import Int8Array, parameter_bytes, weight_bytes
from hwgen.schedule.box import Box
from hwgen.schedule.cascade import Cascade, best_cascade
from hwgen.schedule.compile import _layouts
from hwgen.schedule.footprint import merged
from hwgen.schedule.jobs import Job
from hwgen.schedule.operations import operations
from hwgen.schedule.prepare import channel_positions, prepare
from hwgen.schedule.storage import View
from hwgen.schedule.work import Workload, workload


def small(array: str = "8x8", **changes: int) -> HardwareConfig:
    """A preset's array with other memories."""
    return replace(with_array(PRESETS["16x16"], array), accumulator_depth=16, **changes)


def random_workload(seed: int, config: HardwareConfig, nodes: int = 4, graph: Graph | None = None) -> Workload:
    """A random network, or `graph`, lowered."""
    graph = prepare(graph or random_graph(seed, nodes=nodes), config.in_lanes)
    positions = channel_positions(graph, config.in_lanes)
    return workload(graph, operations(graph), positions, _layouts(graph, positions, config), config)


def with_all_outputs(graph: Graph) -> Graph:
    """Every value is a network output, inputs and parts of concatenations too."""
    outputs = (GraphOutput(name=f"all {name}", shape=(-1, *value.type.shape), value=name) for name, value in graph.values.items())
    return replace(graph, outputs=tuple(outputs))


def words_of(view: View, box: Box) -> npt.NDArray[np.int64]:
    """(blocks, rows, columns) buffer words of a part of a value that lies at `view`."""
    b, y, x = np.ogrid[box.first_block : box.end_block, box.top : box.bottom, box.left : box.right]
    return view.address + b * view.block_stride + y * view.row_stride + x


def cells(box: Box) -> set[tuple[int, int, int]]:
    """(block, row, column) of everything in a box."""
    return {(b, y, x) for b in range(box.first_block, box.end_block) for y in range(box.top, box.bottom) for x in range(box.left, box.right)}


def run_job(job: Job, memories: Memories) -> None:
    """Execute a job whose weights and parameters are put at the beginning of their buffers."""
    images: list[tuple[npt.NDArray[np.uint8] | Int8Array, bytes]] = [(memories.parameter, parameter_bytes(dict(job.parameters)))]
    if job.weights is not None:
        images.append((memories.weight, weight_bytes(job.weights)))
    for buffer, data in images:
        flat = buffer.view(np.uint8).reshape(-1)
        flat[: len(data)] = np.frombuffer(data, np.uint8)
    run_conv(replace(job.command, weight_address=0, parameter_address=0), memories)


def intervals_of(words: set[int]) -> set[tuple[int, int]]:
    """Maximal stretches [first, end) of consecutive numbers."""
    firsts = sorted(w for w in words if w - 1 not in words)
    lasts = sorted(w for w in words if w + 1 not in words)
    return {(first, last + 1) for first, last in zip(firsts, lasts, strict=True)}


def memory_bytes(command):
    """[first, end) of the bytes of its region that a transfer touches, sorted, those that meet as one."""
    starts = [command.memory_offset + row * command.memory_row_stride for row in range(command.rows)]
    return merged((start, start + command.row_bytes) for start in starts)


def cheap_cascade(load: Workload, first: int) -> Cascade | None:
    """In place of hwgen.schedule.segments.best_cascade: a cascade wherever one fits."""
    found = best_cascade(load, first)
    return None if found is None else replace(found, estimate=0)
