"""The whole machine on one page."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import Bus, HardwareConfig
from hwgen.isa.fields import Engine
from hwgen.isa.latency import QUEUE_DEPTH
from hwgen.isa.registers import CAUSES, ErrorCode
from hwgen.rtl.activity import Activity
from hwgen.rtl.axi import axi_lite_signature, axi_master_signature
from hwgen.rtl.axi_port import AxiPort
from hwgen.rtl.compute import ComputeEngine
from hwgen.rtl.control import Control
from hwgen.rtl.faults import Source, report
from hwgen.rtl.load_engine import LoadEngine
from hwgen.rtl.program_fetch import ProgramFetch, offered_early
from hwgen.rtl.read_dma import ReadDma
from hwgen.rtl.registers import RegisterFile
from hwgen.rtl.sequencer import COMMAND_OF_ENGINE, Sequencer
from hwgen.rtl.store_engine import StoreEngine
from hwgen.rtl.tokens import TokenCounters, TokenGate
from hwgen.rtl.wishbone import WishbonePort, WishboneRegisters, wishbone_master_signature, wishbone_slave_signature
from hwgen.rtl.write_dma import WriteDma


def bus_ports(config: HardwareConfig) -> dict[str, wiring.Signature]:
    """The two buses as the accelerator sees them, by the prefix of their ports' names: the registers', then the memory's."""
    if config.bus is Bus.WISHBONE:
        return {"s_wb_": wishbone_slave_signature(), "m_wb_": wishbone_master_signature(config)}
    return {"s_axil_": axi_lite_signature().flip(), "m_axi_": axi_master_signature(config)}


def expose(top: Any, prefix: str, inside: Any) -> list[Any]:
    """Statements that make the members of the interface `inside`, seen from its other end, the ports `prefix`* of `top`."""
    found = [(getattr(top, prefix + name), getattr(inside, name), member.flow) for name, member in inside.signature.members.items()]
    return [signal.eq(port) if flow is In else port.eq(signal) for port, signal, flow in found]


class Accelerator(wiring.Component):
    """The accelerator: a network's program runs from memory without help of the processor.

    Members
    -------
    s_axil_* : AXI4-Lite slave, the registers of isa.registers
    m_axi_* : AXI4 master: INCR bursts of whole bus words, at most 16, identifier 0, none crosses 4 KiB
    s_wb_*, m_wb_* : Wishbone B4 in place of these, see rtl.wishbone
    irq : level, see register interrupt_status

    Timing
    ------
    One clock domain, `sync` (ports clk, rst; synchronous reset). No output depends on an input of the same cycle but through the ready
    signals of R. With a memory that takes AR, AW and W at once and whose first R or B comes L cycles later, and B = 128 / bus bytes:

    - cycle 0 is the first that register `cycles` counts; the first command is dispatched in cycle 6 + L + B, the others B + 1 cycles after
      each other, or as soon as their queue has room and their bus words have come
    - a command is accepted by an idle engine 1 cycle after its dispatch; a token that is given in cycle t (`done`) is taken from t + 1 on
    - a LOAD of n bus words that is accepted in t and finds R idle is done in t + 5 + L + n, queued ones n cycles after each other
    - a STORE of n bus words that is accepted in t is done in t + 7 + L + n, queued ones n cycles after each other
    - rows of 1 or 2 bus words take 3 cycles; R serves bursts in the order in which the read DMA accepted them, the program's first
    - END ends the program 1 cycle after the last `done`: `cycles` is then that cycle's number plus 2
    """

    def __init__(self, config: HardwareConfig, compute: wiring.Component | None = None) -> None:
        """`compute` replaces the compute engine by another component with its ports (tests)."""
        self.config = config
        self.compute = compute or ComputeEngine(config)
        ports = {prefix + name: member for prefix, signature in bus_ports(config).items() for name, member in signature.members.items()}
        super().__init__({**ports, "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.registers = self.registers = RegisterFile(c)
        m.submodules.control = self.control = Control(c)
        m.submodules.read_dma = self.read_dma = ReadDma(c)
        m.submodules.write_dma = self.write_dma = WriteDma(c)
        m.submodules.compute = self.compute

        # Everything that is in reset while the machine stands still: no state of a stopped program can reach the next one.
        working = ResetInserter(self.control.halt)
        self.fetch, self.sequencer, self.tokens = ProgramFetch(c), Sequencer(c), TokenCounters()
        self.load, self.store = LoadEngine(c), StoreEngine(c)
        self.gates = {e: TokenGate(command, QUEUE_DEPTH[e], c, early=offered_early(c)) for e, command in COMMAND_OF_ENGINE.items()}
        m.submodules.fetch, m.submodules.sequencer, m.submodules.tokens = working(self.fetch), working(self.sequencer), working(self.tokens)
        m.submodules.load, m.submodules.store = working(self.load), working(self.store)
        for engine, gate in self.gates.items():
            m.submodules[f"{engine.name.lower()}_gate"] = working(gate)

        self._connect_host(m)
        self._connect_engines(m)
        self._connect_control(m)
        self._connect_activity(m)
        self._connect_memory(m)
        return m

    def _connect_host(self, m: Module) -> None:
        registers, control = self.registers, self.control
        host, _ = bus_ports(self.config)
        if self.config.bus is Bus.WISHBONE:
            m.submodules.host_port = adapter = WishboneRegisters()
            wiring.connect(m, adapter.axil, registers.axil)
            m.d.comb += expose(self, host, adapter.bus)
        else:
            m.d.comb += expose(self, host, registers.axil)
        m.d.comb += [
            self.irq.eq(registers.irq),
            control.start.eq(registers.start),
            control.abort.eq(registers.abort),
            control.watchdog.eq(registers.settings.watchdog),
            registers.state.eq(control.state),
            registers.turn.eq(control.turn),
            registers.ended.eq(control.ended),
        ]

    def _connect_engines(self, m: Module) -> None:
        """Program -> queues -> engines; engines <-> buffers, which the compute engine holds."""
        load, store, compute, gates = self.load, self.store, self.compute, self.gates
        wiring.connect(m, self.fetch.record, self.sequencer.record)
        for engine, source, command, done in (
            (Engine.LOAD, self.sequencer.load, load.command, load.done),
            (Engine.COMPUTE, self.sequencer.compute, compute.command, compute.done),
            (Engine.STORE, self.sequencer.store, store.command, self.write_dma.done),
        ):
            gate = gates[engine]
            wiring.connect(m, source, gate.source)
            wiring.connect(m, gate.command, command)
            m.d.comb += [gate.done.eq(done), gate.available.eq(self.tokens.available[engine])]
            m.d.comb += [self.tokens.take[engine].eq(gate.take), self.tokens.give[engine].eq(gate.give)]
        for engine, block in ((Engine.LOAD, load), (Engine.STORE, store)):
            m.d.comb += [block.index.eq(gates[engine].index), block.oldest.eq(gates[engine].oldest)]
        wiring.connect(m, load.write, compute.load_write)
        wiring.connect(m, store.read, compute.store_read)
        m.d.comb += [store.read_data.eq(compute.store_data), compute.abort.eq(self.control.halt)]

    def _connect_control(self, m: Module) -> None:
        control, sequencer, settings = self.control, self.sequencer, self.registers.settings
        load_gate, compute_gate, store_gate = (self.gates[engine] for engine in Engine)
        transfers_idle = Signal()
        for number, block in enumerate((self.load, self.store)):
            m.d.comb += [self.registers.asks[number].eq(block.ask), block.answer.eq(self.registers.answers[number])]
        m.d.comb += [
            self.fetch.region.eq(Cat(settings.program_base, settings.program_base_high, settings.program_size)),
            self.fetch.entry.eq(settings.program_entry),
            sequencer.origin.eq(self.fetch.origin),
            sequencer.fetch_fault.eq(self.fetch.fault_code),
            sequencer.index.eq(control.index),
            transfers_idle.eq(self.read_dma.idle & self.write_dma.idle),
            sequencer.all_idle.eq(transfers_idle & load_gate.idle & compute_gate.idle & store_gate.idle),
            control.drained.eq(transfers_idle & self.compute.idle),
            control.finished.eq(sequencer.finished),
            control.events.compute_wait.eq(compute_gate.waiting),
            control.events.load_busy.eq(load_gate.busy),
            control.events.store_busy.eq(store_gate.busy),
            control.events.read_beats.eq(self.read_dma.beat),
            control.events.write_beats.eq(self.write_dma.beat),
            control.events.commands.eq(sequencer.dispatched),
            *(control.faults[source].eq(getattr(block, name)) for source, block, name in self._reporting()),
        ]
        for source, engine in ((Source.LOAD_TOKENS, Engine.LOAD), (Source.COMPUTE_TOKENS, Engine.COMPUTE), (Source.STORE_TOKENS, Engine.STORE)):
            m.d.comb += report(control.faults[source], ErrorCode.TOKENS, self.gates[engine].before, 0)
            m.d.comb += control.faults[source].valid.eq(self.tokens.overflow[engine])

    def _reporting(self) -> tuple[tuple[Source, Any, str], ...]:
        """The blocks that report faults of their own, and by which member."""
        rows = ((Source.LOAD_ROW, self.load, "fault"), (Source.STORE_ROW, self.store, "fault"))
        return (*rows, (Source.LOAD_BUS, self.load, "bus_fault"), (Source.STORE_BUS, self.store, "bus_fault"), (Source.SEQUENCER, self.sequencer, "fault"))

    def _connect_activity(self, m: Module) -> None:
        """Why the array waits, cycle by cycle."""
        sequencer, compute, command = self.sequencer, self.compute, self.gates[Engine.COMPUTE].command
        m.submodules.activity = activity = Activity()
        m.d.comb += [
            activity.running.eq(~self.control.halt),
            activity.entered.eq(compute.array_busy),
            activity.accepted.eq(command.valid & command.ready),
            activity.occupied.eq(~command.ready),
            activity.idle.eq(compute.idle),
            activity.done.eq(compute.done),
            activity.lost.eq(compute.lost),
            activity.lacks.eq(self.gates[Engine.COMPUTE].lacks),
            activity.held_for.eq(sequencer.held_for),
            activity.ending.eq(sequencer.ending),
            activity.storing.eq(~self.gates[Engine.STORE].idle),
            activity.loading.eq(~self.gates[Engine.LOAD].idle),
            *(self.control.events[name].eq(activity.trace_cause[name]) for name in CAUSES),
        ]

    def _connect_memory(self, m: Module) -> None:
        read, write = self.read_dma, self.write_dma
        wiring.connect(m, self.fetch.bursts, read.program)
        wiring.connect(m, read.program_beats, self.fetch.beats)
        wiring.connect(m, self.load.bursts, read.load)
        wiring.connect(m, read.load_beats, self.load.beats)
        wiring.connect(m, self.store.bursts, write.bursts)
        wiring.connect(m, self.store.data, write.data)
        m.d.comb += [self.store.error.eq(write.error), self.store.error_address.eq(write.error_address)]
        m.d.comb += [read.halt.eq(self.control.halt), write.halt.eq(self.control.halt)]
        m.submodules.memory_port = port = WishbonePort(self.config) if self.config.bus is Bus.WISHBONE else AxiPort(self.config)
        for channel, inside in (("ar", read.ar), ("r", read.r), ("aw", write.aw), ("w", write.w), ("b", write.b)):
            wiring.connect(m, getattr(port, channel), inside)
        _, memory = bus_ports(self.config)
        m.d.comb += expose(self, memory, port.bus)
