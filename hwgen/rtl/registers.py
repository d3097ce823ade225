"""The register file behind the AXI4-Lite slave, read off the one register table."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.registers import IDENTITY, REGISTER_SPACE_BYTES, REGISTERS, VERSION, Access, Register
from hwgen.rtl.axi import axi_lite_signature
from hwgen.rtl.control import state_layout
from hwgen.rtl.parameter_set import pick


def _stored_bits(register: Register, config: HardwareConfig) -> int:
    """Bits of a read-write register that exist; the others read 0."""
    if register.name.endswith("_base_high"):
        return config.address_bits - 32
    if register.name == "watchdog":
        return config.watchdog_bits
    return sum(field.width for field in register.fields) or 32


def settings_layout(config: HardwareConfig) -> data.StructLayout:
    """The read-write registers."""
    return data.StructLayout({r.name: _stored_bits(r, config) for r in REGISTERS if r.access is Access.READ_WRITE})


class RegisterFile(wiring.Component):
    """Registers of isa.registers. Every access is answered with OKAY; unknown offsets and missing bits read 0, writes to them do nothing.

    Members
    -------
    axil : AXI4-Lite slave; address bits 1..0 do not matter, byte strobes count
    settings : the read-write registers
    state : the read-only registers
    start, abort : strobes of register `control`, in the cycle after the write
    ended : strobes that set the bits of `interrupt_status`, stronger than a write that clears them
    irq : an enabled interrupt is pending

    Timing
    ------
    All outputs but irq are registers. A write takes effect in the cycle after both its address and its data were taken, and is answered
    then; one write per 3 cycles. A read is answered 3 cycles after its address was taken; one read per 4 cycles.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "axil": In(axi_lite_signature()),
                "settings": Out(settings_layout(config)),
                "state": In(state_layout(config)),
                "start": Out(1),
                "abort": Out(1),
                "ended": In(2),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pending, clear = Signal(len(self.ended)), Signal(len(self.ended))
        self._write(m, clear)
        self._read(m, pending)
        m.d.sync += pending.eq((pending & ~clear) | self.ended)
        m.d.comb += self.irq.eq((pending & self.settings.interrupt_enable).any())
        return m

    def _write(self, m: Module, clear: Signal) -> None:
        """Address and data are taken independently, each into a register, and executed together."""
        axil = self.axil
        address, word, strobes = Signal.like(axil.awaddr), Signal(32), Signal(4)
        has_address, has_word, execute = Signal(), Signal(), Signal()
        m.d.comb += [axil.awready.eq(~has_address), axil.wready.eq(~has_word & ~axil.bvalid), execute.eq(has_address & has_word)]
        with m.If(axil.awready):
            m.d.sync += [has_address.eq(axil.awvalid), address.eq(axil.awaddr)]
        with m.If(axil.wready):
            m.d.sync += [has_word.eq(axil.wvalid), word.eq(axil.wdata), strobes.eq(axil.wstrb)]
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_word.eq(0), axil.bvalid.eq(1)]
        with m.Elif(axil.bready):
            m.d.sync += axil.bvalid.eq(0)

        mask = Signal(32)
        m.d.comb += mask.eq(Cat(bit.replicate(8) for bit in strobes))
        m.d.sync += [self.start.eq(0), self.abort.eq(0)]
        with m.If(execute), m.Switch(address[2:]):
            for register in REGISTERS:
                with m.Case(register.offset // 4):
                    self._write_one(m, register, word & mask, clear)
        for register in REGISTERS:
            if register.access is Access.READ_WRITE:
                self._store(m, self.settings[register.name], word, Mux(execute & (address[2:] == register.offset // 4), strobes, 0))

    def _write_one(self, m: Module, register: Register, word: Value, clear: Signal) -> None:
        match register.access:
            case Access.WRITE_ONE_TO_CLEAR:
                m.d.comb += clear.eq(word)
            case Access.SELF_CLEARING:
                m.d.sync += [getattr(self, field.name).eq(word[field.lsb]) for field in register.fields]
            case Access.READ_WRITE | Access.READ_ONLY:
                pass

    def _store(self, m: Module, stored: Value, word: Signal, strobes: Value) -> None:
        """Bytes by enables: masks would take a LUT per bit."""
        for number in range(-(-len(stored) // 8)):
            part = stored[8 * number : 8 * (number + 1)]
            with m.If(strobes[number]):
                m.d.sync += part.eq(word.word_select(number, 8))

    def _read(self, m: Module, pending: Signal) -> None:
        """The address, one word of each row of eight, the word of the row: each into registers."""
        axil, row = self.axil, 8
        address, asked, looked = Signal.like(axil.araddr), Signal(), Signal()
        values = {register.offset // 4: Value.cast(self._value(register, pending)) for register in REGISTERS}
        words = [values.get(number, Const(0, 32)) for number in range(REGISTER_SPACE_BYTES // 4)]
        columns = [Signal(32, name=f"column_{first}", reset_less=True) for first in range(0, len(words), row)]
        column, rest = address[2 : 2 + ceil_log2(row)], address[2 + ceil_log2(row) :]
        m.d.comb += axil.arready.eq(~(asked | looked | axil.rvalid))
        m.d.sync += [asked.eq(axil.arready & axil.arvalid), looked.eq(asked)]
        m.d.sync += [chosen.eq(pick(words[row * k : row * (k + 1)], column)) for k, chosen in enumerate(columns)]
        with m.If(axil.arready):
            m.d.sync += address.eq(axil.araddr)
        with m.If(looked):
            m.d.sync += [axil.rvalid.eq(1), axil.rdata.eq(pick(columns, rest))]
        with m.Elif(axil.rready):
            m.d.sync += axil.rvalid.eq(0)

    def _value(self, register: Register, pending: Signal) -> ValueLike:
        constants = {"identity": IDENTITY, "version": VERSION, "config_hash": self._config.short_hash}
        match register.access:
            case Access.READ_WRITE:
                return Value.cast(self.settings[register.name])
            case Access.WRITE_ONE_TO_CLEAR:
                return pending
            case Access.SELF_CLEARING:
                return 0
            case Access.READ_ONLY:
                if register.name in constants:
                    return Const(constants[register.name], 32)
                return Value.cast(self.state[register.name]) if register.name in self.state.shape().members else 0
