"""The serial machine on one page."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, ResetInserter
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.rtl.activity import CAUSE_LAYOUT, LOST_LAYOUT
from hwgen.rtl.serial.compute import SerialCompute
from hwgen.rtl.serial.control import SerialControl
from hwgen.rtl.serial.fields import ConvFields
from hwgen.rtl.serial.memory import ActivationMemory, Table
from hwgen.rtl.serial.port import SerialPort
from hwgen.rtl.serial.registers import SerialRegisters, number_of
from hwgen.rtl.serial.sequencer import SerialSequencer
from hwgen.rtl.top import bus_ports, expose


class SerialActivity(wiring.Component):
    """`trace_*`: what each cycle of a run was spent on, for the co-simulation bench."""

    def __init__(self) -> None:
        super().__init__({"trace_cause": Out(CAUSE_LAYOUT), "trace_accepted": Out(1), "trace_done": Out(1), **_ACTIVITY})

    def elaborate(self, platform: Any) -> Module:
        m, cause = Module(), self.trace_cause
        m.d.comb += [self.trace_accepted.eq(self.accepted & self.running), self.trace_done.eq(self.done & self.running)]
        with m.If(~self.running):
            pass
        with m.Elif(self.entered):
            m.d.comb += cause.array_busy.eq(1)
        with m.Elif(self.computing):
            m.d.comb += [getattr(cause, f"lost_{name}").eq(self.lost[name]) for name, _ in LOST_LAYOUT]
        with m.Elif(self.loading):
            m.d.comb += cause.wait_load.eq(1)
        with m.Elif(self.storing):
            m.d.comb += cause.wait_store.eq(1)
        with m.Else():
            m.d.comb += cause.lost_program.eq(1)
        return m


_ACTIVITY = {
    **dict.fromkeys(("running", "entered", "accepted", "done", "computing", "loading", "storing"), In(1)),
    "lost": In(LOST_LAYOUT),
}


class SerialAccelerator(wiring.Component):
    """The accelerator for tiny devices: the same programs, registers and results as `rtl.top.Accelerator`, one command after the other.

    Members
    -------
    s_wb_*, m_wb_* : Wishbone B4, the registers and the memory; see `SerialRegisters` and `SerialPort`
    irq : level, see register interrupt_status

    Timing
    ------
    One clock domain, `sync` (ports clk, rst; synchronous reset). Everything takes the cycles that `schedule.serial` counts.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        ports = {prefix + name: member for prefix, signature in bus_ports(config).items() for name, member in signature.members.items()}
        super().__init__({**ports, "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m, c = Module(), self.config
        m.submodules.registers = registers = SerialRegisters(c)
        m.submodules.control = control = SerialControl()
        m.submodules.port = port = SerialPort(c)
        m.submodules.fields = fields = ConvFields(c)
        m.submodules.activity = self.activity = SerialActivity()
        working = ResetInserter(control.halt)
        sequencer, compute = SerialSequencer(c), SerialCompute(c)
        m.submodules.sequencer, m.submodules.compute = working(sequencer), working(compute)
        self.registers, self.control, self.port, self.sequencer, self.compute = registers, control, port, sequencer, compute
        host, memory = bus_ports(c)
        m.d.comb += expose(self, host, registers.bus) + expose(self, memory, port.bus)
        self._connect_control(m)
        self._connect_port(m)
        self._connect_memories(m)
        m.d.comb += [
            self.irq.eq(registers.irq),
            *(fields.write.eq(sequencer.record), fields.index.eq(port.number), fields.word.eq(port.bus.dat_i)),
            *(compute.fields.eq(fields.fields), compute.start.eq(sequencer.compute), sequencer.compute_done.eq(compute.done)),
        ]
        return m

    def _connect_control(self, m: Module) -> None:
        registers, control, sequencer, compute, activity = self.registers, self.control, self.sequencer, self.compute, self.activity
        m.d.comb += [
            *(control.start.eq(registers.start), control.abort.eq(registers.abort), control.watchdog.eq(registers.setting)),
            sequencer.setting.eq(registers.setting),
            registers.number.eq(Mux(control.asks_watchdog, number_of("watchdog"), sequencer.number)),
            *(registers.write.eq(control.write), registers.write_number.eq(control.number), registers.word.eq(control.word)),
            *(registers.status.eq(control.status), registers.ended.eq(control.ended)),
            *(control.decoded.eq(sequencer.decoded), control.leaves.eq(sequencer.leaves), sequencer.index.eq(control.index)),
            *(control.finished.eq(sequencer.finished), control.fault.eq(sequencer.fault), control.code.eq(sequencer.code)),
            *(control.engine.eq(sequencer.engine), control.address.eq(sequencer.address), control.settled.eq(self.port.idle)),
            *(activity.running.eq(control.running), activity.entered.eq(compute.array_busy), activity.accepted.eq(sequencer.compute)),
            *(activity.done.eq(compute.done), activity.computing.eq(compute.busy), activity.lost.eq(compute.lost)),
            *(activity.loading.eq(sequencer.loading), activity.storing.eq(sequencer.storing)),
        ]

    def _connect_port(self, m: Module) -> None:
        port, sequencer = self.port, self.sequencer
        m.d.comb += [
            *(port.load.eq(sequencer.load), port.first.eq(sequencer.first), port.words.eq(sequencer.words), port.writes.eq(sequencer.writes)),
            port.stop.eq(self.control.halt | sequencer.stop),
            *(sequencer.active.eq(port.active), sequencer.failed.eq(port.failed), sequencer.settled.eq(port.settled)),
            *(sequencer.failed_address.eq(port.address), sequencer.answered.eq(port.answered), sequencer.word.eq(port.bus.dat_i)),
            sequencer.position.eq(Mux(sequencer.storing, port.read_word, port.number)),
        ]

    def _connect_memories(self, m: Module) -> None:
        """Only one of sequencer and compute engine works at a time."""
        c, port, sequencer, compute = self.config, self.port, self.sequencer, self.compute
        m.submodules.activations, m.submodules.weights = activations, weights = ActivationMemory(c), Memory(shape=32, depth=c.weight_words, init=[])
        table = Table(c)
        m.submodules.table = words = Memory(shape=32, depth=table.words, init=[])
        load, read = sequencer.activations, port.fetch & sequencer.storing
        m.d.comb += [
            activations.enable.eq(load | read | compute.activation_enable),
            activations.write.eq(Mux(load, ~0, compute.activation_write)),
            activations.address.eq(Mux(load | read, sequencer.place, compute.activation_address)),
            activations.write_data.eq(Mux(load, port.bus.dat_i, compute.activation_data.replicate(c.in_lanes))),
            *(port.data.eq(activations.read_data), compute.word.eq(activations.read_data)),
        ]
        write, fetch = weights.write_port(), weights.read_port()
        m.d.comb += [write.en.eq(sequencer.weights), write.addr.eq(sequencer.place), write.data.eq(port.bus.dat_i)]
        m.d.comb += [fetch.addr.eq(compute.weight_address), compute.weights.eq(fetch.data)]
        put, get = words.write_port(), words.read_port()
        m.d.comb += [
            put.en.eq(sequencer.record | sequencer.parameters | compute.sum_write),
            put.addr.eq(Mux(compute.sum_write, compute.sum_address, Mux(sequencer.record, table.record + port.number[:5], sequencer.place))),
            put.data.eq(Mux(compute.sum_write, compute.sum, port.bus.dat_i)),
            get.addr.eq(Mux(compute.busy, compute.table_address, sequencer.table_address)),
            *(compute.table_data.eq(get.data), sequencer.table_data.eq(get.data)),
        ]
