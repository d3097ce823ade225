"""Requantization and residual addition, one after the other, on one multiplier of 16 x 16 bits."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.arith import SHIFT, AddRequantize, IntType, shift_round_clamp
from hwgen.config import PARAMETER_OFFSETS, HardwareConfig
from hwgen.isa.fields import fields_of
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import SERIAL_ADD_CYCLES, SERIAL_REQUANTIZE_CYCLES
from hwgen.rtl.requantizer import shape_of
from hwgen.rtl.serial.memory import Table

_HALF = 16
_TOTAL = IntType(AddRequantize.OFFSET.bits + 1)
_WORD = {field.name: field.word for field in fields_of(Conv)}
_LSB = {field.name: field.lsb for field in fields_of(Conv)}


class SerialRequantizer(wiring.Component):
    """One result: `acc` -> `y`, by the stages of `arith.Requantize` and, with `residual`, of `arith.AddRequantize`.

    Members
    -------
    start : takes `acc`, `residual` and the byte `b`
    parameter : the channel's record in the table
    read, address : of the table, `data` follows by one cycle
    busy : from the cycle after `start` on; `y` holds from its end to the cycle after the next start

    Timing
    ------
    `busy` for SERIAL_REQUANTIZE_CYCLES, with a residual SERIAL_ADD_CYCLES more. One product takes three cycles: both halves of the 32-bit
    operand times the multiplier, each added to the sum a cycle later. The table is read in the first two cycles and by the residual.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config, self._table = config, Table(config)
        super().__init__(
            {
                "start": In(1),
                "acc": In(signed(config.accumulator_bits)),
                "residual": In(1),
                "b": In(8),
                "parameter": In(self._table.bits),
                "address": Out(self._table.bits),
                "data": In(32),
                "busy": Out(1),
                "y": Out(8),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        step, adding = Signal(5), Signal()
        x, b, multiplier, product, total = Signal(signed(32)), Signal(signed(8)), Signal(_HALF), Signal(32), Signal(shape_of(_TOTAL))
        tail = Signal(30)  # shift, low, high, zero point
        last = SERIAL_REQUANTIZE_CYCLES
        m.d.comb += self.busy.eq(step != 0)
        with m.If(self.start):
            m.d.sync += [step.eq(1), adding.eq(self.residual), x.eq(self.acc), b.eq(self.b)]
        with m.Elif(self.busy):
            m.d.sync += step.eq(step + 1)
            with m.If((step == last) & ~adding | (step == last + SERIAL_ADD_CYCLES)):
                m.d.sync += step.eq(0)
        self._addresses(m, step)
        self._operands(m, step, x, b, multiplier, tail)
        self._sum(m, step, x, multiplier, product, total)
        low, high, zero = (tail[k : k + 8].as_signed() for k in (6, 14, 22))
        values: dict[str, Any] = {"total": total, "shift": tail[: SHIFT.bits], "low": low, "high": high, "zero_point": zero}
        for number, stage in enumerate(shift_round_clamp("total", SHIFT, self._config.rounding, zero_point=True)):
            results = stage.function(**values)
            values = {}
            for key, kind in stage.outputs.items():
                values[key] = Signal(shape_of(kind), name=f"stage_{number}_{key}", reset_less=True)
                m.d.sync += values[key].eq(results[key])
        m.d.comb += self.y.eq(values["y"])
        return m

    def _addresses(self, m: Module, step: Signal) -> None:
        """Of the table; a word that is used later than in the next cycle is asked for until then."""
        record = self._table.record
        m.d.comb += self.address.eq(self.parameter + PARAMETER_OFFSETS["shift"] // 4)
        with m.Switch(step):
            with m.Case(0):
                m.d.comb += self.address.eq(self.parameter + PARAMETER_OFFSETS["multiplier"] // 4)
            with m.Case(9):
                m.d.comb += self.address.eq(record + _WORD["residual_multiplier_a"])
            with m.Case(10):
                m.d.comb += self.address.eq(record + _WORD["residual_offset"])
            with m.Case(11, 12, 13):
                m.d.comb += self.address.eq(record + _WORD["residual_offset"] + 1)
            with m.Case(14):
                m.d.comb += self.address.eq(record + _WORD["residual_multiplier_b"])
            with m.Case(15):
                m.d.comb += self.address.eq(record + _WORD["residual_low"])

    def _operands(self, m: Module, step: Signal, x: Signal, b: Signal, multiplier: Signal, tail: Signal) -> None:
        data, bits = self.data, self._config.multiplier_bits
        with m.Switch(step):
            with m.Case(1, 10, 15):
                m.d.sync += multiplier.eq(data[:bits])
            with m.Case(2):
                m.d.sync += tail.eq(Cat(*(data[k : k + width] for k, width in ((0, SHIFT.bits), (8, 8), (16, 8), (24, 8)))))
            with m.Case(16):
                fields = (("residual_shift", SHIFT.bits), ("residual_low", 8), ("residual_high", 8))
                m.d.sync += tail.eq(Cat(*(data[_LSB[name] : _LSB[name] + width] for name, width in fields), Const(0, 8)))
            with m.Case(9):
                m.d.sync += x.eq(self.y.as_signed())
            with m.Case(14):
                m.d.sync += x.eq(b)

    def _sum(self, m: Module, step: Signal, x: Signal, multiplier: Signal, product: Signal, total: Signal) -> None:
        """total = x_low * multiplier + (x_high * multiplier << 16); the multiplier block knows no sign, so that of x is corrected."""
        upper, term, keep = Signal(), Signal(shape_of(_TOTAL)), Signal()
        half = Value.cast(x).word_select(upper, _HALF)
        corrected = Cat(product, Const(0, 1)).as_signed() - Mux(x[-1], multiplier << _HALF, 0)
        m.d.sync += product.eq(half * multiplier)
        m.d.comb += keep.eq(1)
        with m.Switch(step):
            with m.Case(3, 12, 17):
                m.d.comb += [upper.eq(1), term.eq(product)]
            with m.Case(4, 13, 18):
                m.d.comb += term.eq(Cat(Const(0, _HALF), corrected[:33]).as_signed())
            with m.Case(11):
                m.d.comb += term.eq(self.data)
            with m.Case(14):
                m.d.comb += term.eq(Cat(Const(0, 32), self.data[:_HALF]).as_signed())
        with m.If((step == 3) | (step == 11)):
            m.d.comb += keep.eq(0)
        m.d.sync += total.eq(Mux(keep, total, 0) + term)
