"""When every command of the serial machine runs, to the cycle: one after the other, each in cycles that follow from its fields alone."""

from __future__ import annotations

from collections.abc import Sequence

from hwgen.config import HardwareConfig
from hwgen.isa import latency
from hwgen.isa.fields import COMMAND_WORDS, Mode
from hwgen.isa.instructions import Command, Conv, End, Load, Store


def words_per_output(c: Conv) -> int:
    """Cycles in which the operands of one output are read, padding included; packed rows begin in the middle of a word."""
    if c.mode == Mode.PACKED:
        return c.kernel_rows * (c.kernel_steps + 1)
    return c.kernel_rows * c.kernel_steps * (c.taps if c.mode == Mode.DEPTHWISE else c.input_blocks)


def conv_cycles(c: Conv) -> int:
    """Cycles of a CONV command, from behind its decoding to the last."""
    requantize = 0 if c.keep else latency.SERIAL_REQUANTIZE_CYCLES + c.residual * latency.SERIAL_ADD_CYCLES
    words = words_per_output(c)
    outputs = c.output_rows * c.output_columns
    other = max(words, requantize + 1) if requantize else words
    tile = latency.SERIAL_TILE_CYCLES + words + (outputs - 1) * other + outputs * latency.SERIAL_OUTPUT_CYCLES + requantize
    return latency.SERIAL_CONV_CYCLES + c.output_tiles * tile


def stretch_cycles(words: int, latency_cycles: int, writes: bool) -> int:
    """Of so many bus words, from the cycle behind the row's check to the one in which the port is seen to be idle."""
    held_up = (words - 1) // latency.SERIAL_UNDER_WAY * max(0, latency_cycles + 1 - latency.SERIAL_UNDER_WAY)
    return words + latency_cycles + 1 + writes + held_up


def transfer_cycles(c: Load | Store, config: HardwareConfig, latency_cycles: int) -> int:
    """Of a LOAD or STORE, from behind its decoding to the last."""
    row = latency.SERIAL_CHECK_CYCLES + stretch_cycles(c.row_bytes // config.bus_bytes, latency_cycles, isinstance(c, Store)) + latency.SERIAL_STEP_CYCLES
    return latency.SERIAL_TRANSFER_CYCLES + c.rows * row


def ends(commands: Sequence[Command], config: HardwareConfig, latency_cycles: int) -> tuple[list[int], list[int]]:
    """The cycle in which each command is decoded, and its last one; END: of its decoding."""
    fetch = latency.SERIAL_FETCH_CYCLES + latency.SERIAL_CHECK_CYCLES + stretch_cycles(COMMAND_WORDS, latency_cycles, False)
    now, starts, last = latency.SERIAL_START_CYCLES, [], []
    for command in commands:
        now += fetch
        starts.append(now)
        if isinstance(command, Conv):
            now += conv_cycles(command)
        elif not isinstance(command, End):
            now += transfer_cycles(command, config, latency_cycles)
        last.append(now)
        now += 1
    return starts, last
