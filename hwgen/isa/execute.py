"""What each command does to the memories: the instruction set's meaning, in NumPy."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hwgen.config import BANKS, TABLE_ENTRIES, TABLE_LANES, HardwareConfig
from hwgen.errors import HwgenError
from hwgen.isa.fields import Buffer, Mode, Reduce, Region
from hwgen.isa.instructions import Conv, Load, Store, chain_lanes, in_different_banks, tap_lane
from hwgen.isa.machine import ADDRESS_MASK, Memories, ProgramError
from hwgen.isa.registers import ErrorCode
from hwgen.layout import Int64Array
from hwgen.packing import WeightFormat, unpack

LARGEST_PIXEL_TILE = (1 << 16) - 1  # what the field pixels_per_tile holds


def longest_pixel_tile(c: Conv, config: HardwareConfig) -> int:
    """Pixels that one pixel tile may have: sums that are used again lie in the accumulator memory, others in no place."""
    return LARGEST_PIXEL_TILE if c.passes == 1 and not (c.keep or c.resume) else config.accumulator_depth


def check_conv(command: Conv, config: HardwareConfig) -> None:
    """The compiler's side of the contract: what hardware need not check. Raises HwgenError naming the broken rule."""
    c = command
    longest = longest_pixel_tile(c, config)
    chain = 1 if c.reduce == Reduce.MAX else max(1, chain_lanes(max(1, c.tap_rows), config.window_taps))
    rules = [
        (c.reduce == Reduce.SUM or c.mode == Mode.DEPTHWISE, "maximum needs depthwise mode"),
        (c.input_blocks == 1 or c.mode == Mode.DENSE, "input_blocks must be 1 outside dense mode"),
        (1 <= c.tap_rows <= BANKS and in_different_banks(c.tap_rows, c.kernel_row_step), f"tap_rows must be 1..{BANKS} rows in different banks"),
        (1 <= c.taps <= chain, f"taps must be 1..{chain}"),
        (c.mode == Mode.DEPTHWISE or c.tap_rows == c.taps == 1, "taps and tap_rows must be 1 outside depthwise mode"),
        (1 <= c.pixels_per_tile <= longest, f"pixels_per_tile must be 1..{longest}"),
        (not (c.keep or c.resume) or c.output_tiles == 1, "keep and resume need one output tile"),
        (not (c.keep or c.resume) or c.output_rows * c.output_columns <= c.pixels_per_tile, "keep and resume need one pixel tile"),
        (min(c.output_rows, c.output_columns, c.output_tiles, c.output_blocks, c.passes) >= 1, "counts must be at least 1"),
        (not c.table or config.activation_tables > 0, "table needs hardware with activation tables"),
        (c.table_address % (TABLE_ENTRIES // TABLE_LANES) == 0, f"table_address must be a multiple of {TABLE_ENTRIES // TABLE_LANES}"),
        (not c.output_column_gap or config.output_gaps, "output_column_gap needs hardware with output_gaps"),
        (c.mode != Mode.PACKED or c.origin_column >= 0, "packed mode takes no left padding"),
    ]
    for holds, rule in rules:
        if not holds:
            raise HwgenError(f"CONV command: {rule}; found {command}")


@dataclass(frozen=True)
class _Window:
    """Word addresses (already wrapped to the buffer) and validity of one kernel position: (pixels,)."""

    words: Int64Array
    inside: npt.NDArray[np.bool_]


def _pixels(c: Conv) -> tuple[Int64Array, Int64Array]:
    y, x = np.divmod(np.arange(c.output_rows * c.output_columns), c.output_columns)
    return y.astype(np.int64), x.astype(np.int64)


def _position(c: Conv, config: HardwareConfig, row: int, kernel_column: int, block: int) -> _Window:
    y, x = _pixels(c)
    image_row = c.origin_row + y * c.stride_rows + row * c.dilation_rows
    column = c.origin_column + x * c.stride_columns + kernel_column * c.dilation_columns
    inside = (image_row >= 0) & (image_row < c.input_rows) & (column >= 0) & (column < c.input_columns)
    words = c.input_address + y * c.input_row_step + row * c.kernel_row_step + block * c.input_block_stride + column
    return _Window((words & ADDRESS_MASK) % config.activation_words, inside)


def _dense_operands(c: Conv, memories: Memories) -> npt.NDArray[np.int8]:
    """(passes, pixels, N) in the order of the passes."""
    operands = []
    for row in range(c.kernel_rows):
        for step in range(c.kernel_steps):
            for block in range(c.input_blocks):
                window = _position(c, memories.config, row, step, block)
                operands.append(np.where(window.inside[:, None], memories.activation[window.words], np.int8(c.pad_value)))
    return np.stack(operands)


def _packed_operands(c: Conv, memories: Memories) -> npt.NDArray[np.int8]:
    config, lanes = memories.config, memories.config.in_lanes
    y, x = _pixels(c)
    flat = memories.activation.reshape(-1)
    operands = []
    for row in range(c.kernel_rows):
        image_row = c.origin_row + y * c.stride_rows + row * c.dilation_rows
        inside = (image_row >= 0) & (image_row < c.input_rows)
        words = c.input_address + y * c.input_row_step + row * c.kernel_row_step
        for step in range(c.kernel_steps):
            first = c.origin_column + x * c.stride_columns + step * lanes
            start = ((words + first // lanes) & ADDRESS_MASK) * lanes + first % lanes
            at = (start[:, None] + np.arange(lanes)) % (config.activation_words * lanes)
            operands.append(np.where(inside[:, None], flat[at], np.int8(c.pad_value)))
    return np.stack(operands)


def _array_sums(c: Conv, memories: Memories) -> Int64Array:
    """Dense and packed: sums without bias, (tiles, pixels, M)."""
    operands = _dense_operands(c, memories) if c.mode == Mode.DENSE else _packed_operands(c, memories)
    passes, pixels, lanes = operands.shape
    rows = memories.config.out_lanes
    matrix = operands.transpose(1, 0, 2).reshape(pixels, passes * lanes).astype(np.float64)  # |sum| < 2**53: exact in float64
    tiles = []
    for tile in range(c.output_tiles):
        first = 0 if c.weights_held else tile * passes
        sets = memories.weight_sets(c.weight_address + first * memories.config.weight_load_cycles, 1 if c.weights_held else passes)
        weights = np.broadcast_to(sets, (passes, rows, lanes)).transpose(0, 2, 1).reshape(passes * lanes, rows)
        tiles.append((matrix @ weights.astype(np.float64)).astype(np.int64))
    return np.stack(tiles)


def _kept_sums(c: Conv, memories: Memories) -> Int64Array:
    """(pixels, M) of the CONV before."""
    pixels = c.output_rows * c.output_columns
    if pixels > memories.kept_pixels:
        raise HwgenError(f"CONV command: resume needs {pixels} kept sums, there are {memories.kept_pixels}; found {c}")
    return memories.accumulator[:pixels]


def _tap_weights(c: Conv, memories: Memories, index: int) -> Int64Array:
    """The command's set number `index`, (M, N); in depthwise mode lanes that hold no tap would see what passed before."""
    config = memories.config
    weights: Int64Array = memories.weight_sets(c.weight_address + index * config.weight_load_cycles, 1)[0].astype(np.int64)
    lanes = [tap_lane(c, row, column, config.window_taps) for row in range(c.tap_rows) for column in range(c.taps)]
    if c.reduce == Reduce.SUM and np.delete(weights[: config.depthwise_lanes], lanes, axis=1).any():
        raise HwgenError(f"CONV command: weights of lanes without a tap must be 0; set {index} of {c}")
    return weights


def _tap_sums(c: Conv, memories: Memories, start: Int64Array) -> Int64Array:
    """Depthwise: accumulators (tiles, pixels, K) that begin at `start` (tiles, pixels or 1, M)."""
    config = memories.config
    channels, lanes = config.depthwise_lanes, config.in_lanes
    tiles = []
    for tile in range(c.output_tiles):
        block, first = divmod(tile * channels, lanes)
        acc = np.broadcast_to(start[tile, :, :channels], (c.output_rows * c.output_columns, channels)).copy()
        for group in range(c.row_groups):
            for step in range(c.kernel_steps):
                index = 0 if c.weights_held else (tile * c.row_groups + group) * c.kernel_steps + step
                weights = _tap_weights(c, memories, index)
                for row, column in itertools.product(range(min(c.tap_rows, c.kernel_rows - group * c.tap_rows)), range(c.taps)):
                    window = _position(c, config, group * c.tap_rows + row, step * c.taps + column, block)
                    x = np.where(window.inside[:, None], memories.activation[window.words, first : first + channels], np.int8(c.pad_value)).astype(np.int64)
                    lane = tap_lane(c, row, column, config.window_taps)
                    acc = np.maximum(acc, x) if c.reduce == Reduce.MAX else acc + x * weights[:channels, lane]
        tiles.append(acc)
    return np.stack(tiles)


def _wrap(acc: Int64Array, bits: int) -> Int64Array:
    return ((acc + (1 << (bits - 1))) & ((1 << bits) - 1)) - (1 << (bits - 1))


@dataclass(frozen=True)
class _Slice:
    """Where one slice of Q channels goes: channels of the tile, block and first byte in the word."""

    first: int
    block: int
    byte: int


def _slices(c: Conv, config: HardwareConfig, tile: int) -> list[_Slice]:
    per_tile = config.depthwise_lanes if c.mode == Mode.DEPTHWISE else config.out_lanes
    starts = range(0, per_tile, config.requantize_lanes)
    places = [(k, *divmod(tile * per_tile + k, config.in_lanes)) for k in starts]
    return [_Slice(k, block, byte) for k, block, byte in places if block < c.output_blocks]


def result_addresses(c: Conv, config: HardwareConfig, block: int) -> Int64Array:
    """Words of the output's pixels in raster order."""
    y, x = _pixels(c)
    words: Int64Array = c.output_address + block * c.output_block_stride + y * c.output_row_stride + x * (c.output_column_gap + 1)
    return (words & ADDRESS_MASK) % config.activation_words


def _residual_addresses(c: Conv, config: HardwareConfig, block: int) -> Int64Array:
    y, x = _pixels(c)
    return ((c.residual_address + block * c.residual_block_stride + y * c.residual_row_stride + x) & ADDRESS_MASK) % config.activation_words


def run_conv(command: Conv, memories: Memories) -> None:
    """Execute one CONV command."""
    config = memories.config
    check_conv(command, config)
    tiles = command.output_tiles
    sets = memories.parameter_sets(command.parameter_address, 1 if command.parameters_held else tiles)
    sets["bias"] = _wrap(sets["bias"], config.accumulator_bits)
    p = {name: np.broadcast_to(value, (tiles, value.shape[1])) for name, value in sets.items()}
    depthwise = command.mode == Mode.DEPTHWISE
    start = _kept_sums(command, memories)[None] if command.resume else p["bias"][:, None, :]
    acc = _tap_sums(command, memories, start) if depthwise else _array_sums(command, memories) + start
    acc = _wrap(acc, config.accumulator_bits)
    if command.keep:
        memories.kept_pixels = acc.shape[1]
        memories.accumulator[: acc.shape[1], : acc.shape[2]] = acc[0]
        return
    if command.passes > 1:
        memories.kept_pixels = 0  # the passes used the memory
    writes = []
    for tile in range(tiles):
        for s in _slices(command, config, tile):
            channels = slice(s.first, s.first + config.requantize_lanes)
            lane = slice(s.byte, s.byte + config.requantize_lanes)
            y = config.requantize.compute(acc=acc[tile][:, channels], **{n: p[n][tile, channels] for n in ("multiplier", "shift", "zero_point", "low", "high")})
            if command.residual:
                b = memories.activation[_residual_addresses(command, config, s.block), lane].astype(np.int64)
                y = _add_residual(command, config, y, b)
            if command.table:
                y = memories.table_entries(command.table_address)[y + TABLE_ENTRIES // 2]
            writes.append((result_addresses(command, config, s.block), lane, y))
    for words, lane, y in writes:
        memories.activation[words, lane] = y


def _add_residual(c: Conv, config: HardwareConfig, a: Int64Array, b: Int64Array) -> Int64Array:
    y: Int64Array = config.add_requantize.compute(
        a=a,
        b=b,
        multiplier_a=np.int64(c.residual_multiplier_a),
        multiplier_b=np.int64(c.residual_multiplier_b),
        offset=np.int64(c.residual_offset),
        shift=np.int64(c.residual_shift),
        low=np.int64(c.residual_low),
        high=np.int64(c.residual_high),
    )
    return y


def _check_format(command: Load, index: int, config: HardwareConfig) -> WeightFormat:
    if command.format and not config.weight_decoder:
        raise HwgenError(f"LOAD command: format {command.format} needs hardware with weight_decoder; found {command}")
    if command.format and (command.format not in list(WeightFormat) or command.destination != Buffer.WEIGHT):
        detail = f"format must be 0 (int8), or for the weight buffer up to {max(WeightFormat)}, not {command.format}"
        raise ProgramError(ErrorCode.FORMAT, index, command.buffer_address, detail)
    return WeightFormat(command.format)


def _check_transfer(command: Load | Store, index: int, memories: Memories, words: int, word_bytes: int) -> None:
    bus = memories.config.bus_bytes
    strided = command.memory_row_stride if command.rows > 1 else 0
    if not command.row_bytes or not command.rows or command.row_bytes % bus or command.memory_offset % bus or strided % bus:
        raise ProgramError(ErrorCode.ALIGNMENT, index, command.memory_offset, f"offsets and lengths must be multiples of {bus} bytes and not 0")
    region = memories.regions.get(Region(command.region)) if command.region in list(Region) else None
    size = 0 if region is None else len(region)
    per_row = -(-command.unpacked_bytes // word_bytes)
    for row in range(command.rows):
        first = command.memory_offset + row * command.memory_row_stride
        if first + command.row_bytes > size:
            raise ProgramError(ErrorCode.REGION, index, first, f"region {command.region} holds {size} bytes, the row needs {first + command.row_bytes}")
        word = command.buffer_address + row * command.buffer_row_stride
        if word + per_row > words:
            raise ProgramError(ErrorCode.BUFFER, index, word, f"the buffer holds {words} words, the row needs {word + per_row}")


def run_load(command: Load, index: int, memories: Memories) -> None:
    """Execute one LOAD; raises ProgramError as the hardware would."""
    buffers: dict[int, npt.NDArray[Any]] = {Buffer.ACTIVATION: memories.activation, Buffer.WEIGHT: memories.weight, Buffer.PARAMETER: memories.parameter}
    if memories.config.activation_tables:
        buffers[Buffer.TABLE] = memories.table
    target = buffers.get(command.destination)
    if target is None:
        legal = ", ".join(str(int(buffer)) for buffer in buffers)
        raise ProgramError(ErrorCode.BUFFER, index, command.buffer_address, f"destination must be one of {legal}, not {command.destination}")
    kind = _check_format(command, index, memories.config)
    _check_transfer(command, index, memories, *target.shape)
    memory, flat, word_bytes = memories.regions[Region(command.region)], target.view(np.uint8).reshape(-1), target.shape[1]
    for row in range(command.rows):
        first = command.memory_offset + row * command.memory_row_stride
        at = (command.buffer_address + row * command.buffer_row_stride) * word_bytes
        row_bytes = unpack(memory[first : first + command.row_bytes], kind, memories.config.bus_bytes).view(np.uint8)
        flat[at : at + len(row_bytes)] = row_bytes


def run_store(command: Store, index: int, memories: Memories) -> None:
    """Execute one STORE; raises ProgramError as the hardware would."""
    source = memories.activation
    _check_transfer(command, index, memories, *source.shape)
    memory, flat = memories.regions[Region(command.region)], source.view(np.uint8).reshape(-1)
    for row in range(command.rows):
        first = command.memory_offset + row * command.memory_row_stride
        at = (command.buffer_address + row * command.buffer_row_stride) * source.shape[1]
        memory[first : first + command.row_bytes] = flat[at : at + command.row_bytes]
