"""Convolutions on the full array: input channels (dense) or consecutive bytes of a packed row in the lanes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from hwgen.config import HardwareConfig
from hwgen.ir.types import IntArray
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv as ConvCommand
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.layout import Int64Array, PackedLayout
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat, narrowest
from hwgen.schedule.jobs import Job, parameter_sets
from hwgen.schedule.prepare import Positions, blocks_of


def _full_weight(op: Conv, positions: Positions, width: int) -> IntArray:
    """(C_out, rows, columns, width): weights over physical input channels, zero where a group does not reach."""
    full = np.zeros((op.channels, *op.window.kernel, width), op.codes.dtype)
    inputs, outputs = op.weight.shape[3], op.channels // op.group
    for group in range(op.group):
        at = list(positions[group * inputs : (group + 1) * inputs])
        full[group * outputs : (group + 1) * outputs, :, :, at] = op.weight[group * outputs : (group + 1) * outputs]
    return full


def _tiled(weight: IntArray, config: HardwareConfig) -> IntArray:
    """(C_out, ...) -> (tiles, M, ...). The parameters of rows at the end, which have no channel, give zero whatever their weights are: these
    are zero too, or one where all others are 1 and -1 and can be stored without zeros."""
    tiles = -(-len(weight) // config.out_lanes)
    fill = int(config.weight_decoder and narrowest(weight) is WeightFormat.BINARY)
    padded = np.full((tiles * config.out_lanes, *weight.shape[1:]), fill, weight.dtype)
    padded[: len(weight)] = weight
    return padded.reshape(tiles, config.out_lanes, *weight.shape[1:])


def _block_ranges(op: Conv, positions: Positions, config: HardwareConfig) -> list[tuple[int, int]]:
    """For every tile of output channels, the input blocks [first, end) that its groups read."""
    inputs, outputs = op.weight.shape[3], op.channels // op.group
    ranges = []
    for first in range(0, op.channels, config.out_lanes):
        last = min(first + config.out_lanes, op.channels) - 1
        at = positions[first // outputs * inputs : (last // outputs + 1) * inputs]
        ranges.append((min(at) // config.in_lanes, max(at) // config.in_lanes + 1))
    return ranges


def _aligned_ranges(ranges: list[tuple[int, int]], granule: int) -> list[tuple[int, int, int, int]]:
    """(first tile, end tile, first block, end block): neighbouring tiles with equal blocks together, cut only at multiples of `granule` tiles."""
    merged: list[tuple[int, int, int, int]] = []
    for first in range(0, len(ranges), granule):
        part = ranges[first : first + granule]
        low, high = min(r[0] for r in part), max(r[1] for r in part)
        if merged and merged[-1][2:] == (low, high):
            merged[-1] = (merged[-1][0], first + len(part), low, high)
        else:
            merged.append((first, first + len(part), low, high))
    return merged


def dense_jobs(op: Conv, command: ConvCommand, positions: Positions, columns: dict[str, Int64Array], config: HardwareConfig) -> tuple[Job, ...]:
    """One job, or for grouped convolutions one per range of tiles that reads the same input blocks."""
    lanes = config.in_lanes
    full = _tiled(_full_weight(op, positions, blocks_of(positions, lanes) * lanes), config)
    parameters = parameter_sets(columns, config.out_lanes, config)
    command = replace(command, mode=Mode.DENSE, kernel_steps=op.window.kernel[1])
    jobs = []
    for first, end, low, high in _aligned_ranges(_block_ranges(op, positions, config), config.tiles_per_word):
        block = first * config.out_lanes // lanes
        part = replace(
            command,
            input_blocks=high - low,
            input_address=(command.input_address + low * command.input_block_stride) & ADDRESS_MASK,
            output_tiles=end - first,
            output_address=command.output_address + block * command.output_block_stride,
            output_blocks=command.output_blocks - block,
        )
        weight = full[first:end, ..., low * lanes : high * lanes]  # (tiles, M, rows, columns, blocks * N)
        split = weight.reshape(*weight.shape[:4], high - low, lanes).transpose(0, 2, 3, 4, 1, 5)
        sets = np.ascontiguousarray(split).reshape(-1, config.out_lanes, lanes)
        jobs.append(Job(command=part, weights=sets, parameters={name: value[first:end] for name, value in parameters.items()}))
    return tuple(jobs)


def packed_steps(op: Conv, column_bytes: int, lanes: int) -> int:
    """Passes per stored row when the lanes hold consecutive bytes of it; `column_bytes` lie there for each column."""
    return -(-op.window.extent[1] * column_bytes // lanes)


def _packed_sets(op: Conv, layout: PackedLayout, config: HardwareConfig) -> IntArray:
    """(tiles, command's kernel rows, steps, M, N): weights in the order of the stored bytes; a dilated kernel has zeros between its columns."""
    lanes, rows, per_column = config.in_lanes, op.window.kernel[0] // layout.row_window.kernel, layout.column_bytes
    weight = _full_weight(op, tuple(range(layout.channels)), layout.channels)
    by_stored_row = weight.reshape(op.channels, rows, layout.row_window.kernel, op.window.kernel[1], layout.channels).transpose(0, 1, 3, 2, 4)
    spread = np.zeros((op.channels, rows, op.window.extent[1], per_column), weight.dtype)
    spread[:, :, :: op.window.dilations[1]] = by_stored_row.reshape(op.channels, rows, -1, per_column)
    steps = packed_steps(op, per_column, lanes)
    padded = np.zeros((op.channels, rows, steps * lanes), weight.dtype)
    padded[..., : op.window.extent[1] * per_column] = spread.reshape(op.channels, rows, -1)
    return _tiled(padded, config).reshape(-1, config.out_lanes, rows, steps, lanes).transpose(0, 2, 3, 1, 4)


def packed_jobs(op: Conv, command: ConvCommand, layout: PackedLayout, columns: dict[str, Int64Array], config: HardwareConfig) -> tuple[Job, ...]:
    """Kernel columns and channels together in the lanes, and the kernel's rows where the image is folded."""
    sets = _packed_sets(op, layout, config)
    command = replace(
        command,
        mode=Mode.PACKED,
        kernel_steps=sets.shape[2],
        stride_columns=op.window.strides[1] * layout.column_bytes,
        origin_column=layout.left_bytes - op.window.pads[1] * layout.column_bytes,
        input_columns=min(layout.row_words * config.in_lanes, 65535),
        output_tiles=len(sets),
    )
    weights = np.ascontiguousarray(sets).reshape(-1, config.out_lanes, config.in_lanes)
    parameters = parameter_sets(columns, config.out_lanes, config)
    return (Job(command=_from_folded(command, op, layout) if layout.fold else command, weights=weights, parameters=parameters),)


def _from_folded(command: ConvCommand, op: Conv, layout: PackedLayout) -> ConvCommand:
    """Output row g reads stored row g, which holds its padding too."""
    return replace(
        command,
        input_address=(command.input_address + op.window.pads[0] * layout.row_words) & ADDRESS_MASK,
        input_rows=layout.rows,
        input_row_step=layout.row_words,
        stride_rows=1,
        kernel_rows=1,
        kernel_row_step=0,
        dilation_rows=1,
        origin_row=0,
    )
