"""A compute engine that only copies one word: its ports and its buffers, without the arithmetic."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.instructions import Conv
from hwgen.isa.latency import READ_CYCLES
from hwgen.rtl.activity import LOST_LAYOUT
from hwgen.rtl.command import STORE_READ_LAYOUT, buffer_chunks, buffer_words, command_layout, load_write_layout
from hwgen.rtl.delay import delay_data


class ComputeStub(wiring.Component):
    """CONV: after `pixels_per_tile` cycles, activation word output_address becomes activation word input_address plus weight word
    weight_address (as whole numbers). With `stalls`, the buffer ports refuse at pseudo-random times."""

    def __init__(self, config: HardwareConfig, stalls: bool = False) -> None:
        self._config, self._stalls = config, stalls
        super().__init__(
            {
                "command": In(stream.Signature(command_layout(Conv, config))),
                "done": Out(1),
                "idle": Out(1),
                "abort": In(1),
                "array_busy": Out(1),
                "lost": Out(LOST_LAYOUT),
                "load_write": In(stream.Signature(load_write_layout(config))),
                "store_read": In(stream.Signature(STORE_READ_LAYOUT)),
                "store_data": Out(8 * config.in_lanes),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        noise = Signal(16, init=0xACE1)
        m.d.sync += noise.eq(Cat(noise[15] ^ noise[13] ^ noise[12] ^ noise[10], noise[:15]))
        refuse = (noise[3], noise[7] & noise[1]) if self._stalls else (0, 0)
        write, chunks, words = self.load_write.payload, buffer_chunks(self._config), buffer_words(self._config)
        memories = {}
        for buffer in words:
            shape = data.ArrayLayout(self._config.bus_bits, chunks[buffer])
            m.submodules[buffer.name.lower()] = memories[buffer] = memory.Memory(shape=shape, depth=words[buffer], init=[])
            port = memories[buffer].write_port(granularity=1)
            enable = self.load_write.valid & self.load_write.ready & (write.buffer == buffer)
            m.d.comb += [port.addr.eq(write.address), port.en.eq(Mux(enable, 1 << write.chunk, 0))]
            m.d.comb += [port.data[chunk].eq(write.data) for chunk in range(chunks[buffer])]
        reader = memories[Buffer.ACTIVATION].read_port()
        m.d.comb += [
            self.load_write.ready.eq(~refuse[0] | (write.buffer != Buffer.ACTIVATION)),
            self.store_read.ready.eq(~refuse[1]),
            reader.addr.eq(self.store_read.payload.address),
            reader.en.eq(self.store_read.valid & self.store_read.ready),
            self.store_data.eq(delay_data(m, reader.data, READ_CYCLES - 1, "answer")[-1]),
        ]
        self._compute(m, memories)
        return m

    def _compute(self, m: Module, memories: dict[Buffer, memory.Memory]) -> None:
        held, left = Signal.like(self.command.payload), Signal(16)
        operand = memories[Buffer.ACTIVATION].read_port(domain="comb")
        weight = memories[Buffer.WEIGHT].read_port(domain="comb")
        result = memories[Buffer.ACTIVATION].write_port()
        m.d.comb += [
            self.command.ready.eq(self.idle & ~self.abort),
            self.idle.eq(left == 0),
            self.array_busy.eq(~self.idle),
            self.done.eq((left == 1) & ~self.abort),
            operand.addr.eq(held.input_address),
            weight.addr.eq(held.weight_address),
            result.addr.eq(held.output_address),
            result.data.eq((operand.data.as_value() + weight.data.as_value())[: 8 * self._config.in_lanes]),
            result.en.eq(self.done),
        ]
        with m.If(self.abort):
            m.d.sync += left.eq(0)
        with m.Elif(~self.idle):
            m.d.sync += left.eq(left - 1)
        with m.Elif(self.command.valid):
            m.d.sync += [held.eq(self.command.payload), left.eq(self.command.payload.pixels_per_tile)]
