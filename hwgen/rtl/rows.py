"""Transfers as checked rows: the part that the load engine and the store engine share."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, Buffer, Region
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import byte_bits, region_layout, regions_layout
from hwgen.rtl.command import INDEX_BITS, buffer_chunks, buffer_words, command_layout
from hwgen.rtl.faults import FAULT_LAYOUT, report


def beat_bits(config: HardwareConfig) -> int:
    """Bits of a position in the largest buffer, counted in bus words."""
    chunks, words = buffer_chunks(config), buffer_words(config)
    return max(ceil_log2(words[buffer] * chunks[buffer]) for buffer in Buffer)


def row_layout(config: HardwareConfig) -> data.StructLayout:
    """`beats` bus words at byte `address` of memory and at bus word `beat` of `buffer`; `last` row of its command."""
    return data.StructLayout({"address": config.address_bits, "beats": beat_bits(config) + 1, "beat": beat_bits(config), "buffer": 2, "last": 1})


def _exceeds_power(value: Value, bits: int) -> Value:
    """value > 2**bits, without a comparator."""
    return value[bits + 1 :].any() | (value[bits] & value[:bits].any())


class RowGenerator(wiring.Component):
    """Turns a transfer command into its rows, and lets no row pass that leaves its region or its buffer.

    Sums keep every carry, so no offset, stride or length can wrap into a legal address.

    Members
    -------
    command : transfer to execute (`Load` or `Store`), with its position `index` in the program
    regions : windows of system memory; read when the command is accepted
    rows : checked rows, in order
    fault : ALIGNMENT, REGION (both with the row's memory address) or BUFFER (with the row's buffer word); no more rows follow

    Timing
    ------
    The first row is offered 3 cycles after the command was accepted, row k + 1 3 cycles after row k was taken; the next command can be
    accepted 1 cycle after the last row was taken.
    """

    def __init__(self, config: HardwareConfig, command: type) -> None:
        self._config, self._low = config, byte_bits(config)
        self._shifts = {buffer: ceil_log2(chunks) for buffer, chunks in buffer_chunks(config).items()}
        super().__init__(
            {
                "command": In(stream.Signature(command_layout(command))),
                "index": In(INDEX_BITS),
                "regions": In(regions_layout(config)),
                "rows": Out(stream.Signature(row_layout(config))),
                "fault": Out(FAULT_LAYOUT),
            }
        )

    def _buffer(self, transfer: data.View[Any]) -> Value:
        return transfer.destination if "destination" in transfer.shape().members else C(Buffer.ACTIVATION, 2)

    def _first_beat(self, word: Value, buffer: Value) -> Value:
        """`word` counted in bus words; bits beyond the largest buffer are lost: `_exceeds_buffer` looks at `word` itself."""
        choice = word << self._shifts[Buffer.ACTIVATION]
        for other in (Buffer.WEIGHT, Buffer.PARAMETER):
            choice = Mux(buffer == other, word << self._shifts[other], choice)
        return choice

    def _exceeds_buffer(self, word: Value, row: data.View[Any], beats: Value) -> Value:
        """Whether `beats` bus words from `word` on leave the buffer. Buffers hold powers of two, so this takes one sum and no comparison."""
        end = row.beat + beats
        exceeds = C(0, 1)
        for buffer, words in buffer_words(self._config).items():
            limit = ceil_log2(words << self._shifts[buffer])
            exceeds |= (row.buffer == buffer) & (word[ceil_log2(words) :].any() | _exceeds_power(end, limit))
        return exceeds

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        held, index, region = Signal.like(self.command.payload), Signal(INDEX_BITS), Signal(region_layout(self._config))
        offset = Signal(33)  # a legal one fits 32 bits, and a stride is added to legal ones only
        word, rows_left, bad_region = Signal(BUFFER_ADDRESS_BITS + 1), Signal(16), Signal()
        end_offset, address = Signal(34), Signal(self._config.address_bits + 1)
        row, transfer = self.rows.payload, self.command.payload
        beats = held.row_bytes[self._low :]  # a row that fits its buffer fits row.beats

        m.d.comb += [row.beats.eq(beats), row.buffer.eq(self._buffer(held)), row.last.eq(rows_left == 1), row.address.eq(address)]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.command.ready.eq(1)
                with m.If(self.command.valid):
                    m.d.sync += [held.eq(transfer), index.eq(self.index), rows_left.eq(transfer.rows)]
                    m.d.sync += [offset.eq(transfer.memory_offset), word.eq(transfer.buffer_address)]
                    m.d.sync += bad_region.eq(transfer.region >= len(Region))
                    with m.Switch(transfer.region):
                        for number in Region:
                            with m.Case(number):
                                m.d.sync += region.eq(self.regions[number])
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += [end_offset.eq(offset + held.row_bytes), address.eq(region.base + offset), row.beat.eq(self._first_beat(word, self._buffer(held)))]
                m.next = "CHECK"
            with m.State("CHECK"):
                misaligned = Cat(region.base[: self._low], offset[: self._low], held.row_bytes[: self._low]).any()
                misaligned |= held.memory_row_stride[: self._low].any() & (held.rows > 1)
                wraps = _exceeds_power(address[self._low :] + beats, self._config.address_bits - self._low)
                outside = bad_region | (end_offset > region.size) | wraps
                m.next = "STOPPED"
                with m.If(self._buffer(held) == len(Buffer)):
                    m.d.comb += report(self.fault, ErrorCode.BUFFER, index, word)
                with m.Elif(misaligned | (held.row_bytes == 0) | (held.rows == 0)):
                    m.d.comb += report(self.fault, ErrorCode.ALIGNMENT, index, address)
                with m.Elif(outside):
                    m.d.comb += report(self.fault, ErrorCode.REGION, index, address)
                with m.Elif(self._exceeds_buffer(word, row, beats)):
                    m.d.comb += report(self.fault, ErrorCode.BUFFER, index, word)
                with m.Else():
                    m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += self.rows.valid.eq(1)
                with m.If(self.rows.ready):
                    m.d.sync += [offset.eq(offset + held.memory_row_stride), word.eq(word + held.buffer_row_stride), rows_left.eq(rows_left - 1)]
                    m.next = "ADD"
                    with m.If(row.last):
                        m.next = "IDLE"
            with m.State("STOPPED"):
                pass
        return m
