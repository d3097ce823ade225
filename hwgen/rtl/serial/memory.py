"""The memories of the serial machine: one port for activations, and a table of words that are read one by one."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockSignal, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_WORDS

SINGLE_PORT_MODULE = "hwgen_single_port_memory"
RECORD_WORDS_OF_PARAMETERS = 4  # a channel's record takes so many words


def place_bits(config: HardwareConfig) -> int:
    """Bits of the number of a 32-bit word in the largest buffer: no row of a transfer that fits is longer."""
    return ceil_log2(max(config.activation_words, config.weight_words, RECORD_WORDS_OF_PARAMETERS * config.parameter_words))


class ActivationMemory(wiring.Component):
    """Words of N bytes behind one port. `write` has one bit per byte; without any, `enable` reads: `read_data` from the next cycle on."""

    def __init__(self, config: HardwareConfig) -> None:
        self._config = config
        lanes, bits = config.in_lanes, ceil_log2(config.activation_words)
        super().__init__({"enable": In(1), "write": In(lanes), "address": In(bits), "write_data": In(8 * lanes), "read_data": Out(8 * lanes)})

    def elaborate(self, platform: Any) -> Module:
        m, c = Module(), self._config
        m.submodules.memory = Instance(
            SINGLE_PORT_MODULE,
            p_WIDTH=8 * c.in_lanes,
            p_DEPTH=c.activation_words,
            p_ADDRESS_BITS=len(self.address),
            p_LANES=c.in_lanes,
            i_clk=ClockSignal(),
            i_enable=self.enable,
            i_write=self.write,
            i_address=self.address,
            i_write_data=self.write_data,
            o_read_data=self.read_data,
        )
        return m


class Table:
    """Where things lie in the table, a memory of 32-bit words: parameter records, sums that stay, and the command's record."""

    def __init__(self, config: HardwareConfig) -> None:
        self.sums = RECORD_WORDS_OF_PARAMETERS * config.parameter_words
        self.record = self.sums + max(config.accumulator_depth, COMMAND_WORDS)
        self.words = self.record + COMMAND_WORDS
        self.bits = ceil_log2(self.words)
