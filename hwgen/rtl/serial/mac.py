"""Four multipliers, their sum, and the accumulator of one output."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Mode
from hwgen.rtl.parameter_set import pick

# How a word that is read becomes operands. valid: it is multiplied, first, last: of its output. inside: not padding. channel: byte of the
# word, lane: byte of the weight word (depthwise). shift: first byte of the stretch (packed).
BEAT_LAYOUT = data.StructLayout({"read": 1, "valid": 1, "first": 1, "inside": 1, "channel": 2, "lane": 2, "shift": 2})


class SerialMac(wiring.Component):
    """Dense: 4 products per word. Depthwise: one, of byte `channel` and weight `lane`. Packed: 4 of the bytes that begin in the word before.

    Members
    -------
    beat : what was read in the cycle before, whose word and weights are there now
    mode, maximum, pad : of the command
    start : what the sum begins at; read with the first beat's products, one cycle after the beat
    acc : the sum, 2 cycles after its last beat
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        bits = config.accumulator_bits
        super().__init__(
            {
                "beat": In(BEAT_LAYOUT),
                "word": In(32),
                "weights": In(32),
                "mode": In(2),
                "maximum": In(1),
                "pad": In(8),
                "start": In(signed(bits)),
                "acc": Out(signed(bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m, beat = Module(), self.beat
        depthwise, packed = self.mode == Mode.DEPTHWISE, self.mode == Mode.PACKED
        lanes = self._config.in_lanes
        word, before = Signal(32), Signal(32)
        m.d.comb += word.eq(Mux(beat.inside, self.word, self.pad.replicate(lanes)))
        with m.If(beat.read):
            m.d.sync += before.eq(word)
        found = [before.word_select(k, 8) for k in range(lanes)] + [word.word_select(k, 8) for k in range(lanes)]
        weights = [self.weights.word_select(k, 8) for k in range(lanes)]
        own = Mux(self.maximum, Const(0xFF, 8), Mux(depthwise, pick(weights, beat.lane), weights[0]))
        first = Mux(packed, pick(found[:lanes], beat.shift), pick(found[lanes:], Mux(depthwise, beat.channel, 0)))
        operands = [first] + [Mux(packed, pick(found[k : k + lanes], beat.shift), found[lanes + k]) for k in range(1, lanes)]
        factors = [own] + [Mux(depthwise, 0, weight) for weight in weights[1:]]
        # Pairs are added before the register: yosys lays both product registers into one block otherwise, and loses a product.
        pairs = [Signal(signed(17), name=f"pair_{k}", reset_less=True) for k in range(lanes // 2)]
        products = [a.as_signed() * b.as_signed() for a, b in zip(operands, factors, strict=True)]
        x, valid, begins = Signal(signed(8), reset_less=True), Signal(), Signal()
        m.d.sync += [pair.eq(products[2 * k] + products[2 * k + 1]) for k, pair in enumerate(pairs)]
        m.d.sync += [x.eq(first), valid.eq(beat.valid), begins.eq(beat.first)]
        following = Signal(signed(self._config.accumulator_bits + 1))
        m.d.comb += following.eq(Mux(begins, self.start, self.acc) + (pairs[0] + pairs[1]))
        with m.If(valid):
            m.d.sync += self.acc.eq(following)
            with m.If(self.maximum):  # the weight is -1: the sum's sign says which is larger
                m.d.sync += self.acc.eq(Mux(following[-1], x, Mux(begins, self.start, self.acc)))
        return m
