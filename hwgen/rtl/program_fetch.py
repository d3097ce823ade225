"""Fetches the program's records ahead of the sequencer."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES
from hwgen.isa.instructions import COMMANDS
from hwgen.isa.latency import RECORDS_AHEAD
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import address_channel, byte_bits, read_channel, region_layout
from hwgen.rtl.bursts import BurstSplitter
from hwgen.rtl.command import INDEX_BITS, record_bits
from hwgen.rtl.faults import CODE_BITS

_RECORD_BITS = ceil_log2(COMMAND_BYTES)


def offered_early(config: HardwareConfig) -> bool:
    """Whether a record is there a cycle before it is offered: its last bus word holds nothing that a command uses."""
    return record_bits(COMMANDS) <= 8 * COMMAND_BYTES - config.bus_bits


class ProgramFetch(wiring.Component):
    """Reads record after record from byte `entry` of the program region, from reset on.

    Members
    -------
    entry, region : settings, constant while the program runs; origin : address of the first record
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
        self._config, self._beats = config, COMMAND_BYTES // config.bus_bytes
        super().__init__(
            {
                "entry": In(32),
                "region": In(region_layout(config)),
                "origin": Out(config.address_bits + 1),
                "bursts": Out(address_channel(config)),
                "beats": In(read_channel(config)),
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
        """Record after record as rows, each checked like a transfer's; returns the strobe "one more record is under way".

        What does not change is computed anew in every cycle, and so is what hangs on the record's number: the states wait for it.
        """
        m.submodules.bursts = splitter = BurstSplitter(self._config, self._beats)
        low, bits, region = byte_bits(self._config), self._config.address_bits, self.region
        record, origin, address = Signal(INDEX_BITS), self.origin, Signal(bits + 1)
        places = Signal(signed(INDEX_BITS + 1))  # records that the region holds from `entry` on; below 0 where `entry` lies behind it
        requested, row = Signal(), splitter.rows.payload
        misaligned, wraps = Cat(region.base[:low], self.entry[:low]).any(), address[_RECORD_BITS:bits].all() & address[:_RECORD_BITS].any()
        outside = (places < 0) | (places[:INDEX_BITS] == record) | address[bits] | wraps

        m.d.sync += [origin.eq(region.base + self.entry), places.eq((region.size - self.entry) >> _RECORD_BITS)]
        m.d.sync += [address.eq(origin + (record << _RECORD_BITS)), row.end.eq(address[low:] + (self._beats - 1))]
        m.d.comb += [
            row.address.eq(address),
            requested.eq(splitter.rows.valid & splitter.rows.ready),
        ]
        with m.FSM():
            with m.State("NUMBER"):
                m.next = "ADDRESS"
            with m.State("ADDRESS"):
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += missing.eq(Mux(misaligned, ErrorCode.ALIGNMENT, Mux(outside, ErrorCode.REGION, ErrorCode.NONE)))
                m.next = "ASK"
            with m.State("ASK"):
                m.d.comb += splitter.rows.valid.eq(~missing.any() & (ahead < RECORDS_AHEAD))
                with m.If(requested):
                    m.d.sync += record.eq(record + 1)
                    m.next = "NUMBER"
        burst, ask = splitter.bursts.payload, self.bursts
        m.d.comb += [ask.payload.eq(Cat(burst.address, burst.length)), ask.valid.eq(splitter.bursts.valid), splitter.bursts.ready.eq(ask.ready)]
        return requested

    def _assemble(self, m: Module, failed: Signal) -> Signal:
        """Bus words to records; returns the strobe "a record is complete"."""
        width, beats = self._config.bus_bits, self._beats
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
        record = Signal(used, reset_less=True)
        m.d.comb += self.record.payload.eq(record)
        with m.If(words.r_en), m.Switch(number):  # also where no word is there yet: the one that comes takes its place
            for beat in range(min(beats, -(-used // width))):
                part = record[beat * width : min(used, (beat + 1) * width)]
                with m.Case(beat):
                    m.d.sync += part.eq(words.r_data[: len(part)])
        with m.If(complete):
            m.d.sync += [number.eq(0), self.record.valid.eq(1)]
        with m.Elif(self.record.ready):
            m.d.sync += self.record.valid.eq(0)
        return complete
