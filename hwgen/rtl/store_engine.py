"""The store engine: activation buffer to memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.instructions import Store
from hwgen.isa.latency import READ_CYCLES
from hwgen.isa.registers import ErrorCode
from hwgen.rtl.axi import FAULT_ADDRESS_BITS, LENGTH_BITS
from hwgen.rtl.bursts import BurstSplitter, burst_layout
from hwgen.rtl.command import INDEX_BITS, STORE_READ_LAYOUT, buffer_chunks, command_layout
from hwgen.rtl.delay import delay, delay_data
from hwgen.rtl.faults import FAULT_LAYOUT, report
from hwgen.rtl.registers import PLACE_BITS
from hwgen.rtl.rows import RowGenerator, beat_bits

DATA_DEPTH = 8  # bus words between buffer and W
_IN_FLIGHT = READ_CYCLES + 1  # of them, asked for in this cycle and those before: not in the queue when it is asked whether there is room


class StoreEngine(wiring.Component):
    """Executes STORE: announces rows as bursts and reads their words from the activation buffer. Commands follow each other while
    earlier ones still wait for the memory's confirmation.

    Members
    -------
    command : next command, at position `index` of the program; oldest : position of the oldest accepted command that is not done
    ask, answer : windows of system memory, see RowGenerator
    read, read_data : word of the activation buffer, there READ_CYCLES after the request was taken
    bursts, data : to the write DMA
    error, error_address : the memory refused a burst of the oldest command; the write DMA also says when a command is done
    fault : see RowGenerator; bus_fault : BUS_WRITE with the address of the burst

    Timing
    ------
    A command accepted in cycle t offers its first burst in cycle t + 4, asks for its first word in t + 5, has it in t + 7 and offers it
    to the write DMA from then on, one bus word per cycle: the first is on W in t + 8. One word is read per bus word. Bursts and queued
    commands with rows of at least 4 bus words follow without a gap on W. With a memory that takes everything at once and confirms one
    cycle after the last W, a single command of n bus words is done in cycle t + 8 + n.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        super().__init__(
            {
                "command": In(stream.Signature(command_layout(Store, config))),
                "index": In(INDEX_BITS),
                "oldest": In(INDEX_BITS),
                "ask": Out(PLACE_BITS),
                "answer": In(config.address_bits),
                "read": Out(stream.Signature(STORE_READ_LAYOUT)),
                "read_data": In(8 * config.in_lanes),
                "bursts": Out(stream.Signature(burst_layout(config))),
                "data": Out(stream.Signature(config.bus_bits)),
                "error": In(1),
                "error_address": In(FAULT_ADDRESS_BITS),
                "fault": Out(FAULT_LAYOUT),
                "bus_fault": Out(FAULT_LAYOUT),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.rows = rows = RowGenerator(self._config, Store)
        m.submodules.bursts = splitter = BurstSplitter(self._config)
        wiring.connect(m, wiring.flipped(self.command), rows.command)
        wiring.connect(m, rows.rows, splitter.rows)
        m.d.comb += [rows.index.eq(self.index), self.ask.eq(rows.ask), rows.answer.eq(self.answer), self.fault.eq(rows.fault)]
        m.d.comb += [*report(self.bus_fault, ErrorCode.BUS_WRITE, self.oldest, self.error_address), self.bus_fault.valid.eq(self.error)]

        active, beat, left = Signal(), Signal(beat_bits(self._config)), Signal(LENGTH_BITS)
        can, free, final = Signal(), Signal(), Signal()  # `can`: one more word may be asked for; `final`: `left` is 0
        burst = splitter.bursts.payload
        m.d.comb += [
            free.eq(~active | (can & final)),
            self.bursts.payload.eq(burst),
            self.bursts.valid.eq(splitter.bursts.valid & free),
            splitter.bursts.ready.eq(self.bursts.ready & free),
        ]
        with m.If(free):
            m.d.sync += [active.eq(self.bursts.valid & self.bursts.ready), beat.eq(burst.beat), left.eq(burst.length), final.eq(burst.length == 0)]
        with m.Elif(can):
            m.d.sync += [beat.eq(beat + 1), left.eq(left - 1), final.eq(left == 1)]
        self._read_words(m, active, beat, can)
        return m

    def _read_words(self, m: Module, active: Signal, beat: Signal, can: Signal) -> None:
        """The buffer's words, cut into bus words. One that the compute engine keeps from the port waits, so that whether the next one is asked
        for, which is in `can`, hangs on nothing of the same cycle. It has its place in the queue, whatever those before it meet; past an empty
        queue it goes to the write DMA in the cycle in which it comes."""
        chunks = buffer_chunks(self._config)[Buffer.ACTIVATION]
        shift, word = ceil_log2(chunks), Signal(self._config.bus_bits)
        waits, asks, waiting, asked = Signal(), Signal(), Signal.like(beat), Signal.like(beat)
        m.submodules.words = words = fifo.SyncFIFO(width=self._config.bus_bits, depth=DATA_DEPTH)
        arriving = delay(m, asks & self.read.ready, READ_CYCLES, "arriving")[-1]
        chunk = delay_data(m, asked[: max(1, shift)] if shift else Const(0, 1), READ_CYCLES, "chunk")[-1]
        m.d.comb += [
            asks.eq(waits | (active & can)),
            asked.eq(Mux(waits, waiting, beat)),
            self.read.valid.eq(asks),
            self.read.payload.address.eq(asked >> shift),
            words.w_en.eq(arriving & ~(self.data.ready & ~words.r_rdy)),
            words.w_data.eq(word),
            self.data.valid.eq(words.r_rdy | arriving),
            self.data.payload.eq(Mux(words.r_rdy, words.r_data, word)),
            words.r_en.eq(self.data.ready),
        ]
        with m.Switch(chunk):
            for number in range(chunks):
                with m.Case(number):
                    m.d.comb += word.eq(self.read_data.word_select(number, self._config.bus_bits))
        m.d.sync += [waits.eq(asks & ~self.read.ready), can.eq(~(asks & ~self.read.ready) & (words.level < DATA_DEPTH - _IN_FLIGHT))]
        with m.If(~waits):
            m.d.sync += waiting.eq(beat)
