"""Transfers stay inside their region and their buffer, and are exactly the words that the command names: for any command, any region."""

from __future__ import annotations

import os
from typing import Any

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.utils import ceil_log2
from formal.harness import Harness, accept, offer, requires_persistence
from formal.prove import prove, refute

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer, Region
from hwgen.isa.instructions import Load, Store
from hwgen.isa.latency import BURST_BEATS
from hwgen.isa.registers import ErrorCode
from hwgen.packing import WeightFormat
from hwgen.rtl.axi import byte_bits, region_layout
from hwgen.rtl.bursts import BurstSplitter
from hwgen.rtl.command import buffer_chunks, buffer_words
from hwgen.rtl.registers import region_place
from hwgen.rtl.rows import RowGenerator, beat_bits, row_layout, unpacked

CONFIGS = {
    "32-bit bus": HardwareConfig(out_lanes=4, in_lanes=4, activation_words=256, weight_words=64, parameter_words=16),
    "128-bit bus, 40-bit addresses, decoder": HardwareConfig(out_lanes=16, in_lanes=16, address_bits=40, weight_decoder=True),
}
OFFSET_BITS, WORD_BITS = 40, 32  # sums that never wrap: proven below


def by_buffer(buffer: Value, values: dict[Buffer, Any]) -> Value:
    """The value of the buffer that `buffer` names; the activation buffer's for a number that names none."""
    choice = values[Buffer.ACTIVATION]
    for other, value in values.items():
        choice = Mux(buffer == other, value, choice)
    return choice


def row_harness(config: HardwareConfig, command: type, grow_region: int = 0, shift_base: int = 0) -> Harness:
    """A second definition of a transfer's rows beside the RowGenerator. `grow_region` and `shift_base` plant faults: the block believes in
    a region that is larger, or elsewhere, by that many bytes."""
    h = Harness(RowGenerator(config, command))
    dut, low = h.dut, byte_bits(config)
    source, rows = offer(h, dut.command, "command"), accept(h, dut.rows, "rows")
    answer, index = h.free(len(dut.answer), "answer"), h.free(len(dut.index), "index")
    asks_size = dut.ask[-1]
    h.d.comb += [dut.index.eq(index), dut.answer.eq(answer + Mux(asks_size, grow_region, shift_base))]
    if grow_region:
        h.assume(answer[:32] < (1 << 32) - grow_region)

    held, region = Signal.like(source.payload), Signal(region_layout(config))
    active, stopped, begins, known = Signal(), Signal(), Signal(), held.region < len(Region)
    offset, word, left = Signal(OFFSET_BITS), Signal(WORD_BITS), Signal(16)
    buffer = held.destination if command is Load else Value.cast(int(Buffer.ACTIVATION))
    with h.m.If(source.taken):
        h.d.sync += [held.eq(source.payload), offset.eq(source.payload.memory_offset), word.eq(source.payload.buffer_address)]
        h.d.sync += [left.eq(source.payload.rows), active.eq(1)]
    with h.m.Elif(rows.taken):
        h.d.sync += [offset.eq(offset + held.memory_row_stride), word.eq(word + held.buffer_row_stride), left.eq(left - 1), active.eq(left != 1)]
    with h.m.If(dut.fault.valid):
        h.d.sync += stopped.eq(1)
    h.d.sync += begins.eq(source.taken | (rows.taken & (left != 1)))
    with h.m.If(source.taken):  # in the cycles in which the block asks, for address and check alike
        h.d.sync += region.base.eq(answer)
    with h.m.If(begins):
        h.d.sync += region.size.eq(answer)
    h.require(~source.taken | (dut.ask == region_place(source.payload.region, 0)))
    h.require(~begins | (dut.ask == region_place(held.region, 1)))

    chunks, words = buffer_chunks(config), buffer_words(config)
    end, address = offset + held.row_bytes, Value.cast(region.base) + offset
    packed = config.weight_decoder and command is Load
    kind = held.format if packed else Const(0, 3)
    digits = Signal(4, init=1)  # of a format that there is not as well
    with h.m.Switch(kind):
        for known_kind in WeightFormat:
            with h.m.Case(known_kind):
                h.d.comb += digits.eq(known_kind.digits)
    unknown_format = (buffer < len(buffer_words(config))) & ((kind >= len(WeightFormat)) | ((kind != 0) & (buffer != Buffer.WEIGHT)))
    beats, beat = held.row_bytes >> low, by_buffer(buffer, {b: word << ceil_log2(chunks[b]) for b in words})
    aligned = ~Cat(region.base[:low], offset[:low], held.row_bytes[:low], Mux(held.rows > 1, held.memory_row_stride[:low], 0)).any()
    in_region = known & (end <= region.size) & (region.base + end <= 1 << config.address_bits)
    in_buffer = (
        (buffer < len(words)) & (beat + beats * digits <= by_buffer(buffer, {b: words[b] * chunks[b] for b in words})) & (word < by_buffer(buffer, words))
    )
    legal = Signal()
    h.d.comb += legal.eq(aligned & in_region & in_buffer & ~unknown_format & (held.row_bytes != 0) & (held.rows != 0))

    h.require((offset < 1 << 34) & (word < 1 << 26))  # nothing wraps here
    h.require(~rows.valid | (active & legal & ~stopped))
    row = rows.payload
    last_word = (address >> low) + beats - 1
    exact = (row.address == address) & (row.end == last_word[: len(row.end)]) & (row.beat == beat) & (row.buffer == buffer) & (row.last == (left == 1))
    if packed:
        exact &= row.format == kind
        h.require(~dut.fault.valid | ((dut.fault.code == ErrorCode.FORMAT) == unknown_format))
    h.require(~rows.valid | exact)
    h.require(~dut.fault.valid | (active & ~legal))  # nothing legal is refused
    h.require(~dut.command.ready | (~active & ~stopped))  # every row of a command leaves before the next command is taken
    requires_persistence(h, rows, "rows")

    shadows = {"held": held, "base": region.base, "size": region.size, "offset": offset, "word": word, "left": left, "address": address[: config.address_bits]}
    for name, value in {**shadows, "end": last_word[: len(row.end)], "beat": beat[: beat_bits(config)]}.items():
        h.shadow(name, value)
    length = (beats - 1)[: 33 - low]
    last_beat = beat[: beat_bits(config)] + (Value.cast(unpacked(length[: beat_bits(config)], kind)) if packed else length[: beat_bits(config)])
    next_row = {"next_offset": offset + held.memory_row_stride, "next_word": word + held.buffer_row_stride, "next_left": left - 1}
    for name, value in {"length": length, "last_offset": ((offset >> low) + length[:-1])[: 34 - low], "last_beat": last_beat, **next_row}.items():
        h.shadow(name, value)
    # Stride and number of rows are looked at with the first row.
    stride_aligned = ~held.memory_row_stride[:low].any()
    misaligned = Cat(region.base[:low], offset[:low], held.row_bytes[:low]).any() | (~stride_aligned & (left > 1)) | (held.row_bytes == 0) | (left == 0)
    flags = {"misaligned": (buffer < len(words)) & misaligned, "outside": (buffer < len(words)) & ~in_region, "overrun": ~in_buffer}
    for name, value in {**flags, "last": left <= 1}.items():
        h.shadow(name, value)
    h.claim("first_or_aligned", (left == held.rows) | stride_aligned)
    h.claim("rows_left", (left <= held.rows) & ((left != 0) | (held.rows == 0)))
    for name, value in {"active": active, "stopped": stopped, "begins": begins, "offset": offset < 1 << 33, "word": word < 1 << 25}.items():
        h.claim(name, value)
    h.claim("legal", legal)
    h.claim("small_offset", offset < 1 << 32)
    return h


def splitter_harness(config: HardwareConfig, unaligned: bool = False) -> Harness:
    """Bursts against the row that they come from. Rows as the RowGenerator is proven to make them; `unaligned` breaks that contract: a
    planted fault."""
    h = Harness(BurstSplitter(config))
    low, size = byte_bits(config), config.bus_bytes
    rows, bursts = offer(h, h.dut.rows, "rows", persistent=True), accept(h, h.dut.bursts, "bursts")
    new, burst = rows.payload, bursts.payload
    space, capacity = 1 << (config.address_bits - low), 1 << beat_bits(config)
    new_beats = (new.end - new.address[low:])[: len(new.end)] + 1
    h.assume(((new.address >> low) + new_beats <= space) & (new.beat + new_beats <= capacity))
    if not unaligned:
        h.assume(new.address[:low] == 0)

    row, beats, active, waiting = Signal(row_layout(config)), Signal(len(new.end)), Signal(), Signal(4)
    count, room = burst.length + 1, BURST_BEATS  # bus words
    with h.m.If(rows.taken):
        h.d.sync += [row.eq(new), beats.eq(new_beats), active.eq(1)]
    with h.m.Elif(bursts.taken):
        h.d.sync += [row.address.eq(row.address + size * count), row.beat.eq(row.beat + count), beats.eq(beats - count), active.eq(count != beats)]
    first = Signal()
    with h.m.If(rows.taken | bursts.taken):
        h.d.sync += first.eq(rows.taken)
    h.d.sync += waiting.eq(Mux(active & ~bursts.valid & ~waiting.all(), waiting + 1, 0))

    h.require(~bursts.valid | active)
    exact = (burst.address == row.address) & (burst.beat == row.beat) & (burst.buffer == row.buffer) & (burst.last == (row.last & (count == beats)))
    if config.weight_decoder:
        exact &= (burst.format == row.format) & (burst.first == first)
        h.shadow("format", row.format)
        h.shadow("first", first)
    h.require(~bursts.valid | exact)
    h.require(~bursts.valid | ((count <= beats) & (count <= room)))
    h.require(~bursts.valid | (burst.address[:12] + size * count <= 4096))
    h.require(~rows.taken | ~active | (bursts.taken & (count == beats)))  # the row before has left
    h.require(waiting < 8)  # and leaves: no word is forgotten
    requires_persistence(h, bursts, "bursts")

    h.shadow("row", row)
    h.shadow("active", active)
    h.guard("has_row", active)
    position, page = row.address[low : low + 4], row.address[low + 4 :]
    end_page = row.end[4:]
    for name, value in {"address": row.address, "end": row.end, "beat": row.beat, "row_last": row.last}.items():
        h.shadow(name, value)
    for name, value in {"position": position, "page": page, "tail": row.end[:4], "before_end": (end_page - 1)[: len(end_page)]}.items():
        h.shadow(name, value)
    h.shadow("tail_length", (row.end[:4] - position)[:4])
    h.shadow("final", ~active | (page[: len(end_page)] == end_page))
    h.claim("left", beats != 0)
    h.claim("in_buffer", row.beat + beats <= capacity)
    h.claim("ends", (row.end - row.address[low:])[: len(row.end)] == beats - 1)
    h.claim("aligned", row.address[:low] == 0)
    h.claim("in_space", (row.address >> low) + beats <= space)
    h.claim("prompt", waiting == 0)
    return h


CASES = [(config, command) for config in CONFIGS for command in (Load, Store)]


@pytest.mark.parametrize("config, command", CASES if os.environ.get("HWGEN_REGRESS") else CASES[3:])
def test_rows_are_those_of_the_command_and_inside_region_and_buffer(config: str, command: type) -> None:
    """16 s each on one core."""
    prove(row_harness(CONFIGS[config], command))


def test_planted_region_limit_is_caught() -> None:
    """A limit that is one bus word too generous, and a window that begins one bus word early."""
    config = CONFIGS["32-bit bus"]
    refute(row_harness(config, Load, grow_region=config.bus_bytes), cycles=5)
    refute(row_harness(config, Load, shift_base=-config.bus_bytes), cycles=5)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_bursts_are_the_words_of_the_row_and_cross_no_4_kib_boundary(config: HardwareConfig) -> None:
    prove(splitter_harness(config))


def test_planted_burst_faults_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    config = CONFIGS["32-bit bus"]
    refute(splitter_harness(config, unaligned=True), cycles=20)
    monkeypatch.setattr("hwgen.rtl.bursts.BURST_BEATS", BURST_BEATS + 1)
    refute(splitter_harness(config), cycles=6)
