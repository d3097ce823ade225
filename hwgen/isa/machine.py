"""Memories of the simulated accelerator, and how numbers lie in them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from hwgen.arith import SHIFT
from hwgen.config import PARAMETER_BYTES, TABLE_ENTRIES, TABLE_LANES, HardwareConfig
from hwgen.errors import HwgenError
from hwgen.isa.fields import BUFFER_ADDRESS_BITS, Region
from hwgen.isa.registers import ErrorCode
from hwgen.layout import Int8Array, Int64Array, parameters_of

ADDRESS_MASK = (1 << BUFFER_ADDRESS_BITS) - 1


class ProgramError(HwgenError):
    """The machine stops: what the error registers would hold."""

    def __init__(self, code: ErrorCode, command: int, address: int, detail: str) -> None:
        self.code, self.command, self.address = code, command, address
        super().__init__(f"program stopped at command {command}: {code.name}, address {address:#x}; {detail}")


@dataclass(kw_only=True, eq=False)
class Memories:
    """Buffers (words, bytes per word) as int8 or bytes, and the regions of system memory as uint8 arrays.

    `accumulator`: sums (D pixels, M) that a CONV with `keep` left; the first `kept_pixels` of them mean something.
    """

    config: HardwareConfig
    activation: Int8Array = field(init=False)
    weight: Int8Array = field(init=False)
    parameter: npt.NDArray[np.uint8] = field(init=False)
    table: Int8Array = field(init=False)
    accumulator: Int64Array = field(init=False)
    kept_pixels: int = field(init=False, default=0)
    regions: dict[Region, npt.NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        c = self.config
        self.activation = np.zeros((c.activation_words, c.in_lanes), np.int8)
        self.weight = np.zeros((c.weight_words, c.weight_word_bytes), np.int8)
        self.parameter = np.zeros((c.parameter_words, c.parameter_word_bytes), np.uint8)
        self.table = np.zeros((c.table_words, c.bus_bytes), np.int8)
        self.accumulator = np.zeros((c.accumulator_depth, c.out_lanes), np.int64)

    def fill_randomly(self, seed: int) -> None:
        """Give every buffer word an arbitrary content: what a program must not depend on."""
        c, rng = self.config, np.random.default_rng(seed)
        for memory in (self.activation, self.weight, self.parameter, self.table):
            memory[...] = rng.integers(0, 256, memory.shape, np.uint8).view(memory.dtype)
        self.accumulator[...] = rng.integers(c.accumulator.min, c.accumulator.max, self.accumulator.shape)

    def weight_sets(self, address: int, count: int) -> Int8Array:
        """`count` consecutive weight sets: (count, M, N)."""
        c = self.config
        words = (address + np.arange(count * c.weight_load_cycles)) % c.weight_words
        return self.weight[words].reshape(count, c.out_lanes, c.in_lanes)

    def table_entries(self, address: int) -> Int8Array:
        """(256,) the table that begins at word `address`."""
        words = (address + np.arange(TABLE_ENTRIES // TABLE_LANES)) % self.config.table_words
        return self.table[words, :TABLE_LANES].reshape(-1)

    def parameter_sets(self, address: int, count: int) -> dict[str, Int64Array]:
        """`count` consecutive parameter sets, each array (count, M)."""
        c = self.config
        words = (address + np.arange(count * c.weight_load_cycles)) % c.parameter_words
        found = parameters_of(self.parameter[words].reshape(count, c.out_lanes * PARAMETER_BYTES))
        # Of unsigned parameters the hardware keeps the bits that it computes with.
        return found | {"multiplier": found["multiplier"] & ((1 << c.multiplier_bits) - 1), "shift": found["shift"] & SHIFT.max}
