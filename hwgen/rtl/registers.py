"""The register file behind the AXI4-Lite slave, read off the one register table."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, ValueLike
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.registers import COUNTERS, IDENTITY, REGISTER_SPACE_BYTES, REGISTERS, VERSION, Access, Register, offset_of
from hwgen.rtl.axi import axi_lite_signature
from hwgen.rtl.control import STATE_LAYOUT
from hwgen.rtl.counters import TURN_LAYOUT

PLACE_BITS = 4  # of the memory behind the read-write registers
_WATCHED = ("interrupt_enable", "watchdog", "program_entry", "program_base", "program_base_high", "program_size")


def _stored_bits(register: Register, config: HardwareConfig) -> int:
    """Bits of a read-write register that exist; the others read 0."""
    if register.name.endswith("_base_high"):
        return config.address_bits - 32
    if register.name == "watchdog":
        return config.watchdog_bits
    return sum(field.width for field in register.fields) or 32


def settings_layout(config: HardwareConfig) -> data.StructLayout:
    """The read-write registers that the machine looks at in every cycle."""
    return data.StructLayout({r.name: _stored_bits(r, config) for r in REGISTERS if r.name in _WATCHED})


def region_place(region: Value, size: ValueLike) -> Value:
    """Where base or size of a region lies in the memory. That of no region may be anything."""
    return Cat(region[: PLACE_BITS - 1], size)


def _place(number: Value) -> Value:
    """Where read-write register `number` (offset / 4) lies: region_place, where there is one; both parts of a wide base share a word."""
    return Cat(number[2] | (number[0] & number[1]), number[3], ~number[4], number[1])


def _is_one_of(number: Value, names: Iterable[str]) -> Value:
    """Whether `number` (offset / 4) is that of one of these registers."""
    return Cat(number == offset_of(name) // 4 for name in names).any()


class RegisterFile(wiring.Component):
    """Registers of isa.registers. Every access is answered with OKAY; unknown offsets and missing bits read 0, writes to them do nothing.

    What the host writes goes to a memory with three outputs: one for the host, one for each engine that looks up regions. The little that
    others need all the time is in registers too.

    Members
    -------
    axil : AXI4-Lite slave; address bits 1..0 do not matter, byte strobes count
    settings : see settings_layout
    asks, answers : word of the memory (region_place), in the same cycle
    state, turn : the read-only registers, see Control
    start, abort : strobes of register `control`, in the cycle after the write
    ended : strobes that set the bits of `interrupt_status`, stronger than a write that clears them
    irq : an enabled interrupt is pending

    Timing
    ------
    All outputs but irq and answers are registers. A write takes effect in the cycle after both its address and its data were taken, and is
    answered then; one write per 3 cycles. A read is answered 3 cycles after its address was taken, that of a counter when its turn has come,
    up to 16 cycles later; one read per 4 cycles. The first 16 cycles after a reset clear the memory, accesses wait.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "axil": In(axi_lite_signature()),
                "settings": Out(settings_layout(config)),
                "asks": In(data.ArrayLayout(PLACE_BITS, 2)),
                "answers": Out(data.ArrayLayout(config.address_bits, 2)),
                "state": In(STATE_LAYOUT),
                "turn": In(TURN_LAYOUT),
                "start": Out(1),
                "abort": Out(1),
                "ended": In(2),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        pending, clear = Signal(len(self.ended)), Signal(len(self.ended))
        bytes_kept = -(-self._config.address_bits // 8)
        m.submodules.memory = memory = Memory(shape=8 * bytes_kept, depth=1 << PLACE_BITS, init=[])
        clearing = self._write(m, memory, clear)
        self._read(m, memory, pending, clearing)
        for ask, answer in zip(self.asks, self.answers, strict=True):
            port = memory.read_port(domain="comb")
            m.d.comb += [port.addr.eq(ask), answer.eq(port.data)]
        m.d.sync += pending.eq((pending & ~clear) | self.ended)
        m.d.comb += self.irq.eq((pending & self.settings.interrupt_enable).any())
        return m

    def _write(self, m: Module, memory: Memory, clear: Signal) -> Signal:
        """Address and data are taken independently, each into a register, and executed together. Returns whether the memory is being
        cleared, with the word 0 that nothing was written to yet."""
        axil = self.axil
        address, word, strobes = Signal.like(axil.awaddr), Signal(32), Signal(4)
        has_address, has_word, execute = Signal(), Signal(), Signal()
        clearing, position, number = Signal(init=1), Signal(PLACE_BITS), address[2:]
        m.d.sync += [position.eq(position + 1), clearing.eq(clearing & ~position.all())]
        m.d.comb += [axil.awready.eq(~has_address), axil.wready.eq(~(has_word | axil.bvalid | clearing)), execute.eq(has_address & has_word)]
        with m.If(axil.awready):
            m.d.sync += [has_address.eq(axil.awvalid), address.eq(axil.awaddr)]
        with m.If(axil.wready):
            m.d.sync += [has_word.eq(axil.wvalid), word.eq(axil.wdata), strobes.eq(axil.wstrb)]
        with m.If(execute):
            m.d.sync += [has_address.eq(0), has_word.eq(0), axil.bvalid.eq(1)]
        with m.Elif(axil.bready):
            m.d.sync += axil.bvalid.eq(0)

        m.d.sync += [self.start.eq(0), self.abort.eq(0)]
        written = Mux(execute, strobes, 0)
        for register in REGISTERS:
            with m.If(execute & (number == register.offset // 4)):
                self._write_one(m, register, word & Cat(bit.replicate(8) for bit in strobes), clear)
            if register.name in _WATCHED:
                self._store(m, self.settings[register.name], word, Mux(number == register.offset // 4, written, 0))

        port = memory.write_port(granularity=8)
        low, high = (Mux(_is_one_of(number, self._stored(part)), written, 0) for part in ("low", "high"))
        m.d.comb += [
            port.addr.eq(Mux(clearing, position, _place(number))),
            port.data.eq(Cat(word, word[: self._config.address_bits - 32])),
            port.en.eq(Cat(low, high) | clearing.replicate(len(port.en))),
        ]
        return clearing

    def _stored(self, part: str) -> tuple[str, ...]:
        """The registers that are the low or the high part of a word of the memory."""
        kept = (r for r in REGISTERS if r.access is Access.READ_WRITE and r.name != "interrupt_enable" and _stored_bits(r, self._config))
        return tuple(r.name for r in kept if r.name.endswith("_base_high") == (part == "high"))

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

    def _read(self, m: Module, memory: Memory, pending: Signal, clearing: Signal) -> None:
        """The number; what each source has there, 0 where it has nothing, in a register of its own; all of these together."""
        axil, number, port = self.axil, Signal(ceil_log2(REGISTER_SPACE_BYTES // 4)), memory.read_port(domain="comb")
        asked, looked, found, is_counter = Signal(), Signal(), Signal(), _is_one_of(number, COUNTERS)
        m.d.comb += [
            axil.arready.eq(~(asked | looked | axil.rvalid | clearing)),
            found.eq(~is_counter | (self.turn.place == number[: len(self.turn.place)])),
            port.addr.eq(_place(number)),
        ]
        m.d.sync += [asked.eq((axil.arready & axil.arvalid) | (asked & ~found)), looked.eq(asked & found)]
        low, high = _is_one_of(number, self._stored("low")), _is_one_of(number, self._stored("high"))
        bits = Mux(number == offset_of("watchdog") // 4, (1 << self._config.watchdog_bits) - 1, 0xFFFFFFFF)
        values = (
            (self.turn.value, is_counter),
            (Mux(high, port.data[32:], port.data[:32] & bits), low | high),
            (self.state.error_address, _is_one_of(number, ("error_address",)) & self.state.status.failed),
            (self._small(m, number, pending), ~(low | high | is_counter)),
        )
        words = [Signal(32, name=f"word_{k}", reset_less=True) for k in range(len(values))]
        for word, (value, here) in zip(words, values, strict=True):
            m.d.sync += word.eq(value)
            with m.If(~here):  # so that flip-flops reset by it rather than by a LUT each
                m.d.sync += word.eq(0)
        with m.If(axil.arready):
            m.d.sync += number.eq(axil.araddr[2:])
        with m.If(looked):
            m.d.sync += [axil.rvalid.eq(1), axil.rdata.eq(functools.reduce(operator.or_, words))]
        with m.Elif(axil.rready):
            m.d.sync += axil.rvalid.eq(0)

    def _small(self, m: Module, number: Value, pending: Signal) -> Signal:
        """The constant registers, and those of few bits."""
        value, state = Signal(32), self.state
        shown: dict[str, ValueLike] = {"identity": IDENTITY, "version": VERSION, "config_hash": self._config.short_hash, "interrupt_status": pending}
        failed = state.status.failed
        shown |= {"status": state.status, "error": Mux(failed, state.error, 0), "error_command": Mux(failed, state.error_command, 0)}
        shown["interrupt_enable"] = self.settings.interrupt_enable
        with m.Switch(number):
            for name, content in shown.items():
                with m.Case(offset_of(name) // 4):
                    m.d.comb += value.eq(content)
        return value
