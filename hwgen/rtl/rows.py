"""Transfers as checked rows: the part that the load engine and the store engine share."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, Buffer, Region
from hwgen.isa.instructions import Load
from hwgen.isa.registers import ErrorCode
from hwgen.packing import WeightFormat
from hwgen.rtl.axi import LENGTH_BITS, byte_bits
from hwgen.rtl.command import INDEX_BITS, buffer_chunks, buffer_words, command_layout, packed_members
from hwgen.rtl.faults import FAULT_LAYOUT, report
from hwgen.rtl.registers import PLACE_BITS, region_place


def beat_bits(config: HardwareConfig) -> int:
    """Bits of a position in the largest buffer, counted in bus words."""
    chunks, words = buffer_chunks(config), buffer_words(config)
    return max(ceil_log2(words[buffer] * chunks[buffer]) for buffer in words)


def row_layout(config: HardwareConfig, words: int | None = None) -> data.StructLayout:
    """Bus words from byte `address` of memory to the one at `end` (low bits of its address, in bus words), which belong at bus word `beat` of
    `buffer`; `last` row of its command; `format` in hardware with a decoder. A row has at most `words` bus words, without that what the
    largest buffer holds."""
    end_bits = 1 + (beat_bits(config) if words is None else ceil_log2(words))  # so many tell the two addresses' distance
    end_bits = max(end_bits, LENGTH_BITS + 1)
    members = {"address": config.address_bits, "end": end_bits, "beat": beat_bits(config), "buffer": 2, "last": 1}
    return data.StructLayout({**members, **({"format": packed_members(config)["format"]} if config.weight_decoder else {})})


def unpacked(length: Value, kind: Value) -> Value:
    """`length` + 1 bus words of packed weights fill the result + 1 bus words of the buffer."""
    result = length
    for other in WeightFormat:
        if other is not WeightFormat.INT8:
            digits, fraction = other.digits, ceil_log2(other.digits)
            power = 1 << fraction == digits
            result = Mux(kind == other, Cat(C(digits - 1, fraction), length) if power else length * (digits - 1) + length + (digits - 1), result)
    return Value.cast(result)


class RowGenerator(wiring.Component):
    """Turns a transfer command into its rows, and lets no row pass that leaves its region or its buffer.

    Sums keep every carry, so no offset, stride or length can wrap into a legal address.

    Members
    -------
    command : transfer to execute (`Load` or `Store`), with its position `index` in the program
    ask, answer : base or size of a region of system memory (registers.region_place), in the same cycle; the base in the cycle in which a
        command is accepted, the size in the next one, and in that after a row was taken
    rows : checked rows, in order
    fault : ALIGNMENT, REGION (both with the row's memory address), BUFFER or FORMAT (with the row's buffer word); no more rows follow

    Timing
    ------
    The first row is offered 3 cycles after the command was accepted, row k + 1 3 cycles after row k was taken; the next command can be
    accepted 1 cycle after the last row was taken. `fault` rises in the cycle in which the row would have been offered, and stays.
    """

    def __init__(self, config: HardwareConfig, command: type) -> None:
        self._config, self._low = config, byte_bits(config)
        self._packed = config.weight_decoder and command is Load
        self._shifts = {buffer: ceil_log2(chunks) for buffer, chunks in buffer_chunks(config).items()}
        super().__init__(
            {
                "command": In(stream.Signature(command_layout(command, config))),
                "index": In(INDEX_BITS),
                "ask": Out(PLACE_BITS),
                "answer": In(config.address_bits),
                "rows": Out(stream.Signature(row_layout(config))),
                "fault": Out(FAULT_LAYOUT),
            }
        )

    def _buffer(self, transfer: data.View[Any]) -> Value:
        return transfer.destination if "destination" in transfer.shape().members else C(Buffer.ACTIVATION, 2)

    def _is_known(self, buffer: Value) -> Value:
        return buffer != len(Buffer) - 1 if Buffer.TABLE not in self._shifts else C(1, 1)

    def _first_beat(self, word: Value, buffer: Value) -> Value:
        """`word` counted in bus words; bits beyond the largest buffer are lost: `_exceeds_buffer` looks at `word` itself."""
        choice = word << self._shifts[Buffer.ACTIVATION]
        for other, shift in self._shifts.items():
            if other is not Buffer.ACTIVATION:
                choice = Mux(buffer == other, word << shift, choice)
        return choice

    def _exceeds_buffer(self, buffer: Value, word: Value, length: Value, last_beat: Value) -> Value:
        """Whether a row of `length` + 1 bus words from `word` on leaves the buffer. Buffers hold powers of two, so this takes no comparison."""
        exceeds = length[beat_bits(self._config) :].any()
        for number, words in buffer_words(self._config).items():
            limit = ceil_log2(words << self._shifts[number])
            exceeds |= (buffer == number) & (word[ceil_log2(words) :].any() | last_beat[limit:].any())
        return exceeds

    def elaborate(self, platform: Any) -> Module:
        """IDLE takes a command; ADD counts with offsets, CHECK with addresses; both make flags, by which a row is offered or reported."""
        m, low = Module(), self._low
        held, index, base, size = Signal.like(self.command.payload), Signal(INDEX_BITS), Signal(self._config.address_bits), Signal(32)
        offset = Signal(33)  # a legal one fits 32 bits, and a stride is added to legal ones only
        word, failed_word, rows_left = Signal(BUFFER_ADDRESS_BITS + 1), Signal(BUFFER_ADDRESS_BITS + 1), Signal(16)
        length = Signal(33 - low)  # bus words of a row minus 1; below 0 where there are none
        last_offset = Signal(34 - low)  # of the row's last bus word, counted in bus words
        last_beat = Signal(beat_bits(self._config) + (4 if self._packed else 1))  # where rows as long as the largest buffer could end
        misaligned, outside, overrun = Signal(), Signal(), Signal()
        row, transfer, buffer = self.rows.payload, self.command.payload, self._buffer(held)
        first_beat = Value.cast(self._first_beat(word, buffer))[: beat_bits(self._config)]

        m.d.comb += [row.buffer.eq(buffer), self.ask.eq(region_place(held.region, size=1))]
        wrong = self._report(m, self._unknown_format(m, held), misaligned, outside, overrun, index, failed_word)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.command.ready.eq(1), self.ask.eq(region_place(transfer.region, size=0))]
                m.d.sync += [held.eq(transfer), index.eq(self.index), rows_left.eq(transfer.rows), length.eq(transfer.row_bytes[low:] - 1)]
                m.d.sync += [offset.eq(transfer.memory_offset), word.eq(transfer.buffer_address), base.eq(self.answer)]
                with m.If(self.command.valid):
                    m.next = "ADD"
            with m.State("ADD"):
                m.d.sync += size.eq(self.answer)
                m.d.sync += [last_offset.eq(offset[low:] + length[:-1]), row.beat.eq(first_beat)]
                m.d.sync += last_beat.eq(first_beat + self._filled(length[: len(first_beat)], held))
                m.next = "CHECK"
            with m.State("CHECK"):
                last_word = base[low:] + last_offset
                unaligned = Cat(base[:low], offset[:low], held.row_bytes[:low]).any() | (held.memory_row_stride[:low].any() & rows_left[1:].any())
                unknown, wraps = held.region >= len(Region), last_word[self._config.address_bits - low :].any()
                known_buffer = self._is_known(buffer)
                m.d.sync += [
                    misaligned.eq(known_buffer & (unaligned | length[-1] | ~rows_left.any())),
                    outside.eq(known_buffer & (unknown | wraps | (last_offset >= size[low:]))),
                    overrun.eq(~known_buffer | self._exceeds_buffer(buffer, word, length[:-1], last_beat)),
                    Cat(row.address, row.end, row.last).eq(Cat((base + offset)[: len(row.address)], last_word[: len(row.end)], ~rows_left[1:].any())),
                    failed_word.eq(word),
                    *(offset.eq(offset + held.memory_row_stride), word.eq(word + held.buffer_row_stride), rows_left.eq(rows_left - 1)),
                ]
                m.next = "OFFER"
            with m.State("OFFER"):
                m.d.comb += [self.rows.valid.eq(~wrong), self.fault.valid.eq(wrong)]
                with m.If(self.rows.ready & ~wrong):
                    m.next = "ADD"
                    with m.If(row.last):
                        m.next = "IDLE"
        return m

    def _filled(self, length: Value, transfer: data.View[Any]) -> Value:
        """Bus words minus 1 that a row of `length` + 1 takes in the buffer."""
        return unpacked(length, transfer.format) if self._packed else length

    def _unknown_format(self, m: Module, transfer: data.View[Any]) -> Value:
        """Whether weights are packed in no known way, or for a buffer that there is but takes none. Their format goes on with the rows."""
        if not self._packed:
            return C(0, 1)
        other_buffer = (transfer.format != 0) & (transfer.destination != Buffer.WEIGHT)
        unknown = Signal()
        m.d.comb += [
            self.rows.payload.format.eq(transfer.format),
            unknown.eq(self._is_known(transfer.destination) & (other_buffer | (transfer.format >= len(WeightFormat)))),
        ]
        return unknown

    def _report(self, m: Module, unknown_format: Value, misaligned: Value, outside: Value, overrun: Value, index: Value, word: Value) -> Value:
        """Names what is wrong with the row at hand; returns whether anything is."""
        code = Mux(unknown_format, ErrorCode.FORMAT, Mux(misaligned, ErrorCode.ALIGNMENT, Mux(outside, ErrorCode.REGION, ErrorCode.BUFFER)))
        in_memory = ~unknown_format & (misaligned | outside)
        m.d.comb += [*report(self.fault, code, index, Mux(in_memory, self.rows.payload.address, word)), self.fault.valid.eq(0)]
        return unknown_format | misaligned | outside | overrun
