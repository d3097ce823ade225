"""The weight decoder writes every bus word exactly where its row puts it, each part once and nothing else: for any rows in any order."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.utils import ceil_log2
from formal.harness import Harness, offer
from formal.prove import prove, refute

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.latency import decoder_slots
from hwgen.packing import WeightFormat
from hwgen.rtl.command import buffer_chunks
from hwgen.rtl.weight_decoder import WeightDecoder

CONFIG = HardwareConfig(out_lanes=16, in_lanes=8, bus_bits=32, weight_words=64, parameter_words=16, weight_decoder=True)  # 4 slots, 2 groups


def decoder_harness(anywhere: bool = False) -> Harness:
    """`anywhere` plants rows that begin inside a word: formats whose digits divide the slots count on it."""
    h = Harness(WeightDecoder(CONFIG))
    slots, chunks = decoder_slots(CONFIG), buffer_chunks(CONFIG)[Buffer.WEIGHT]
    load = offer(h, h.dut.load, "load", persistent=True)
    word, write = load.payload, h.dut.write
    bits = ceil_log2(chunks * CONFIG.weight_words)
    place = Cat(word.chunk[: ceil_log2(chunks)], word.address[: bits - ceil_log2(chunks)])
    base, written, kind, begun = Signal(bits), Signal(4), Signal(3), Signal()  # of the bus word at hand or to come; format of its row
    digits = Signal(4)
    with h.m.Switch(word.format):
        for known in WeightFormat:
            with h.m.Case(known):
                h.d.comb += digits.eq(known.digits)
    h.assume(~load.valid | ((word.format < len(WeightFormat)) & (word.first | (begun & (word.format == kind)))))
    if not anywhere:
        h.assume(~load.valid | ~word.first | (word.chunk == 0))
    at = Signal(bits)
    h.d.comb += at.eq(Mux(word.first & (written == 0), place, base) + written)
    count = sum((Value.cast(write.mask[s]) for s in range(slots)), Const(0, 1))
    with h.m.If(load.valid):
        h.d.sync += [begun.eq(1), kind.eq(word.format), written.eq(Mux(load.ready, 0, written + count))]
        h.d.sync += base.eq(Mux(load.ready, at + count, (at - written)[:bits]))

    group = Cat(write.group, write.address)
    slot = at[: ceil_log2(slots)]
    contiguous = (write.mask == ((((1 << count) - 1) << slot)[:slots])) & (group == at[ceil_log2(slots) :])
    h.require(h.dut.write_valid == load.valid)
    h.require(~load.valid | ((count != 0) & contiguous))
    h.require(~load.valid | (load.ready == (written + count == digits)))
    h.require(~load.valid | (written + count <= digits))
    # What slots of formats whose digits divide them, or the other way round, count on: each digit has few slots.
    power = word.format != WeightFormat.TERNARY
    step = Mux(digits < slots, digits, slots)
    h.require(~load.valid | ~power | (word.format == WeightFormat.INT8) | (((slot - written) & (step - 1)) == 0))

    h.shadow("written", written)
    h.shadow("next", (base + written)[:bits])
    h.shadow("base", base)
    h.claim("begun", begun)
    aligned = {WeightFormat.INT4: 1, WeightFormat.INT2: 3, WeightFormat.BINARY: 3}
    for known, mask in aligned.items():
        h.claim(f"base_{known.name}", (kind != known) | ((base & mask) == 0))
        h.claim(f"written_{known.name}", (kind != known) | ((written & mask) == 0))
    for known in WeightFormat:
        h.claim(f"inside_{known.name}", (kind != known) | (written < known.digits))
    h.claim("group_end", (written == 0) | (((base + written) & (slots - 1)) == 0))
    h.claim("waits", (written == 0) | (load.valid & (word.format == kind)))
    return h


def test_every_part_of_a_bus_word_is_written_once_at_its_place() -> None:
    prove(decoder_harness())


def test_rows_that_begin_inside_a_word_are_caught() -> None:
    refute(decoder_harness(anywhere=True), cycles=4)
