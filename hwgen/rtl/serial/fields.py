"""Fields of a CONV command that are needed in every cycle: registers that take them while the record comes, word by word."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, COMMAND_WORDS, Field, fields_of
from hwgen.isa.instructions import Conv

FIELDS = {field.name: field for field in fields_of(Conv)}
_KEPT = (
    *("mode", "reduce", "residual", "weights_held", "parameters_held", "keep", "resume", "taps", "tap_rows", "pad_value"),
    *("input_rows", "input_columns", "input_row_step", "stride_rows", "kernel_row_step", "dilation_rows", "input_block_stride"),
    *("dilation_columns", "input_blocks", "stride_columns", "kernel_rows", "kernel_steps", "origin_column"),
    *("output_columns", "output_column_gap", "output_row_stride", "residual_row_stride"),
)


def _kept(config: HardwareConfig) -> tuple[str, ...]:
    """Those that this hardware looks at."""
    return tuple(name for name in _KEPT if not FIELDS[name].option or getattr(config, FIELDS[name].option))


def _shape(field: Field, config: HardwareConfig) -> Any:
    """Addresses are taken modulo the activation buffer."""
    width = ceil_log2(config.activation_words) if field.width == BUFFER_ADDRESS_BITS else field.width
    return signed(width) if field.signed else width


def kept_layout(config: HardwareConfig) -> data.StructLayout:
    return data.StructLayout({name: _shape(FIELDS[name], config) for name in _kept(config)})


def part(word: Value, name: str, bits: int | None = None) -> Value:
    """The field in its word of the record, or so many of its low bits."""
    field = FIELDS[name]
    value = word[field.lsb : field.lsb + (bits or field.width)]
    return value.as_signed() if field.signed else value


class ConvFields(wiring.Component):
    """`write` takes word `index` of a record, `word`; `fields` are those of the last record."""

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__({"write": In(1), "index": In(ceil_log2(COMMAND_WORDS)), "word": In(32), "fields": Out(kept_layout(config))})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held = {name: Signal(_shape(FIELDS[name], self._config), name=name, reset_less=True) for name in _kept(self._config)}
        for number in sorted({FIELDS[name].word for name in held}):
            with m.If(self.write & (self.index == number)):
                m.d.sync += [value.eq(part(self.word, name, len(value))) for name, value in held.items() if FIELDS[name].word == number]
        m.d.comb += [getattr(self.fields, name).eq(value) for name, value in held.items()]
        return m
