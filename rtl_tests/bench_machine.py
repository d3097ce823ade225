"""The machine under test with its host and its memory, whatever its bus. Environment: CONFIG, the hardware configuration as JSON."""

from __future__ import annotations

import json
import os
import random
from dataclasses import dataclass

import cocotb
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge

from hwgen.config import Bus, HardwareConfig
from hwgen.config import Machine as Kind
from hwgen.isa.fields import Region
from hwgen.isa.instructions import Command, End, Load, Store
from hwgen.isa.program import encode
from hwgen.isa.registers import ErrorCode, offset_of
from rtl_tests.axi_side import AxiSide
from rtl_tests.wishbone_side import WishboneSide

CONFIG = HardwareConfig.from_values(json.loads(os.environ["CONFIG"]))
SERIAL = CONFIG.machine is Kind.SERIAL  # it looks at no token, and its own compute engine works, not the stub
BUS, WORD = CONFIG.bus_bytes, CONFIG.in_lanes
MEMORY_BYTES = 1 << 18
SIZES = dict.fromkeys(Region, 0x7000)
# Aligned to nothing but the bus word, so that rows meet 4 KiB boundaries; others for every seed of the run.
_CHOOSER = random.Random(cocotb.RANDOM_SEED)
BASES = {region: 0x1000 + 0xA000 * region + BUS * _CHOOSER.randrange(0x2000 // BUS) for region in Region}
THOROUGH = bool(os.environ.get("HWGEN_REGRESS"))  # more seeds of every test
START, ABORT = 1, 2
BUSY, DONE, FAILED = 1, 2, 4
SEQUENCER = 3


def base(region: Region, offset: int = 0) -> int:
    return BASES[region] + offset


class Memory:
    """System memory; accesses inside `refused` are answered with an error."""

    def __init__(self, seed: int) -> None:
        self.content = bytearray(random.Random(seed).randbytes(MEMORY_BYTES))
        self.refused = range(0)

    def _check(self, address: int, size: int) -> None:
        if address < self.refused.stop and self.refused.start < address + size:
            raise PermissionError(address)

    async def read(self, address: int, length: int, **_: object) -> bytes:
        self._check(address, length)
        return bytes(self.content[address : address + length])

    async def write(self, address: int, content: bytes, **_: object) -> None:
        self._check(address, len(content))
        self.content[address : address + len(content)] = content


@dataclass
class Machine:
    """The device with its host and its memory."""

    dut: SimHandleBase
    side: AxiSide | WishboneSide
    ram: Memory

    async def write(self, name: str, value: int) -> None:
        await self.side.host.write_dword(offset_of(name), value)

    async def read(self, name: str) -> int:
        return await self.side.host.read_dword(offset_of(name))

    def memory(self, region: Region, offset: int, size: int) -> bytes:
        return bytes(self.ram.content[BASES[region] + offset : BASES[region] + offset + size])

    async def load_program(self, *commands: Command, entry: int = 0) -> None:
        program, first = encode(commands), BASES[Region.PROGRAM] + entry
        self.ram.content[first : first + len(program)] = program
        await self.write("program_entry", entry)

    async def run(self, *commands: Command, limit: int = 20000) -> int:
        """Run to the interrupt; returns the status."""
        await self.load_program(*commands)
        await self.write("control", START)
        return await self.wait(limit)

    async def wait(self, limit: int = 20000) -> int:
        for _ in range(limit):
            if self.dut.irq.value:
                break
            await RisingEdge(self.dut.clk)
        else:
            raise AssertionError(f"no interrupt in {limit} cycles")
        for _ in range(200):
            status = await self.read("status")
            if not status & BUSY:
                break
        await self.write("interrupt_status", 3)
        return status

    async def error(self) -> tuple[ErrorCode, int, int, int]:
        """code, engine, command, address"""
        error = await self.read("error")
        return ErrorCode(error & 0xFF), error >> 8, await self.read("error_command"), await self.read("error_address")


async def machine(dut: SimHandleBase, seed: int = 0) -> Machine:
    """Reset and configured; with a `seed`, every channel stalls at random."""
    ram = Memory(seed)
    side = WishboneSide(dut, ram, BUS) if CONFIG.bus is Bus.WISHBONE else AxiSide(dut, ram, BUS)
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    if seed:
        side.add_stalls(seed)
    it = Machine(dut, side, ram)
    for region in Region:
        await it.write(f"{region.name.lower()}_base", BASES[region])
        await it.write(f"{region.name.lower()}_size", SIZES[region])
    await it.write("interrupt_enable", 3)
    return it


def copy(words: int, offset: int = 0) -> tuple[Command, ...]:
    """INPUT to OUTPUT by way of the activation buffer."""
    load = Load(signal_store=1, region=Region.INPUT, memory_offset=offset, row_bytes=words * WORD)
    return load, Store(wait_load=1, region=Region.OUTPUT, memory_offset=offset, row_bytes=words * WORD)


async def check_copy(it: Machine, words: int = 20) -> None:
    """The machine works: a transfer of new contents succeeds."""
    first = BASES[Region.INPUT]
    it.ram.content[first : first + words * WORD] = random.Random(words).randbytes(words * WORD)
    assert await it.run(*copy(words), End()) == DONE, await it.error()
    assert it.memory(Region.OUTPUT, 0, words * WORD) == it.memory(Region.INPUT, 0, words * WORD)
