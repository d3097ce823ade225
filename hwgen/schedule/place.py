"""Commands moved to where their tensors lie, and cut to a part of their output.

Operations are lowered once, with every value at address 0 (`nominal` views); what runs is a copy of that job, moved and cut.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv
from hwgen.isa.machine import ADDRESS_MASK
from hwgen.schedule.box import Box
from hwgen.schedule.footprint import blocks_written
from hwgen.schedule.jobs import Job, pixels_per_tile, tile_channels, tile_range
from hwgen.schedule.storage import View


@dataclass(frozen=True, kw_only=True)
class Views:
    """Where an operation's values lie. Addresses are those of pixel (0, 0) of block 0, also where the buffer holds only a part: then
    modulo 2**24."""

    input: View
    output: View
    residual: View | None


def output_box(command: Conv, output: View, config: HardwareConfig) -> Box:
    """The part of its value that a command writes; `output` is where that lies."""
    block, top, left = output.place_of(command.output_address)
    blocks = blocks_written(command, config)
    return Box(top=top, bottom=top + command.output_rows, left=left, right=left + command.output_columns, first_block=block, end_block=block + blocks)


def cut_to(job: Job, box: Box, own: Box, config: HardwareConfig) -> Job:
    """The part of `job` (which computes `own`) that computes `box`, a part of `own`. Between blocks only where a tile of output channels is at
    most a block."""
    command = job.command
    if (box.first_block, box.end_block) != (own.first_block, own.end_block):
        per_block = config.in_lanes // tile_channels(command, config)
        first, end = box.first_block - own.first_block, box.end_block - own.first_block
        job = tile_range(job, first * per_block, min(end * per_block, command.output_tiles), config)
    if (box.top, box.bottom, box.left, box.right) != (own.top, own.bottom, own.left, own.right):
        job = replace(job, command=rectangle(job.command, box, own, config))
    return job


def rectangle(command: Conv, box: Box, own: Box, config: HardwareConfig) -> Conv:
    """Rows and columns of `box` out of those of `own`, all of its channels."""
    top, left = box.top - own.top, box.left - own.left
    part = command.altered(
        output_rows=box.rows,
        output_columns=box.columns,
        output_address=command.output_address + top * command.output_row_stride + left * (command.output_column_gap + 1),
        residual_address=command.residual_address + top * command.residual_row_stride + left if command.residual else 0,
        origin_row=command.origin_row + top * command.stride_rows,
        origin_column=command.origin_column + left * command.stride_columns,
        input_address=(command.input_address + top * command.input_row_step) & ADDRESS_MASK,
    )
    return part.altered(pixels_per_tile=pixels_per_tile(part, config))


def _moved(address: int, nominal: View, actual: View) -> int:
    """An address inside `nominal`, whose blocks do not overlap, as the same pixel's in `actual`."""
    block, row, column = nominal.place_of(address)
    return (actual.address + block * actual.block_stride + row * actual.row_stride + column * actual.column_stride) & ADDRESS_MASK


def move(command: Conv, nominal: Views, actual: Views) -> Conv:
    """The same work on tensors that lie elsewhere, in rows and blocks of other lengths."""
    packed = command.mode == Mode.PACKED
    first_word = (command.input_address - command.origin_row * nominal.input.row_stride) & ADDRESS_MASK  # row 0, column 0
    block = 0 if packed else first_word // nominal.input.block_stride
    rows = actual.input.row_stride
    changes = {
        "input_address": (actual.input.address + block * actual.input.block_stride + command.origin_row * rows) & ADDRESS_MASK,
        "input_row_step": command.stride_rows * rows,
        "kernel_row_step": command.dilation_rows * rows,
        "input_block_stride": 0 if packed else actual.input.block_stride,
        "output_address": _moved(command.output_address, nominal.output, actual.output),
        "output_row_stride": actual.output.row_stride,
        "output_column_gap": actual.output.column_stride - 1,
        "output_block_stride": actual.output.block_stride,
    }
    if command.residual:
        assert nominal.residual is not None and actual.residual is not None
        changes["residual_address"] = _moved(command.residual_address, nominal.residual, actual.residual)
        changes["residual_row_stride"], changes["residual_block_stride"] = actual.residual.row_stride, actual.residual.block_stride
    return command.altered(**changes)
