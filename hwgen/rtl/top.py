"""The whole machine on one page."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Engine, Region
from hwgen.isa.latency import QUEUE_DEPTH
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import axi_lite_signature, axi_master_signature, byte_bits, regions_layout
from hwgen.rtl.compute import ComputeEngine
from hwgen.rtl.control import Control
from hwgen.rtl.faults import SEQUENCER, report
from hwgen.rtl.load_engine import LoadEngine
from hwgen.rtl.program_fetch import ProgramFetch
from hwgen.rtl.read_dma import ReadDma
from hwgen.rtl.registers import RegisterFile
from hwgen.rtl.sequencer import COMMAND_OF_ENGINE, Sequencer
from hwgen.rtl.store_engine import StoreEngine
from hwgen.rtl.tokens import TokenCounters, TokenGate
from hwgen.rtl.write_dma import WriteDma

_LITE, _MASTER = "s_axil_", "m_axi_"
_INCREMENT, _BUFFERABLE, _UNPRIVILEGED_SECURE_DATA = 1, 0b0011, 0b000


class Accelerator(wiring.Component):
    """The accelerator: a network's program runs from memory without help of the processor.

    Members
    -------
    s_axil_* : AXI4-Lite slave, the registers of isa.registers
    m_axi_* : AXI4 master: INCR bursts of whole bus words, at most 16, identifier 0, none crosses 4 KiB
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
        ports = {f"{_LITE}{name}": member.flip() for name, member in axi_lite_signature().members.items()}
        ports |= {f"{_MASTER}{name}": member for name, member in axi_master_signature(config).members.items()}
        super().__init__({**ports, "irq": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        c = self.config
        m.submodules.registers = self.registers = RegisterFile(c)
        m.submodules.control = self.control = Control()
        m.submodules.read_dma = self.read_dma = ReadDma(c)
        m.submodules.write_dma = self.write_dma = WriteDma(c)
        m.submodules.compute = self.compute

        # Everything that is in reset while the machine stands still: no state of a stopped program can reach the next one.
        working = ResetInserter(self.control.halt)
        self.fetch, self.sequencer, self.tokens = ProgramFetch(c), Sequencer(c), TokenCounters()
        self.load, self.store = LoadEngine(c), StoreEngine(c)
        self.gates = {e: TokenGate(command, QUEUE_DEPTH[e]) for e, command in COMMAND_OF_ENGINE.items()}
        m.submodules.fetch, m.submodules.sequencer, m.submodules.tokens = working(self.fetch), working(self.sequencer), working(self.tokens)
        m.submodules.load, m.submodules.store = working(self.load), working(self.store)
        for engine, gate in self.gates.items():
            m.submodules[f"{engine.name.lower()}_gate"] = working(gate)

        self._connect_host(m)
        self._connect_engines(m)
        self._connect_control(m)
        self._connect_memory(m)
        return m

    def _connect_host(self, m: Module) -> None:
        registers, control = self.registers, self.control
        for name, member in axi_lite_signature().members.items():
            inside, port = getattr(registers.axil, name), getattr(self, f"{_LITE}{name}")
            m.d.comb += inside.eq(port) if member.flow is Out else port.eq(inside)
        m.d.comb += [
            self.irq.eq(registers.irq),
            control.start.eq(registers.start),
            control.abort.eq(registers.abort),
            control.watchdog.eq(registers.settings.watchdog),
            registers.state.eq(control.state),
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
        regions, transfers_idle = Signal(regions_layout(self.config)), Signal()
        for region in Region:
            names = [f"{region.name.lower()}_{part}" for part in ("base", "base_high", "size")]
            m.d.comb += regions[region].eq(Cat(settings[name] for name in names))
        for block in (self.fetch, sequencer, self.load, self.store):
            m.d.comb += block.regions.eq(regions)
        m.d.comb += [
            self.fetch.entry.eq(settings.program_entry),
            sequencer.entry.eq(settings.program_entry),
            sequencer.fetch_fault.eq(self.fetch.fault_code),
            sequencer.index.eq(control.state.commands),
            transfers_idle.eq(self.read_dma.idle & self.write_dma.idle),
            sequencer.all_idle.eq(transfers_idle & load_gate.idle & compute_gate.idle & store_gate.idle),
            control.drained.eq(transfers_idle & self.compute.idle),
            control.finished.eq(sequencer.finished),
            control.events.array_busy.eq(self.compute.array_busy),
            control.events.compute_wait.eq(compute_gate.waiting),
            control.events.load_busy.eq(load_gate.busy),
            control.events.store_busy.eq(store_gate.busy),
            control.events.read_beats.eq(self.read_dma.beat),
            control.events.write_beats.eq(self.write_dma.beat),
            control.events.commands.eq(sequencer.dispatched),
            control.faults[Engine.LOAD].eq(self.load.fault),
            control.faults[Engine.STORE].eq(self.store.fault),
            control.faults[SEQUENCER].eq(sequencer.fault),
        ]
        for engine, gate in self.gates.items():
            with m.If(self.tokens.overflow[engine]):
                m.d.comb += report(control.faults[engine], ErrorCode.TOKENS, gate.oldest, 0)

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
        for name, channel in (("ar", read.ar), ("aw", write.aw)):
            self._connect_address_port(m, name, channel)
        bus_error = 1  # bit of SLVERR and DECERR
        m.d.comb += [
            self.m_axi_wdata.eq(write.w.payload.data),
            self.m_axi_wstrb.eq(write.w.payload.strobe),
            self.m_axi_wlast.eq(write.w.payload.last),
            self.m_axi_wvalid.eq(write.w.valid),
            write.w.ready.eq(self.m_axi_wready),
            write.b.valid.eq(self.m_axi_bvalid),
            write.b.payload.error.eq(self.m_axi_bresp[bus_error]),
            self.m_axi_bready.eq(write.b.ready),
            read.r.valid.eq(self.m_axi_rvalid),
            read.r.payload.eq(Cat(self.m_axi_rdata, self.m_axi_rresp[bus_error], self.m_axi_rlast)),
            self.m_axi_rready.eq(read.r.ready),
        ]

    def _connect_address_port(self, m: Module, name: str, channel: Any) -> None:
        constants = {"size": byte_bits(self.config), "burst": _INCREMENT, "cache": _BUFFERABLE, "prot": _UNPRIVILEGED_SECURE_DATA}
        for field, value in constants.items():
            m.d.comb += getattr(self, f"{_MASTER}{name}{field}").eq(value)
        m.d.comb += [
            getattr(self, f"{_MASTER}{name}addr").eq(channel.payload.address),
            getattr(self, f"{_MASTER}{name}len").eq(channel.payload.length),
            getattr(self, f"{_MASTER}{name}valid").eq(channel.valid),
            channel.ready.eq(getattr(self, f"{_MASTER}{name}ready")),
        ]
