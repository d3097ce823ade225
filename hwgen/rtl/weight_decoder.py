"""Packed weights -> bytes of the weight buffer, between the load engine and the buffer."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.latency import decoder_slots
from hwgen.packing import WeightFormat, trits
from hwgen.rtl.command import buffer_chunks, load_write_layout, weight_write_layout

_DIGIT_BITS = ceil_log2(max(kind.digits for kind in WeightFormat))


class WeightDecoder(wiring.Component):
    """Writes every bus word as the `digits` ones that it stands for (hwgen.packing), one after the other from its row's first word on.

    Members
    -------
    load : bus words for the weight buffer; where those of a row lie is read off its first one
    write_valid, write : up to `decoder_slots` bus words of one buffer word

    Timing
    ------
    The first of them are written in the cycle in which the bus word is offered. It is taken with the last ones, isa.latency.decode_cycles
    later: cycles end where a group of `decoder_slots` does.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config, self._slots = config, decoder_slots(config)
        super().__init__({"load": In(stream.Signature(load_write_layout(config))), "write_valid": Out(1), "write": Out(weight_write_layout(config))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        load, write, slots = self.load.payload, self.write, self._slots
        slot_bits, chunk_bits = ceil_log2(slots), ceil_log2(buffer_chunks(self._config)[Buffer.WEIGHT])
        kept = Signal(len(write.address) + chunk_bits, reset_less=True)  # where the next bus word goes, counted in bus words
        digit = Signal(_DIGIT_BITS)  # of the bus word at hand, the next to be written
        place, slot, digits, end, last = Signal.like(kept), Signal(slot_bits), Signal(_DIGIT_BITS + 1), Signal(_DIGIT_BITS + 1), Signal()
        first = load.first & (digit == 0)
        m.d.comb += [
            place.eq(Mux(first, Cat(load.chunk[:chunk_bits], load.address[: len(write.address)]), kept)),
            slot.eq(place[:slot_bits]),
            end.eq(digit + slots - slot),
            last.eq(end >= digits),
            self.load.ready.eq(last),
            self.write_valid.eq(self.load.valid),
            Cat(write.group, write.address).eq(place[slot_bits:]),
            *(write.mask[s].eq((slot <= s) & (digit + s - slot < digits)) for s in range(slots)),
        ]
        with m.Switch(load.format):
            for kind in WeightFormat:
                with m.Case(kind):
                    m.d.comb += digits.eq(kind.digits)
        with m.If(self.load.valid):
            m.d.sync += [kept.eq(place + Mux(last, digits - digit, slots - slot)), digit.eq(Mux(last, 0, end))]
        self._unpack(m, (digit - slot)[:_DIGIT_BITS])
        return m

    def _unpack(self, m: Module, before: Value) -> None:
        """Slot s gets digit `before` + s of every byte."""
        load, size = self.load.payload, self._config.bus_bytes
        codes = [load.data[8 * k : 8 * (k + 1)] for k in range(size)]
        ternary = [trits(list(code)) for code in codes]
        for s in range(self._slots):
            for k, code in enumerate(codes):
                weight = self.write.data[8 * (s * size + k) : 8 * (s * size + k + 1)]
                two_bits = Signal(2, name=f"slot{s}_byte{k}")  # of the formats whose weights take two
                four_bits = self._chosen(WeightFormat.INT4, [code[:4], code[4:]], before, s)
                with m.Switch(load.format):
                    with m.Case(WeightFormat.BINARY):
                        m.d.comb += two_bits.eq(Cat(1, self._chosen(WeightFormat.BINARY, list(code), before, s)))
                    with m.Case(WeightFormat.TERNARY):
                        m.d.comb += two_bits.eq(self._chosen(WeightFormat.TERNARY, [Cat(trit.low, trit.sign) for trit in ternary[k]], before, s))
                    with m.Default():
                        m.d.comb += two_bits.eq(self._chosen(WeightFormat.INT2, [code[j : j + 2] for j in range(0, 8, 2)], before, s))
                with m.Switch(load.format):
                    with m.Case(WeightFormat.INT8):
                        m.d.comb += weight.eq(code)
                    with m.Case(WeightFormat.INT4):
                        m.d.comb += weight.eq(Value.cast(four_bits).as_signed())
                    with m.Default():
                        m.d.comb += weight.eq(two_bits.as_signed())

    def _chosen(self, kind: WeightFormat, fields: list[Value], before: Value, slot: int) -> Value:
        """Digit `before` + `slot`. Where the digits of a byte or the slots divide each other, rows begin so that only some can meet the slot."""
        step = min(self._slots, kind.digits) if kind.digits & (kind.digits - 1) == 0 else 1
        number = (before + slot)[:_DIGIT_BITS]
        chosen = fields[slot % step]
        for index in range(slot % step + step, kind.digits, step):
            chosen = Mux(number == index, fields[index], chosen)
        return chosen
