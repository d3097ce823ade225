"""The parameter buffer: words of R records, of each record only the bits that the hardware needs."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import PARAMETER_BYTES, PARAMETER_OFFSETS, PARAMETERS, HardwareConfig
from hwgen.rtl.command import load_write_layout

_TAIL = ("shift", "low", "high", "zero_point")  # stand in one 32-bit word of the record
_RECORD_WORDS = PARAMETER_BYTES // 4


def rescale_layout(config: HardwareConfig) -> data.StructLayout:
    """What requantization needs of a channel; the names are those of `arith.Requantize`."""
    tail = data.StructLayout({name: PARAMETERS[name].bits for name in _TAIL})
    return data.StructLayout({**({"multiplier": config.multiplier_bits} if config.multiplier_bits else {}), "tail": tail})


def record_layout(config: HardwareConfig) -> data.StructLayout:
    return data.StructLayout({"bias": config.accumulator_bits, "rescale": rescale_layout(config)})


class ParameterBuffer(wiring.Component):
    """Members: `load_valid`, `load` write one bus word; `enable`, `address` read; `records` is the answer.

    Timing: `records` follows `enable` by SET_READ_CYCLES. Reading and loading never wait for each other.
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
        bias = self._column(m, "bias", {"bias": c.accumulator_bits})
        multiplier = self._column(m, "multiplier", {"multiplier": c.multiplier_bits}) if c.multiplier_bits else None
        tail = self._column(m, "tail", {name: PARAMETERS[name].bits for name in _TAIL})
        for r in range(c.weight_rows):
            record = self.records[r]
            m.d.comb += [record.bias.eq(bias[r]), record.rescale.tail.eq(tail[r])]
            if multiplier is not None:
                m.d.comb += record.rescale.multiplier.eq(multiplier[r])
        return m

    def _column(self, m: Module, name: str, widths: dict[str, int]) -> list[Value]:
        """A memory of the lowest `widths` bits of some parameters, which share a 32-bit word of the record; the read value per record."""
        c = self.config
        width = sum(widths.values())
        (index,) = {PARAMETER_OFFSETS[part] // 4 for part in widths}
        bits = {part: 8 * (PARAMETER_OFFSETS[part] % 4) for part in widths}
        m.submodules[name] = memory = Memory(shape=width * c.weight_rows, depth=c.parameter_words, init=[])
        read = memory.read_port()
        write = memory.write_port(granularity=width)
        words_per_chunk = c.bus_bits // 32
        enables, values = [], []
        for r in range(c.weight_rows):
            chunk, place = divmod(_RECORD_WORDS * r + index, words_per_chunk)
            enables.append(self.load_valid & (self.load.chunk == chunk))
            values += [self.load.data[32 * place + bits[part] :][:kept] for part, kept in widths.items()]
        m.d.comb += [
            read.en.eq(self.enable),
            read.addr.eq(self.address),
            write.addr.eq(self.load.address[: len(write.addr)]),
            write.en.eq(Cat(enables)),
            write.data.eq(Cat(values)),
        ]
        word = Signal(width * c.weight_rows, name=f"word_{name}", reset_less=True)
        m.d.sync += word.eq(read.data)
        return [word[width * r : width * (r + 1)] for r in range(c.weight_rows)]
