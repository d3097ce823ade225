"""The registers of the serial machine: words of a memory, read and written behind a Wishbone slave."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.registers import IDENTITY, REGISTER_SPACE_BYTES, REGISTERS, VERSION, Access, offset_of
from hwgen.rtl.wishbone import wishbone_slave_signature

WORDS = REGISTER_SPACE_BYTES // 4
NUMBER_BITS = ceil_log2(WORDS)


def number_of(name: str) -> int:
    """Position of a register in the memory."""
    return offset_of(name) // 4


class SerialRegisters(wiring.Component):
    """Registers of isa.registers. Unknown offsets and missing bits read 0, writes to them do nothing.

    Two memories hold the same: one is read by the host, the other by the machine. What changes in every cycle does not lie in them: the
    machine writes counters and errors when a run has ended.

    Members
    -------
    bus : Wishbone slave, pipelined or classic; address bits 1..0 do not matter, `sel_i` counts
    number : register that the machine reads; `setting` is its content in the next cycle
    write, write_number, word : the machine writes a read-only register; a host's access waits for it
    status : content of register `status`
    start, abort : strobes of register `control`, in the cycle in which it is written
    ended : strobes that set the bits of `interrupt_status`, stronger than a write that clears them
    irq : an enabled interrupt is pending

    Timing
    ------
    An access is answered in the cycle after it was taken; there is one in two cycles. The first 64 cycles after a reset clear the memory.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "bus": Out(wishbone_slave_signature()),
                "number": In(NUMBER_BITS),
                "setting": Out(32),
                "write": In(1),
                "write_number": In(NUMBER_BITS),
                "word": In(32),
                "status": In(3),
                "start": Out(1),
                "abort": Out(1),
                "ended": In(2),
                "irq": Out(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m, bus = Module(), self.bus
        busy, taken, clearing, position = Signal(), Signal(), Signal(init=1), Signal(NUMBER_BITS)
        number = bus.adr_i[2:]
        m.d.comb += [
            bus.stall_o.eq(busy | clearing | self.write),
            taken.eq(bus.cyc_i & bus.stb_i & ~bus.stall_o),
            bus.ack_o.eq(busy & bus.cyc_i),
        ]
        m.d.sync += [busy.eq(taken), position.eq(position + clearing), clearing.eq(clearing & ~position.all())]
        stored = Signal()  # the host may write it, and the machine reads it
        with m.Switch(number):
            for register in REGISTERS:
                if self._is_stored(register.name, register.access):
                    with m.Case(register.offset // 4):
                        m.d.comb += stored.eq(1)
        own, first = clearing | self.write, Signal(32)
        m.d.comb += first.eq(self._constants(position))
        memories = [Memory(shape=32, depth=WORDS, init=[]) for _ in range(2)]
        m.submodules.host_memory, m.submodules.machine_memory = memories
        for memory in memories:
            port = memory.write_port(granularity=8)
            m.d.comb += [
                port.addr.eq(Mux(clearing, position, Mux(self.write, self.write_number, number))),
                port.data.eq(Mux(clearing, first, Mux(self.write, self.word, bus.dat_i))),
                port.en.eq(Mux(own, 0xF, Mux(taken & bus.we_i & stored, bus.sel_i, 0))),
            ]
        host, machine = (memory.read_port() for memory in memories)
        m.d.comb += [host.addr.eq(number), machine.addr.eq(self.number), self.setting.eq(machine.data)]
        self._live(m, taken, number, host.data)
        return m

    def _is_stored(self, name: str, access: Access) -> bool:
        return access is Access.READ_WRITE and not name.endswith("_base_high") and name != "interrupt_enable"

    def _constants(self, position: Signal) -> Any:
        value: Any = Const(0, 32)
        for name, constant in (("identity", IDENTITY), ("version", VERSION), ("config_hash", self._config.short_hash)):
            value = Mux(position == number_of(name), Const(constant, 32), value)
        return value

    def _live(self, m: Module, taken: Signal, number: Any, word: Any) -> None:
        """The registers of two or three bits that are no words of the memory, which holds 0 in their place."""
        bus, enable, pending, clear, live = self.bus, Signal(2), Signal(2), Signal(2), Signal(3)
        chosen = {name: number == number_of(name) for name in ("control", "status", "interrupt_enable", "interrupt_status")}
        written = taken & bus.we_i & bus.sel_i[0]
        m.d.comb += [
            clear.eq(Mux(written & chosen["interrupt_status"], bus.dat_i[:2], 0)),
            self.start.eq(written & chosen["control"] & bus.dat_i[0]),
            self.abort.eq(written & chosen["control"] & bus.dat_i[1]),
            self.irq.eq((pending & enable).any()),
            bus.dat_o.eq(word | live),
        ]
        m.d.sync += pending.eq((pending & ~clear) | self.ended)
        with m.If(written & chosen["interrupt_enable"]):
            m.d.sync += enable.eq(bus.dat_i[:2])
        m.d.sync += live.eq(0)
        for name, value in (("status", self.status), ("interrupt_enable", enable), ("interrupt_status", pending)):
            with m.If(chosen[name]):
                m.d.sync += live.eq(value)
