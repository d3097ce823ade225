"""One operation -> CONV jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from hwgen.arith import INT8
from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph, Node
from hwgen.isa.fields import Reduce
from hwgen.isa.instructions import Conv as ConvCommand
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.layout import Int64Array, Layout, PackedLayout
from hwgen.ops.average_pool import AveragePool
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.integer import (
    AddStage,
    OutputStage,
    add_stage,
    average_stages,
    folded_bias,
    identity_stage,
    lookup_table,
    output_stage,
    pad_code,
    unit_stage,
)
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.ops.slice import Slice
from hwgen.schedule.box import whole
from hwgen.schedule.dense import dense_jobs, packed_jobs
from hwgen.schedule.jobs import Job, parameter_sets, pixels_per_tile
from hwgen.schedule.operations import Operation
from hwgen.schedule.place import rectangle
from hwgen.schedule.prepare import Positions
from hwgen.schedule.storage import View
from hwgen.schedule.window import as_window, held_ones, window_sets


@dataclass(frozen=True, kw_only=True)
class Place:
    """All that lowering needs to know of where things lie."""

    graph: Graph
    config: HardwareConfig
    positions: Mapping[str, Positions]
    layouts: Mapping[str, Layout]
    views: Mapping[str, View]


def lower(operation: Operation, place: Place) -> tuple[Job, ...]:
    """The jobs of one operation, residual addition and lookup included."""
    jobs = _main_jobs(operation, place)
    commands = [replace(job.command, pixels_per_tile=pixels_per_tile(job.command, place.config)) for job in jobs]
    if operation.add is not None:
        stage = add_stage(operation.add, place.graph)
        if operation.main is not None and operation.add.inputs[0] == operation.residual:
            stage = replace(stage, multiplier_a=stage.multiplier_b, multiplier_b=stage.multiplier_a)
        commands = [_with_residual(command, stage, place, operation) for command in commands]
    table = None
    if operation.lookup is not None:
        table = lookup_table(operation.lookup, place.graph)
        commands = [replace(command, table=1) for command in commands]
    return tuple(replace(job, command=command, table=table) for job, command in zip(jobs, commands, strict=True))


def _with_residual(command: ConvCommand, stage: AddStage, place: Place, operation: Operation) -> ConvCommand:
    """The command's output rectangle may start inside the output; the residual's starts at the same pixel."""
    assert operation.residual is not None
    out, residual = place.views[operation.output], place.views[operation.residual]
    block, row, column = out.place_of(command.output_address)
    return replace(
        command,
        residual=1,
        residual_address=residual.address + block * residual.block_stride + row * residual.row_stride + column,
        residual_row_stride=residual.row_stride,
        residual_block_stride=residual.block_stride,
        residual_low=stage.low,
        residual_high=stage.high,
        residual_shift=stage.shift,
        residual_multiplier_a=stage.multiplier_a,
        residual_multiplier_b=stage.multiplier_b,
        residual_offset=stage.offset,
    )


def _main_jobs(operation: Operation, place: Place) -> tuple[Job, ...]:
    node = operation.main
    if node is None:
        source = place.graph.values[operation.input]
        return (_maximum_job(operation, place, unit_stage(source.type.channels, place.graph.arithmetic), INT8.min),)
    op = node.op
    if isinstance(op, Conv):
        return _conv_jobs(node, op, operation, place)
    if isinstance(op, AveragePool):
        return _average_jobs(node, operation, place)
    assert isinstance(op, MaxPool | Pad | Clamp | Slice)
    fill = pad_code(node, place.graph) if isinstance(op, Pad) else INT8.min
    return (_maximum_job(operation, place, identity_stage(node, place.graph), fill),)


def stage_columns(stage: OutputStage, bias: Int64Array, config: HardwareConfig) -> dict[str, Int64Array]:
    """A shift by all bits of the product gives zero already: the hardware need not shift farther than its product is wide."""
    columns = {name: getattr(stage, name) for name in ("multiplier", "zero_point", "low", "high")}
    return {"bias": bias, "shift": np.minimum(stage.shift, config.requantize.product.bits), **columns}


def _geometry(operation: Operation, place: Place) -> ConvCommand:
    """The fields that describe the images, for dense and depthwise modes."""
    source, target = place.views[operation.input], place.views[operation.output]
    source_type, target_type = (place.graph.values[name].type for name in (operation.input, operation.output))
    window = operation.window
    top, left = window.pads[:2]
    return ConvCommand(
        input_address=(source.address - top * source.row_stride) & ADDRESS_MASK,
        input_rows=source_type.height,
        input_columns=source_type.width,
        input_row_step=window.strides[0] * source.row_stride,
        stride_rows=window.strides[0],
        kernel_row_step=window.dilations[0] * source.row_stride,
        dilation_rows=window.dilations[0],
        dilation_columns=window.dilations[1],
        input_block_stride=source.block_stride,
        stride_columns=window.strides[1],
        kernel_rows=window.kernel[0],
        kernel_steps=window.kernel[1],
        origin_row=-top,
        origin_column=-left,
        output_address=target.address,
        output_rows=target_type.height,
        output_columns=target_type.width,
        output_row_stride=target.row_stride,
        output_column_gap=target.column_stride - 1,
        output_block_stride=target.block_stride,
        output_blocks=target.blocks,
    )


def _maximum_job(operation: Operation, place: Place, stage: OutputStage, fill: int) -> Job:
    """Pooling, padding, clamping, copying: the maximum over a window; every channel has the same stage."""
    command = replace(_geometry(operation, place), reduce=Reduce.MAX, pad_value=fill, parameters_held=1)
    columns = stage_columns(stage, np.full(len(stage.multiplier), INT8.min, np.int64), place.config)
    return Job(command=as_window(command, place.config), weights=None, parameters=_held_parameters(columns, place.config))


def _held_parameters(columns: dict[str, Int64Array], config: HardwareConfig) -> dict[str, Int64Array]:
    """One set that serves all tiles; the channels' columns are constant."""
    assert all((column == column[0]).all() for column in columns.values())
    return {name: np.full((1, config.out_lanes), column[0], np.int64) for name, column in columns.items()}


def _conv_jobs(node: Node, op: Conv, operation: Operation, place: Place) -> tuple[Job, ...]:
    zero_point = place.graph.values[operation.input].quantized.zero_point
    command = replace(_geometry(operation, place), pad_value=zero_point)
    columns = stage_columns(output_stage(node, place.graph), folded_bias(node, place.graph), place.config)
    layout = place.layouts.get(operation.input)
    if isinstance(layout, PackedLayout):
        return packed_jobs(op, command, layout, columns, place.config)
    if op.is_lane_wise:
        return (_depthwise_job(op, command, columns, place, place.positions[operation.input]),)
    return dense_jobs(op, command, place.positions[operation.input], columns, place.config)


def _depthwise_job(op: Conv, command: ConvCommand, columns: dict[str, Int64Array], place: Place, positions: Positions) -> Job:
    config, channels = place.config, place.config.depthwise_lanes
    command = as_window(command, config)
    physical = np.zeros((command.output_tiles * channels, *op.window.kernel), op.codes.dtype)
    physical[list(positions)] = op.weight[..., 0]
    spread = {name: np.zeros(len(physical), np.int64) for name in columns}
    for name, column in columns.items():
        spread[name][list(positions)] = column
    parameters = parameter_sets(spread, channels, config)
    return Job(command=command, weights=window_sets(physical, command, config), parameters=parameters)


def _runs(values: Int64Array) -> list[tuple[int, int]]:
    """[first, end) of stretches of equal entries."""
    cuts = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(zip(cuts, cuts[1:], strict=False))


def _average_jobs(node: Node, operation: Operation, place: Place) -> tuple[Job, ...]:
    """One job per rectangle of output pixels whose windows have one divisor."""
    zero_point = place.graph.values[operation.input].quantized.zero_point
    command = as_window(replace(_geometry(operation, place), pad_value=zero_point, weights_held=1, parameters_held=1), place.config)
    own = whole(command.output_rows, command.output_columns, command.output_blocks)
    counts, stages = average_stages(node, place.graph)
    bias = folded_bias(node, place.graph)
    weights = held_ones(command, place.config)
    jobs = []
    for top, bottom in _runs(np.asarray(counts[:, 0], np.int64)):
        for left, right in _runs(np.asarray(counts[top], np.int64)):
            columns = stage_columns(stages[int(counts[top, left])], bias, place.config)
            box = replace(own, top=top, bottom=bottom, left=left, right=right)
            part = rectangle(command, box, own, place.config)
            jobs.append(Job(command=part, weights=weights, parameters=_held_parameters(columns, place.config)))
    return tuple(jobs)
