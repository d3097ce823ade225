"""Fetches the program's records ahead of the sequencer."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES, Buffer, Region
from hwgen.isa.instructions import COMMANDS, Load
from hwgen.isa.latency import RECORDS_AHEAD
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import regions_layout
from hwgen.rtl.bursts import BurstSplitter, burst_layout
from hwgen.rtl.command import record_bits
from hwgen.rtl.faults import CODE_BITS
from hwgen.rtl.read_dma import read_beat_layout
from hwgen.rtl.rows import RowGenerator


class ProgramFetch(wiring.Component):
    """Reads record after record from byte `entry` of the program region, from reset on.

    Members
    -------
    entry, regions : settings, constant while the program runs
    bursts, beats : to and from the read DMA
    record : the next record, up to the highest bit that any command uses
    fault_code : why no next record exists (ErrorCode; NONE: it may yet come). A record behind the end of the region, or one that the
        memory refuses, matters only when all records before it have been taken: a program may end at the region's last byte.

    Timing
    ------
    B = 128 / bus bytes. From reset's end in cycle t: first burst offered in t + 4, record of bus words that arrive without gaps from
    cycle a on is offered in cycle a + B + 1. Up to RECORDS_AHEAD records are asked for before they are needed; a record is taken over
    from them in B cycles, so records are offered every B + 1 cycles at most.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "entry": In(32),
                "regions": In(regions_layout(config)),
                "bursts": Out(stream.Signature(burst_layout(config))),
                "beats": In(stream.Signature(read_beat_layout(config))),
                "record": Out(stream.Signature(record_bits(COMMANDS))),
                "fault_code": Out(CODE_BITS),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        ahead, failed, missing = Signal(range(RECORDS_AHEAD + 1)), Signal(), Signal(CODE_BITS)
        requested = self._request(m, ahead, missing)
        assembled = self._assemble(m, failed)
        m.d.sync += ahead.eq(ahead + requested - assembled)
        with m.If(self.record.valid):
            m.d.comb += self.fault_code.eq(Mux(failed, ErrorCode.BUS_READ, ErrorCode.NONE))
        with m.Elif(ahead == 0):
            m.d.comb += self.fault_code.eq(missing)
        return m

    def _request(self, m: Module, ahead: Signal, missing: Signal) -> Signal:
        """Every record is one row of a transfer, checked like any other; returns the strobe "one more record is under way"."""
        m.submodules.rows = rows = RowGenerator(self._config, Load)
        m.submodules.bursts = splitter = BurstSplitter(self._config)
        offset, requested, transfer = Signal(32), Signal(), rows.command.payload
        m.d.comb += [
            rows.regions.eq(self.regions),
            rows.command.valid.eq(1),
            transfer.region.eq(Region.PROGRAM),
            transfer.memory_offset.eq(self.entry + offset),
            transfer.row_bytes.eq(COMMAND_BYTES),
            transfer.rows.eq(1),
            transfer.destination.eq(Buffer.ACTIVATION),
            splitter.rows.payload.eq(rows.rows.payload),
            splitter.rows.valid.eq(rows.rows.valid & (ahead < RECORDS_AHEAD)),
            rows.rows.ready.eq(splitter.rows.ready & (ahead < RECORDS_AHEAD)),
            requested.eq(splitter.rows.valid & splitter.rows.ready),
        ]
        wiring.connect(m, splitter.bursts, wiring.flipped(self.bursts))
        with m.If(rows.command.ready):
            m.d.sync += offset.eq(offset + COMMAND_BYTES)
        with m.If(rows.fault.valid):
            m.d.sync += missing.eq(rows.fault.code)
        return requested

    def _assemble(self, m: Module, failed: Signal) -> Signal:
        """Bus words to records; returns the strobe "a record is complete"."""
        width, beats = self._config.bus_bits, COMMAND_BYTES // self._config.bus_bytes
        m.submodules.words = words = fifo.SyncFIFO(width=width + 1, depth=RECORDS_AHEAD * beats)
        number, complete, used = Signal(range(max(2, beats))), Signal(), len(self.record.payload)
        error = words.r_data[width]
        m.d.comb += [
            words.w_en.eq(self.beats.valid),
            words.w_data.eq(Cat(self.beats.payload.data, self.beats.payload.error)),
            self.beats.ready.eq(words.w_rdy),
            words.r_en.eq(~self.record.valid),
            complete.eq(words.r_rdy & words.r_en & (number == beats - 1)),
        ]
        with m.If(words.r_rdy & words.r_en):
            m.d.sync += [number.eq(number + 1), failed.eq(error | (failed & (number != 0)))]
            with m.Switch(number):
                for beat in range(min(beats, -(-used // width))):
                    part = self.record.payload[beat * width : min(used, (beat + 1) * width)]
                    with m.Case(beat):
                        m.d.sync += part.eq(words.r_data[: len(part)])
        with m.If(complete):
            m.d.sync += [number.eq(0), self.record.valid.eq(1)]
        with m.Elif(self.record.ready):
            m.d.sync += self.record.valid.eq(0)
        return complete
