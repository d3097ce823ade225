"""Commands and buffer accesses as hardware layouts, read off the instruction set's one table of fields."""

from __future__ import annotations

from amaranth.hdl import Cat, Value, ValueLike, signed, unsigned
from amaranth.lib import data
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, COMMAND_BYTES, Buffer, Engine, Field, fields_of
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import decoder_slots

INDEX_BITS = 25  # position of a command in the program: 4 GiB of records
_ENGINES = tuple(engine.name.lower() for engine in Engine)


def record_slice(record: ValueLike, field: Field) -> Value:
    """The bits of `field` in a record whose bit 0 is bit 0 of word 0."""
    return Value.cast(record)[field.bit : field.bit + field.width]


def _operands(command: type, config: HardwareConfig) -> tuple[Field, ...]:
    """The fields that this hardware looks at."""
    return tuple(field for field in fields_of(command) if not field.is_token and (not field.option or getattr(config, field.option)))


def _tokens(command: type, prefix: str) -> tuple[Field, ...]:
    """The three token bits `prefix`_load, _compute, _store in engine order."""
    by_name = {field.name: field for field in fields_of(command)}
    return tuple(by_name[f"{prefix}_{engine}"] for engine in _ENGINES)


def command_layout(command: type, config: HardwareConfig) -> data.StructLayout:
    """What an engine needs of a command: its fields in order of position, without opcode and tokens."""
    return data.StructLayout({field.name: signed(field.width) if field.signed else unsigned(field.width) for field in _operands(command, config)})


def conv_layout(config: HardwareConfig) -> data.StructLayout:
    """Of the compute engine's command."""
    return command_layout(Conv, config)


def dispatch_layout(command: type, config: HardwareConfig) -> data.StructLayout:
    """A command on its way to an engine: `wait` and `signal` (one bit per Engine), `index` in the program, `operands`."""
    return data.StructLayout({"wait": 3, "signal": 3, "index": INDEX_BITS, "operands": command_layout(command, config)})


def dispatch_of(command: type, record: ValueLike, index: ValueLike, config: HardwareConfig) -> Value:
    """The bits of `dispatch_layout(command, config)` out of a program record."""
    tokens = [record_slice(record, field) for prefix in ("wait", "signal") for field in _tokens(command, prefix)]
    operands = [record_slice(record, field) for field in _operands(command, config)]
    return Cat(*tokens, Value.cast(index)[:INDEX_BITS], *operands)


def record_bits(commands: tuple[type, ...]) -> int:
    """Bits of a record that any of the commands uses, from bit 0."""
    used = max(field.bit + field.width for command in commands for field in fields_of(command))
    assert used <= 8 * COMMAND_BYTES
    return used


def buffer_words(config: HardwareConfig) -> dict[Buffer, int]:
    """Sizes of the buffers that this hardware has."""
    tables = {Buffer.TABLE: config.table_words} if config.activation_tables else {}
    return {Buffer.ACTIVATION: config.activation_words, Buffer.WEIGHT: config.weight_words, Buffer.PARAMETER: config.parameter_words, **tables}


def buffer_chunks(config: HardwareConfig) -> dict[Buffer, int]:
    """Bus words per buffer word; powers of two."""
    sizes = {Buffer.ACTIVATION: config.in_lanes, Buffer.WEIGHT: config.weight_word_bytes, Buffer.PARAMETER: config.parameter_word_bytes}
    assert all(size % config.bus_bytes == 0 for size in sizes.values()), "a buffer word must hold whole bus words"
    return {buffer: size // config.bus_bytes for buffer, size in sizes.items()} | ({Buffer.TABLE: 1} if config.activation_tables else {})


def load_write_layout(config: HardwareConfig) -> data.StructLayout:
    """One bus word on its way into a buffer: bus word number `chunk` (lowest bytes first) of word `address` of `buffer`."""
    chunk_bits = max(1, ceil_log2(max(buffer_chunks(config).values())))
    place = {"buffer": 2, "address": BUFFER_ADDRESS_BITS, "chunk": chunk_bits}
    return data.StructLayout({**place, "data": config.bus_bits, **packed_members(config)})


def packed_members(config: HardwareConfig) -> dict[str, int]:
    """What hardware with a decoder must know of a bus word: how its weights are packed, and whether it is the first of a row."""
    return {"format": 3, "first": 1} if config.weight_decoder else {}


def weight_write_layout(config: HardwareConfig) -> data.StructLayout:
    """What the weight buffer takes at once. With a decoder up to `slots` bus words, at those places of group `group` of word `address` that
    `mask` names; without, what the load engine writes."""
    if not config.weight_decoder:
        return load_write_layout(config)
    slots = decoder_slots(config)
    groups = buffer_chunks(config)[Buffer.WEIGHT] // slots
    members = {"address": ceil_log2(config.weight_words), "group": ceil_log2(groups), "mask": slots, "data": slots * config.bus_bits}
    return data.StructLayout(members)


STORE_READ_LAYOUT = data.StructLayout({"address": BUFFER_ADDRESS_BITS})  # word of the activation buffer
