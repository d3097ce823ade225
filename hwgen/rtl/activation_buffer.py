"""The activation buffer: two sides of four banks, each with one read and one write port."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import BANKS, SIDES, HardwareConfig
from hwgen.isa.latency import READ_CYCLES
from hwgen.rtl.command import STORE_READ_LAYOUT, load_write_layout
from hwgen.rtl.delay import delay_data

BANK_BITS = ceil_log2(BANKS)
SIDE_BITS = ceil_log2(SIDES)
PORTS = SIDES * BANKS  # port number: side, then bank
PORT_BITS = SIDE_BITS + BANK_BITS


def address_bits(config: HardwareConfig) -> int:
    """Bits of an activation word's address; addresses of commands are taken modulo the buffer."""
    return ceil_log2(config.activation_words)


def port_of(address: Value) -> Value:
    """The port at which word `address` (address_bits wide) is read or written."""
    return Cat(address[:BANK_BITS], address[-SIDE_BITS:])


def row_of(address: Value) -> Value:
    """The word's place in the memory behind its port."""
    return address[BANK_BITS:-SIDE_BITS]


def port_reads_layout(config: HardwareConfig) -> data.StructLayout:
    """One cycle's reads: `enable` and `address` (row_of) of each port."""
    return data.StructLayout({"enable": PORTS, "address": data.ArrayLayout(address_bits(config) - PORT_BITS, PORTS)})


def granule_bytes(config: HardwareConfig) -> int:
    """Bytes that are always written together: fewer enables than one per byte, in memories and in simulation."""
    return min(config.requantize_lanes, config.bus_bytes)


def write_layout(config: HardwareConfig) -> data.StructLayout:
    """A write of `mask`ed granules to word `address`. `ports`: its port (port_of) as one bit of many; none, no write."""
    places = {"ports": PORTS, "address": address_bits(config), "mask": config.in_lanes // granule_bytes(config)}
    return data.StructLayout({**places, "data": 8 * config.in_lanes})


class ActivationBuffer(wiring.Component):
    """Words of N bytes; word address modulo 4 is the bank, its top bit the side.

    Members: `read` and `words` (one word per port) belong to the compute engine, as does `write`. `load` takes bus words from the
    DMA, `store` is the DMA's request, answered on `store_data`.
    Timing: data follow a read by READ_CYCLES and stay until the bank's next read. A read in the cycle of a write to the same word
    gets the old content, a cycle later the new. The compute engine always comes first: `load.ready` and `store.ready` are low in
    a cycle in which it uses the write or read port of the same bank of the same side; it may read again and again what it waits to take.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "read": In(port_reads_layout(config)),
                "words": Out(8 * config.in_lanes).array(PORTS),
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

        bits = address_bits(c)
        store_port, load_port = port_of(self.store.payload.address[:bits]), port_of(self.load.payload.address[:bits])
        m.d.comb += [
            self.store.ready.eq(~self.read.enable.bit_select(store_port, 1)),
            self.load.ready.eq(~self.write.ports.bit_select(load_port, 1)),
        ]
        answered = delay_data(m, store_port, READ_CYCLES, "answered")[-1]
        m.d.comb += self.store_data.eq(Array(self.words[p] for p in range(PORTS))[answered])

        for p in range(PORTS):
            self._port(m, p, load_mask, load_data)
        return m

    def _port(self, m: Module, p: int, load_mask: Value, load_data: Value) -> None:
        c, bits = self.config, address_bits(self.config)
        side, bank = divmod(p, BANKS)
        m.submodules[f"side{side}_bank{bank}"] = memory = Memory(shape=8 * c.in_lanes, depth=c.activation_words // PORTS, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8 * granule_bytes(c))
        word = Signal(8 * c.in_lanes, name=f"word_{p}", reset_less=True)  # block RAM takes half of a cycle to its output: no choice fits behind it
        m.d.sync += word.eq(read.data)
        store, load = self.store.payload.address[:bits], self.load.payload.address[:bits]
        m.d.comb += [
            read.en.eq(self.read.enable[p] | (self.store.valid & (port_of(store) == p))),
            read.addr.eq(row_of(store)),
            self.words[p].eq(word),
            write.addr.eq(row_of(load)),
            write.data.eq(load_data),
        ]
        with m.If(self.read.enable[p]):
            m.d.comb += read.addr.eq(self.read.address[p])
        with m.If(self.write.ports[p]):
            m.d.comb += [write.en.eq(self.write.mask), write.addr.eq(row_of(self.write.address)), write.data.eq(self.write.data)]
        with m.Elif(self.load.valid & (port_of(load) == p)):
            m.d.comb += write.en.eq(load_mask)
