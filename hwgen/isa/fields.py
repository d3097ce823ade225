"""How a command's fields lie in its record: the one table that encoder, decoder, RTL, C header and documentation read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

COMMAND_WORDS = 32  # 32-bit words per record
COMMAND_BYTES = 4 * COMMAND_WORDS
BUFFER_ADDRESS_BITS = 24  # of every buffer address in a command; address arithmetic is modulo 2**24
TOKEN_LIMIT = 255  # tokens that one engine may have given to another one before they are taken


@dataclass(frozen=True, kw_only=True)
class Field:
    """`width` bits of 32-bit word `word` from bit `lsb`; a field of more than 32 bits starts at bit 0 and goes on in the next word.

    `option`: the hardware parameter without which hardware does not look at the field.
    """

    name: str
    word: int
    lsb: int
    width: int
    signed: bool
    meaning: str
    option: str = ""

    @property
    def bit(self) -> int:
        """Position of the lowest bit in the record."""
        return 32 * self.word + self.lsb

    @property
    def is_token(self) -> bool:
        """Says whom to wait for or to signal, rather than what to do."""
        return self.name.startswith(("wait_", "signal_"))

    @property
    def min(self) -> int:
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def max(self) -> int:
        return (1 << (self.width - self.signed)) - 1


def bits(word: int, lsb: int, width: int, meaning: str, *, signed: bool = False, default: Any = 0, option: str = "") -> Any:
    """A dataclass field that knows its place in the record."""
    return dataclasses.field(default=default, metadata={"word": word, "lsb": lsb, "width": width, "signed": signed, "meaning": meaning, "option": option})


_KNOWN: dict[type, tuple[Field, ...]] = {}


def fields_of(command: type) -> tuple[Field, ...]:
    """The record layout of one command class, in order of position."""
    if command not in _KNOWN:
        _KNOWN[command] = _read_fields(command)
    return _KNOWN[command]


def _read_fields(command: type) -> tuple[Field, ...]:
    found = [Field(name=f.name, **f.metadata) for f in dataclasses.fields(command) if f.metadata]
    return tuple(sorted(found, key=lambda f: f.bit))


class Engine(IntEnum):
    """The three machines that run side by side; the order is that of the token bits."""

    LOAD = 0
    COMPUTE = 1
    STORE = 2


class Opcode(IntEnum):
    END = 0x01
    LOAD = 0x02
    STORE = 0x03
    CONV = 0x10


class Region(IntEnum):
    """Windows of system memory, each with base and size registers; addresses in commands are offsets into one of them."""

    PROGRAM = 0
    WEIGHTS = 1
    ARENA = 2
    INPUT = 3
    OUTPUT = 4


class Buffer(IntEnum):
    """Memories inside the accelerator."""

    ACTIVATION = 0
    WEIGHT = 1
    PARAMETER = 2
    TABLE = 3


class Mode(IntEnum):
    """What the lanes of the array see; see docs/accelerator.md."""

    DENSE = 0
    DEPTHWISE = 1
    PACKED = 2


class Reduce(IntEnum):
    """How products (sum) or taps (maximum, depthwise mode only) are combined."""

    SUM = 0
    MAX = 1
