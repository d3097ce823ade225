"""The activation buffer: four banks, each with one read and one write port."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, HardwareConfig
from hwgen.rtl.command import STORE_READ_LAYOUT, load_write_layout

BANK_BITS = ceil_log2(BANKS)


def address_bits(config: HardwareConfig) -> int:
    """Bits of an activation word's address; addresses of commands are taken modulo the buffer."""
    return ceil_log2(config.activation_words)


def bank_reads_layout(config: HardwareConfig) -> data.StructLayout:
    """One cycle's reads: `enable` per bank, and each bank's address (word address without its bank)."""
    return data.StructLayout({"enable": BANKS, "address": data.ArrayLayout(address_bits(config) - BANK_BITS, BANKS)})


def granule_bytes(config: HardwareConfig) -> int:
    """Bytes that are always written together: fewer enables than one per byte, in memories and in simulation."""
    return min(config.requantize_lanes, config.bus_bytes)


def write_layout(config: HardwareConfig) -> data.StructLayout:
    """A write of `mask`ed granules to word `address`; no mask bit, no write."""
    return data.StructLayout({"address": address_bits(config), "mask": config.in_lanes // granule_bytes(config), "data": 8 * config.in_lanes})


class ActivationBuffer(wiring.Component):
    """Words of N bytes; word address modulo 4 is the bank.

    Members: `read` and `words` (one word per bank) belong to the compute engine, as does `write`. `load` takes bus words from the
    DMA, `store` is the DMA's request, answered on `store_data`.
    Timing: data follow a read by one cycle and stay until the bank's next read. A read in the cycle of a write to the same word
    gets the old content, a cycle later the new. The compute engine always comes first: `load.ready` and `store.ready` are low in
    a cycle in which it uses the same bank's write or read port.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "read": In(bank_reads_layout(config)),
                "words": Out(8 * config.in_lanes).array(BANKS),
                "write": In(write_layout(config)),
                "load": In(stream.Signature(load_write_layout(config))),
                "store": In(stream.Signature(STORE_READ_LAYOUT)),
                "store_data": Out(8 * config.in_lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        chunks = 8 * c.in_lanes // c.bus_bits
        per_chunk = c.bus_bytes // granule_bytes(c)
        load_mask = Signal(len(self.write.mask))
        m.d.comb += load_mask.eq(Cat((self.load.payload.chunk == k).replicate(per_chunk) for k in range(chunks)) if chunks > 1 else -1)
        load_data = self.load.payload.data.replicate(chunks)
        writing = self.write.mask.any()

        store_bank = self.store.payload.address[:BANK_BITS]
        load_bank = self.load.payload.address[:BANK_BITS]
        m.d.comb += [
            self.store.ready.eq(~self.read.enable.bit_select(store_bank, 1)),
            self.load.ready.eq(~(writing & (self.write.address[:BANK_BITS] == load_bank))),
        ]
        answered = Signal(BANK_BITS, reset_less=True)
        with m.If(self.store.valid & self.store.ready):
            m.d.sync += answered.eq(store_bank)
        m.d.comb += self.store_data.eq(Array(self.words[b] for b in range(BANKS))[answered])

        for b in range(BANKS):
            self._bank(m, b, load_mask, load_data)
        return m

    def _bank(self, m: Module, b: int, load_mask: Value, load_data: Value) -> None:
        c, bits = self.config, address_bits(self.config)
        m.submodules[f"bank{b}"] = memory = Memory(shape=8 * c.in_lanes, depth=c.activation_words // BANKS, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8 * granule_bytes(c))
        result_here = self.write.mask.any() & (self.write.address[:BANK_BITS] == b)
        m.d.comb += [
            read.en.eq(self.read.enable[b] | (self.store.valid & (self.store.payload.address[:BANK_BITS] == b))),
            read.addr.eq(self.store.payload.address[BANK_BITS:bits]),
            self.words[b].eq(read.data),
            write.addr.eq(self.load.payload.address[BANK_BITS:bits]),
            write.data.eq(load_data),
        ]
        with m.If(self.read.enable[b]):
            m.d.comb += read.addr.eq(self.read.address[b])
        with m.If(result_here):
            m.d.comb += [write.en.eq(self.write.mask), write.addr.eq(self.write.address[BANK_BITS:]), write.data.eq(self.write.data)]
        with m.Elif(self.load.valid & (self.load.payload.address[:BANK_BITS] == b)):
            m.d.comb += write.en.eq(load_mask)
