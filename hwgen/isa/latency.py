"""Cycles that the machine's blocks promise: the RTL is built to them (tests measure it), the cycle model counts with them."""

from __future__ import annotations

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Engine
from hwgen.packing import WeightFormat

QUEUE_DEPTH = {Engine.LOAD: 4, Engine.COMPUTE: 2, Engine.STORE: 2}  # commands that wait; more loads, so that they run ahead
RECORDS_AHEAD = 2  # records that the program fetch asks for before they are needed
BURST_BEATS = 16  # longest burst; bursts end at multiples of it, so none crosses 4 KiB
OUTSTANDING_BURSTS = 4

ROW_CYCLES = 3  # from a command's acceptance, or a row's departure, to the next row at the burst splitter
STORE_CYCLES = 4  # from a burst of a store to its first bus word
WALK_CYCLES = 8  # in which the walker counts the pixels and passes of a CONV command
SETUP_CYCLES = WALK_CYCLES + 4  # from a CONV command's acceptance to its first pixel
PASS_CYCLES = 4  # shortest pass: weight sets need weight_load_cycles <= 4, the accumulator 3

READ_CYCLES = 2  # from a pixel's read to its words: the buffer's cycle, and a register behind it
SET_READ_CYCLES = 2  # from the read of a weight or parameter word to the word: the buffer's cycle, and a register behind it
LOAD_WRITE_CYCLES = 2  # from a bus word's write, as LOAD counts it, to that in the weight, parameter or table buffer: before any CONV can read it
ROUTE_CYCLES = 3  # from its words to its operands
TREE_LEVELS_PER_REGISTER = 2
DECODER_SLOTS = 4  # bus words of unpacked weights that are written at once, where a word of the weight buffer holds so many
TABLE_CYCLES = 3  # from a code to its entry: the memory's cycle, a register behind it, one behind the choice in the word


def operand_cycles() -> int:
    """From a pixel's read to its operands at the array."""
    return READ_CYCLES + ROUTE_CYCLES


def tree_cycles(config: HardwareConfig) -> int:
    """Registers behind the products."""
    levels = (config.in_lanes - 1).bit_length()
    return -(-levels // TREE_LEVELS_PER_REGISTER)


def sum_cycles(config: HardwareConfig) -> int:
    """From a pixel's read to its row sums."""
    return operand_cycles() + 1 + tree_cycles(config)


def write_cycles(config: HardwareConfig, residual: bool, table: bool = False) -> int:
    """From the emission of a slice to the write of its results."""
    stages = len(config.requantize.stages) + (len(config.add_requantize.stages) if residual else 0) + (TABLE_CYCLES if table else 0)
    return sum_cycles(config) + 1 + stages

SERIAL_REQUANTIZE_CYCLES = 8  # the serial machine: of one result
SERIAL_ADD_CYCLES = 14  # and of the residual's addition to it
SERIAL_UNDER_WAY = 31  # words that may wait for their answers
SERIAL_START_CYCLES = 5  # registers that are cleared
SERIAL_FETCH_CYCLES = 2  # a record's offset
SERIAL_CHECK_CYCLES = 7  # of a record's or row's place
SERIAL_TRANSFER_CYCLES = 3  # fields of a LOAD or STORE that are read first
SERIAL_STEP_CYCLES = 2  # to the next row
SERIAL_CONV_CYCLES = 6  # addresses of a CONV
SERIAL_OUTPUT_CYCLES = 2  # between the operands of two outputs
SERIAL_TILE_CYCLES = 10  # before the first output of a tile, and behind its last


def decoder_slots(config: HardwareConfig) -> int:
    """Bus words that a cycle may add to one word of the weight buffer."""
    return min(DECODER_SLOTS, config.weight_word_bytes // config.bus_bytes)


def decode_cycles(config: HardwareConfig, kind: WeightFormat, first: int, end: int) -> int:
    """In which bus words `first` to `end` - 1 of a row are written. A bus word becomes `digits` ones, which leave in groups that end at
    multiples of `decoder_slots`; the row begins at one."""
    if kind is WeightFormat.INT8:
        return end - first
    slots, digits = decoder_slots(config), kind.digits
    each = [(digits * (word + 1) - 1) // slots - digits * word // slots + 1 for word in range(slots)]  # after `slots` bus words it begins anew

    def begun(words: int) -> int:
        return words // slots * sum(each) + sum(each[: words % slots])

    return begun(end) - begun(first)
