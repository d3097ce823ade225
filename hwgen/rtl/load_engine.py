"""The load engine: memory to buffers."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.instructions import Load
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import FAULT_ADDRESS_BITS
from hwgen.rtl.bursts import BurstSplitter, burst_layout
from hwgen.rtl.command import INDEX_BITS, buffer_chunks, command_layout, load_write_layout
from hwgen.rtl.faults import FAULT_LAYOUT, report
from hwgen.rtl.read_dma import read_beat_layout
from hwgen.rtl.registers import PLACE_BITS
from hwgen.rtl.rows import RowGenerator
from hwgen.rtl.skid import Skid


class LoadEngine(wiring.Component):
    """Executes LOAD: asks for rows as bursts, and writes what arrives into the buffers. Commands follow each other while earlier ones
    still wait for their data.

    Members
    -------
    command : next command, at position `index` of the program; oldest : position of the oldest accepted command that is not done
    ask, answer : windows of system memory, see RowGenerator
    bursts, beats : to and from the read DMA
    write : bus words for the buffers
    done : the last bus word of the oldest command is being written
    fault : see RowGenerator; bus_fault : BUS_READ with the address of the bus word, which is not written: the machine stops before `done`

    Timing
    ------
    A command accepted in cycle t offers its first burst in cycle t + 4 (RowGenerator 3, BurstSplitter 1), so its address is on AR from
    t + 5. A bus word taken from R in cycle t is written in cycle t + 1, or as soon as the buffer is ready; `done` rises in that cycle.
    With a memory that takes AR at once and answers one cycle later, one bus word per cycle: a single command of n bus words is done in
    cycle t + 6 + n; queued commands with rows of at least 4 bus words follow without a gap on R.
    A bus word of packed weights stays as many cycles as the decoder takes to write it (isa.latency.decode_cycles).
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(command_layout(Load, config))),
                "index": In(INDEX_BITS),
                "oldest": In(INDEX_BITS),
                "ask": Out(PLACE_BITS),
                "answer": In(config.address_bits),
                "bursts": Out(stream.Signature(burst_layout(config))),
                "beats": In(stream.Signature(read_beat_layout(config))),
                "write": Out(stream.Signature(load_write_layout(config))),
                "done": Out(1),
                "fault": Out(FAULT_LAYOUT),
                "bus_fault": Out(FAULT_LAYOUT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.rows = rows = RowGenerator(self._config, Load)
        m.submodules.bursts = splitter = BurstSplitter(self._config)
        wiring.connect(m, wiring.flipped(self.command), rows.command)
        wiring.connect(m, rows.rows, splitter.rows)
        wiring.connect(m, splitter.bursts, wiring.flipped(self.bursts))
        m.submodules.arrived = arrived = Skid(read_beat_layout(self._config))  # R does not depend on what the buffers do in its cycle
        beat, write, last = arrived.out, self.write.payload, Signal()
        taken = Signal()
        refused, refused_address = Signal(), Signal(FAULT_ADDRESS_BITS)

        m.d.comb += [
            rows.index.eq(self.index),
            self.ask.eq(rows.ask),
            rows.answer.eq(self.answer),
            arrived.valid.eq(self.beats.valid),
            arrived.value.eq(self.beats.payload),
            self.beats.ready.eq(arrived.ready),
            arrived.advance.eq(~self.write.valid | self.write.ready),
            taken.eq(arrived.out_valid & arrived.advance),
            self.done.eq(self.write.valid & self.write.ready & last),
            self.fault.eq(rows.fault),
        ]
        m.d.sync += [refused.eq(taken & beat.error), refused_address.eq(beat.address)]
        # A cycle later, when all words before are written, `oldest` is the command that asked for this one.
        m.d.comb += [*report(self.bus_fault, ErrorCode.BUS_READ, self.oldest, refused_address), self.bus_fault.valid.eq(refused)]
        with m.If(arrived.advance):
            m.d.sync += self.write.valid.eq(taken & ~beat.error)
            shifts = {buffer: ceil_log2(chunks) for buffer, chunks in buffer_chunks(self._config).items()}
            address, chunk = beat.beat >> shifts[Buffer.ACTIVATION], beat.beat[: shifts[Buffer.ACTIVATION]]
            for buffer, shift in shifts.items():
                if buffer is not Buffer.ACTIVATION:
                    address = Mux(beat.buffer == buffer, beat.beat >> shift, address)
                    chunk = Mux(beat.buffer == buffer, beat.beat[:shift], chunk)
            m.d.sync += [write.buffer.eq(beat.buffer), write.address.eq(address), write.chunk.eq(chunk), write.data.eq(beat.data), last.eq(beat.last)]
            if self._config.weight_decoder:
                m.d.sync += [write.format.eq(beat.format), write.first.eq(beat.first)]
        return m
