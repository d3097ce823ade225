"""A network made ready for scheduling: its operations lowered once, with every value at address 0, and what each needs and costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph
from hwgen.layout import Layout, PackedLayout, RowWindow
from hwgen.schedule.box import Box, window_box
from hwgen.schedule.cost import command_cycles
from hwgen.schedule.jobs import Job
from hwgen.schedule.lower import Place, lower
from hwgen.schedule.operations import Operation
from hwgen.schedule.place import Views, output_box
from hwgen.schedule.prepare import Positions, is_lane_wise
from hwgen.schedule.storage import Origin, View, extent, origins, pitches, view_of_part, whole_banks


@dataclass(frozen=True, kw_only=True)
class Work:
    """One operation: its jobs on `nominal` views, and the part of the output that each computes."""

    operation: Operation
    jobs: tuple[Job, ...]
    boxes: tuple[Box, ...]
    nominal: Views
    cycles: int
    weight_bytes: int

    @property
    def lane_wise(self) -> bool:
        """Channel blocks of the output depend on the same blocks of the input only."""
        return self.operation.main is None or is_lane_wise(self.operation.main)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """`works` in order; values, their layouts in memory, and where they lie inside others."""

    graph: Graph
    config: HardwareConfig
    positions: Mapping[str, Positions]
    layouts: Mapping[str, Layout]
    origin: Mapping[str, Origin]
    pitch: Mapping[str, int]  # of roots, in words
    works: tuple[Work, ...]

    def extent(self, value: str) -> Box:
        return extent(self.layouts[value])

    def root_box(self, value: str, box: Box) -> Box:
        """A part of a value as a part of its root; of an interleaved one with what lies between its pixels."""
        o = self.origin[value]
        return Box(
            top=o.row + box.top * o.row_step,
            bottom=o.row + (box.bottom - 1) * o.row_step + 1,
            left=o.column + box.left * o.column_step,
            right=o.column + (box.right - 1) * o.column_step + 1,
            first_block=box.first_block + o.block,
            end_block=box.end_block + o.block,
        )

    def bus_words(self, box: Box) -> int:
        """Of a part of a value, on its way to or from memory."""
        return box.pixels * box.blocks * (self.config.in_lanes // self.config.bus_bytes)

    def view_at(self, value: str, address: int) -> View:
        """Where all of a value lies, from `address` on; rows are as far apart as in its root."""
        own, o = self.extent(value), self.origin[value]
        view = view_of_part(own, address, (own.rows, self.pitch[o.root] * o.row_step), own.blocks)
        return replace(view, column_stride=o.column_step)

    def view_in_root(self, value: str, root: View) -> View:
        """Where a value lies when its root lies at `root`."""
        return root.inner(self.origin[value], self.extent(value).blocks)

    def input_box(self, work: Work, box: Box) -> Box:
        """What an operation reads of its input to compute `box` of its output."""
        name = work.operation.input
        layout, whole = self.layouts[name], self.extent(name)
        window = work.operation.window
        if isinstance(layout, PackedLayout):
            rows = RowWindow(
                outputs=self.extent(work.operation.output).rows,
                kernel=window.kernel[0],
                stride=window.strides[0],
                dilation=window.dilations[0],
                top=window.pads[0],
            )
            top, bottom = layout.rows_for(box.top, box.bottom, rows)
            return replace(whole, top=top, bottom=bottom)
        found = window_box(box, window, whole.rows, whole.columns)
        return found if work.lane_wise else replace(found, first_block=0, end_block=whole.blocks)

    @cached_property
    def root_words(self) -> dict[str, int]:
        """Words of each root as a whole in the activation buffer, a multiple of the banks."""
        sizes = {root: (self.extent(root), pitch) for root, pitch in self.pitch.items()}
        return {root: whole_banks(own.rows * own.blocks * pitch) for root, (own, pitch) in sizes.items()}

    @cached_property
    def produced_at(self) -> dict[str, int]:
        """Step that computes each value that is computed by one (not concatenations, not inputs)."""
        return {work.operation.output: index for index, work in enumerate(self.works)}

    @cached_property
    def leaves(self) -> dict[str, tuple[str, ...]]:
        """For every value, what its storage is filled by: computed values and network inputs."""
        filled = [*self.produced_at, *(i.value for i in self.graph.inputs)]
        by_root: dict[str, list[str]] = {}
        for name in filled:
            by_root.setdefault(self.origin[name].root, []).append(name)
        result = {}
        for name in self.graph.values:
            own = self.root_box(name, self.extent(name))
            mates = by_root.get(self.origin[name].root, [])
            result[name] = tuple(leaf for leaf in mates if not own.intersect(self.root_box(leaf, self.extent(leaf))).empty)
        return result

    @cached_property
    def last_use(self) -> dict[str, int]:
        """Last step that reads each leaf; the number of steps where it is a network output."""
        last = {leaf: -1 for leaf in (*self.produced_at, *(i.value for i in self.graph.inputs))}
        for index, work in enumerate(self.works):
            last |= {leaf: index for name in work.operation.reads for leaf in self.leaves[name]}
        return last | {leaf: len(self.works) for output in self.graph.outputs for leaf in self.leaves[output.value]}


def _work(operation: Operation, load: Workload) -> Work:
    names = {operation.input, operation.output, *operation.reads}
    views = {name: load.view_at(name, 0) for name in names}
    place = Place(graph=load.graph, config=load.config, positions=load.positions, layouts=load.layouts, views=views)
    jobs = lower(operation, place)
    residual = views[operation.residual] if operation.residual is not None else None
    return Work(
        operation=operation,
        jobs=jobs,
        boxes=tuple(output_box(job.command, views[operation.output], load.config) for job in jobs),
        nominal=Views(input=views[operation.input], output=views[operation.output], residual=residual),
        cycles=sum(job.runs * command_cycles(job.command, load.config) for job in jobs),
        weight_bytes=sum(job.stored_bytes(load.config) for job in jobs),
    )


def workload(graph: Graph, steps: tuple[Operation, ...], positions: Mapping[str, Positions], layouts: Mapping[str, Layout], config: HardwareConfig) -> Workload:
    """Lower every operation."""
    origin = origins(graph, layouts)
    load = Workload(graph=graph, config=config, positions=positions, layouts=layouts, origin=origin, pitch=pitches(graph, layouts, origin), works=())
    return replace(load, works=tuple(_work(step, load) for step in steps))
