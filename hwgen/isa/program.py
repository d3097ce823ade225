"""Commands <-> 128-byte records, and their readable form."""

from __future__ import annotations

from collections.abc import Iterable

from hwgen.errors import CapacityError, ModelError
from hwgen.isa.fields import COMMAND_BYTES, fields_of
from hwgen.isa.instructions import COMMANDS, Command

_BY_OPCODE = {int(command.opcode): command for command in COMMANDS}


def encode_command(command: Command) -> bytes:
    """One record, little endian. Raises CapacityError when a value does not fit its field."""
    record = int(command.opcode)
    for field in fields_of(type(command)):
        value = int(getattr(command, field.name))
        if not field.min <= value <= field.max:
            raise CapacityError(f"{command.opcode.name} command: {field.name} must be {field.min}..{field.max} ({field.meaning}), not {value}")
        record |= (value & ((1 << field.width) - 1)) << field.bit
    return record.to_bytes(COMMAND_BYTES, "little")


def decode_command(record: bytes) -> Command:
    """The command of one record. Raises ModelError for an unknown opcode."""
    number = int.from_bytes(record, "little")
    kind = _BY_OPCODE.get(number & 0xFF)
    if kind is None:
        raise ModelError(f"program: opcode must be one of {', '.join(f'{c.opcode:#04x}' for c in COMMANDS)}, not {number & 0xFF:#04x}")
    values = {}
    for field in fields_of(kind):
        raw = number >> field.bit & ((1 << field.width) - 1)
        values[field.name] = raw - (1 << field.width) if field.signed and raw > field.max else raw
    return kind(**values)


def encode(commands: Iterable[Command]) -> bytes:
    return b"".join(encode_command(command) for command in commands)


def decode(program: bytes) -> tuple[Command, ...]:
    """All commands. Raises ModelError when the length is not a whole number of records."""
    if len(program) % COMMAND_BYTES:
        raise ModelError(f"program: length must be a multiple of {COMMAND_BYTES} bytes, not {len(program)}")
    return tuple(decode_command(program[k : k + COMMAND_BYTES]) for k in range(0, len(program), COMMAND_BYTES))


def disassemble(commands: Iterable[Command]) -> str:
    """One line per command: index, mnemonic, tokens, and every field that differs from its default."""
    lines = []
    for index, command in enumerate(commands):
        plain = type(command)()
        tokens = [f"wait({e.name.lower()})" for e in command.waits] + [f"signal({e.name.lower()})" for e in command.signals]
        values = [
            f"{f.name}={int(getattr(command, f.name))}"
            for f in fields_of(type(command))
            if not f.is_token and getattr(command, f.name) != getattr(plain, f.name)
        ]
        lines.append(f"{index:4d}  {command.opcode.name:6s}{' '.join(tokens + values)}".rstrip())
    return "\n".join(lines) + "\n"
