"""What the host of the bench does: a table of operations that templates/rtl/bench.v performs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hwgen.errors import DataError
from hwgen.isa.registers import offset_of

MAX_OPERATIONS = 1 << 17  # SCRIPT_LOG2 of the bench


class Code(IntEnum):
    END = 0
    WRITE = 1
    READ = 2
    WAIT = 3
    INFERENCE = 4
    DUMP = 5
    RESET = 6
    IDLE = 7
    POLL = 8
    COPY_FROM = 9
    COPY_TO = 10


@dataclass(frozen=True)
class Operation:
    """One step of the host; see the head of bench.v."""

    code: Code
    address: int = 0
    data: int = 0


def write(register: str, value: int) -> Operation:
    return Operation(Code.WRITE, offset_of(register), value)


def read(register: str) -> Operation:
    return Operation(Code.READ, offset_of(register))


def wait_irq(limit_cycles: int) -> Operation:
    return Operation(Code.WAIT, 0, limit_cycles)


def poll(register: str, bits: int, most_reads: int) -> Operation:
    """Read until none of `bits` is set, at most `most_reads` times (up to 65535)."""
    return Operation(Code.POLL, most_reads << 8 | offset_of(register), bits)


def begin_inference(index: int) -> Operation:
    return Operation(Code.INFERENCE, 0, index)


def dump(first_word: int, words: int) -> Operation:
    return Operation(Code.DUMP, first_word, words)


def copy(source_word: int, first_word: int, words: int) -> tuple[Operation, Operation]:
    """Bus words of the memory, at least one, to another place: what a processor would write there."""
    return Operation(Code.COPY_FROM, 0, source_word), Operation(Code.COPY_TO, first_word, words)


def reset(cycles: int) -> Operation:
    return Operation(Code.RESET, 0, cycles)


def idle(cycles: int) -> Operation:
    return Operation(Code.IDLE, 0, cycles)


def encode_script(operations: Sequence[Operation]) -> str:
    """The table as $readmemh text, with its end. Raises DataError when it is longer than the bench can hold."""
    table = [*operations, Operation(Code.END)]
    if len(table) > MAX_OPERATIONS:
        raise DataError(f"co-simulation: one run may take {MAX_OPERATIONS} host operations, not {len(table)}; run fewer inferences at once")
    return "".join(f"{o.code:02x}{o.address & 0xFFFFFF:06x}{o.data & 0xFFFFFFFF:08x}\n" for o in table)
