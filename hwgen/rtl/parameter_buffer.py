"""The parameter buffer: words of R records, of each record only the bits that the hardware needs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import PARAMETER_BYTES, HardwareConfig
from hwgen.rtl.command import load_write_layout

# Third 32-bit word of a record in memory: bit positions and widths of what is kept.
_TAIL = {"shift": (0, 6), "low": (8, 8), "high": (16, 8), "zero_point": (24, 8)}
_RECORD_WORDS = PARAMETER_BYTES // 4


def rescale_layout(config: HardwareConfig) -> data.StructLayout:
    """What requantization needs of a channel; the names are those of `arith.Requantize`."""
    tail = data.StructLayout({"shift": 6, "low": 8, "high": 8, "zero_point": 8})
    assert tail.size == sum(width for _, width in _TAIL.values())
    return data.StructLayout({**({"multiplier": config.multiplier_bits} if config.multiplier_bits else {}), "tail": tail})


def record_layout(config: HardwareConfig) -> data.StructLayout:
    return data.StructLayout({"bias": config.accumulator_bits, "rescale": rescale_layout(config)})


class ParameterBuffer(wiring.Component):
    """Members: `load_valid`, `load` write one bus word; `enable`, `address` read; `records` is the answer.

    Timing: `records` follows `enable` by one cycle. Reading and loading never wait for each other.
    """

    def __init__(self, config: HardwareConfig) -> None:
        self.config = config
        super().__init__(
            {
                "load_valid": In(1),
                "load": In(load_write_layout(config)),
                "enable": In(1),
                "address": In(ceil_log2(config.parameter_words)),
                "records": Out(record_layout(config)).array(config.weight_rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        c = self.config
        bias = self._column(m, "bias", 0, [(0, c.accumulator_bits)])
        multiplier = self._column(m, "multiplier", 1, [(0, c.multiplier_bits)]) if c.multiplier_bits else None
        tail = self._column(m, "tail", 2, list(_TAIL.values()))
        for r in range(c.weight_rows):
            record = self.records[r]
            m.d.comb += [record.bias.eq(bias[r]), record.rescale.tail.eq(tail[r])]
            if multiplier is not None:
                m.d.comb += record.rescale.multiplier.eq(multiplier[r])
        return m

    def _column(self, m: Module, name: str, index: int, parts: list[tuple[int, int]]) -> list[Value]:
        """A memory of the kept `parts` (bit, width) of 32-bit word `index` of every record; the read value per record."""
        c = self.config
        width = sum(part_width for _, part_width in parts)
        m.submodules[name] = memory = Memory(shape=width * c.weight_rows, depth=c.parameter_words, init=[])
        read = memory.read_port()
        write = memory.write_port(granularity=width)
        words_per_chunk = c.bus_bits // 32
        enables, values = [], []
        for r in range(c.weight_rows):
            chunk, place = divmod(_RECORD_WORDS * r + index, words_per_chunk)
            enables.append(self.load_valid & (self.load.chunk == chunk))
            values += [self.load.data[32 * place + bit : 32 * place + bit + part_width] for bit, part_width in parts]
        m.d.comb += [
            read.en.eq(self.enable),
            read.addr.eq(self.address),
            write.addr.eq(self.load.address[: len(write.addr)]),
            write.en.eq(Cat(enables)),
            write.data.eq(Cat(values)),
        ]
        return [read.data[width * r : width * (r + 1)] for r in range(c.weight_rows)]
