"""The register map, once: RTL, C header, SVD and documentation are read off this table."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, IntEnum

from hwgen.isa.fields import Region

IDENTITY = 0x4E475748  # "HWGN" in memory order
VERSION = 0x00010001  # major << 16 | minor; the driver refuses another major
REGISTER_SPACE_BYTES = 256


class Access(Enum):
    READ_ONLY = "ro"
    READ_WRITE = "rw"
    WRITE_ONE_TO_CLEAR = "w1c"
    SELF_CLEARING = "wo"  # writing 1 acts once; reads 0


class ErrorCode(IntEnum):
    """Why the machine stopped."""

    NONE = 0
    UNKNOWN_COMMAND = 1
    REGION = 2  # access outside its region
    BUS_READ = 3  # error response to a read
    BUS_WRITE = 4  # error response to a write
    WATCHDOG = 5
    ABORTED = 6
    ALIGNMENT = 7  # address or length not a multiple of the bus word, or zero rows or bytes
    BUFFER = 8  # transfer beyond the end of a buffer
    TOKENS = 9  # an engine gave more than TOKEN_LIMIT tokens that nobody took
    FORMAT = 10  # weights packed in a way that there is not, or for a buffer that has no decoder before it


@dataclass(frozen=True, kw_only=True)
class BitField:
    name: str
    lsb: int
    width: int
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Register:
    """One 32-bit register at byte `offset`."""

    name: str
    offset: int
    access: Access
    meaning: str
    reset: int = 0
    fields: tuple[BitField, ...] = ()


def _bit(name: str, lsb: int, meaning: str, width: int = 1) -> BitField:
    return BitField(name=name, lsb=lsb, width=width, meaning=meaning)


def _r(offset: int, name: str, access: Access, meaning: str, *fields: BitField, reset: int = 0) -> Register:
    return Register(name=name, offset=offset, access=access, meaning=meaning, reset=reset, fields=fields)


_SOURCES = (_bit("done", 0, "program reached END"), _bit("failed", 1, "program stopped with an error"))
_RO, _RW = Access.READ_ONLY, Access.READ_WRITE

_CONTROL = (
    _r(0x00, "identity", _RO, f"constant 0x{IDENTITY:08X}", reset=IDENTITY),
    _r(0x04, "version", _RO, "interface version, major << 16 | minor", reset=VERSION),
    _r(0x08, "config_hash", _RO, "low 32 bits of the hardware configuration's SHA-256 (its last 8 hex digits)"),
    _r(
        0x0C,
        "control",
        Access.SELF_CLEARING,
        "commands to the machine",
        _bit("start", 0, "run the program from program_entry; ignored while busy"),
        _bit("abort", 1, "stop after the transactions under way, with error ABORTED; ignored while idle"),
    ),
    _r(
        0x10,
        "status",
        _RO,
        "state",
        _bit("busy", 0, "a program runs, or transactions of a stopped one are still under way"),
        _bit("done", 1, "the last program reached END; cleared by start"),
        _bit("failed", 2, "the last program stopped with an error; cleared by start"),
    ),
    _r(
        0x14,
        "error",
        _RO,
        "why the last program stopped; cleared by start",
        _bit("code", 0, "ErrorCode", 8),
        _bit("engine", 8, "0 load, 1 compute, 2 store, 3 sequencer", 2),
    ),
    _r(0x18, "error_command", _RO, "index of the command that failed (position in the program, from program_entry)"),
    _r(0x1C, "error_address", _RO, "memory address (low 32 bits) or buffer address of the failing access"),
    _r(0x20, "interrupt_enable", _RW, "interrupt sources that raise irq", *_SOURCES),
    _r(0x24, "interrupt_status", Access.WRITE_ONE_TO_CLEAR, "pending interrupts; write 1 to clear", *_SOURCES),
    _r(0x28, "watchdog", _RW, "most cycles a program may take; 0 switches the watchdog off"),
    _r(0x2C, "program_entry", _RW, "byte offset of the first command in the program region"),
)


def _region_registers() -> tuple[Register, ...]:
    registers = []
    for region in Region:
        base = 0x40 + 0x10 * region
        name = region.name.lower()
        registers += [
            _r(base, f"{name}_base", _RW, f"{name} region: address of its first byte, a multiple of the bus word"),
            _r(base + 4, f"{name}_base_high", _RW, f"{name} region: upper address bits, where the address is wider than 32 bits"),
            _r(base + 8, f"{name}_size", _RW, f"{name} region: size in bytes; 0 forbids every access"),
        ]
    return tuple(registers)


_CAUSES = (  # every cycle of a run counts in exactly one of these
    _r(0xA4, "array_busy", _RO, "cycles in which the array took a pixel"),
    _r(0xC0, "wait_load", _RO, "cycles lost while the compute engine had nothing to do before a load was done"),
    _r(0xC4, "wait_store", _RO, "cycles lost while the compute engine had nothing to do before a store was done"),
    _r(0xC8, "lost_setup", _RO, "cycles lost while a CONV was accepted and its first pixel prepared"),
    _r(0xCC, "lost_drain", _RO, "cycles lost while the CONV before wrote its last results"),
    _r(0xD0, "lost_short_pass", _RO, "cycles lost in passes of fewer pixels than the array needs to change weights"),
    _r(0xD4, "lost_output", _RO, "cycles lost while more results of a pixel left, or its operands gave way to a residual word"),
    _r(0xD8, "lost_window", _RO, "cycles lost while columns of a window were read that complete no pixel"),
    _r(0xDC, "lost_program", _RO, "cycles lost without a CONV in sight: program fetch, start and end"),
)
_COUNTERS = (
    _r(0xA0, "cycles", _RO, "cycles from start to END or error"),
    _CAUSES[0],
    _r(0xA8, "compute_wait", _RO, "cycles in which the compute engine had a command and waited for a token"),
    _r(0xAC, "load_busy", _RO, "cycles in which the load engine executed a command"),
    _r(0xB0, "store_busy", _RO, "cycles in which the store engine executed a command"),
    _r(0xB4, "read_beats", _RO, "bus words read"),
    _r(0xB8, "write_beats", _RO, "bus words written"),
    _r(0xBC, "commands", _RO, "commands dispatched"),
    *_CAUSES[1:],
)

CAUSES: tuple[str, ...] = tuple(register.name for register in _CAUSES)
COUNTERS: tuple[str, ...] = tuple(register.name for register in _COUNTERS)
ALWAYS_COUNTED = ("cycles", "commands")  # also in hardware without counters: the watchdog and error_command need them
REGISTERS: tuple[Register, ...] = (*_CONTROL, *_region_registers(), *_COUNTERS)


def offset_of(name: str) -> int:
    """Byte offset of the register `name`."""
    return next(register.offset for register in REGISTERS if register.name == name)
