"""cocotb bench of the accelerator's buses, with cocotbext-axi as independent master and memory, and a stub in place of the compute engine.

Environment: CONFIG, the hardware configuration as JSON.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiSlave

from hwgen.config import HardwareConfig
from hwgen.isa.fields import COMMAND_BYTES, Buffer, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.machine import Memories
from hwgen.isa.program import encode
from hwgen.isa.registers import IDENTITY, REGISTERS, VERSION, Access, ErrorCode, offset_of
from hwgen.isa.simulate import simulate

CONFIG = HardwareConfig.from_values(json.loads(os.environ["CONFIG"]))
BUS, WORD = CONFIG.bus_bytes, CONFIG.in_lanes
MEMORY_BYTES = 1 << 18
# Aligned to nothing but the bus word, so that rows meet 4 KiB boundaries.
BASES = {Region.PROGRAM: 0x01FC0, Region.WEIGHTS: 0x0A0C0, Region.ARENA: 0x14F80, Region.INPUT: 0x1C040, Region.OUTPUT: 0x26FC0}
SIZES = dict.fromkeys(Region, 0x7000)
START, ABORT = 1, 2
BUSY, DONE, FAILED = 1, 2, 4
SEQUENCER = 3


class Memory:
    """System memory; accesses inside `refused` are answered with SLVERR."""

    def __init__(self, seed: int) -> None:
        self.content = bytearray(random.Random(seed).randbytes(MEMORY_BYTES))
        self.refused = range(0)

    def _check(self, address: int, size: int) -> None:
        if any(at in self.refused for at in range(address, address + size)):
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
    host: AxiLiteMaster
    slave: AxiSlave
    ram: Memory

    async def write(self, name: str, value: int) -> None:
        await self.host.write_dword(offset_of(name), value)

    async def read(self, name: str) -> int:
        return await self.host.read_dword(offset_of(name))

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
    host, ram = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.clk, dut.rst), Memory(seed)
    slave = AxiSlave(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, target=ram)
    for part in (host.write_if, host.read_if, slave.write_if, slave.read_if):
        part.log.setLevel("ERROR")
    Clock(dut.clk, 10, unit="ns").start()
    dut.rst.value = 1
    await ClockCycles(dut.clk, 3)
    dut.rst.value = 0
    await RisingEdge(dut.clk)
    cocotb.start_soon(check_protocol(dut))
    if seed:
        add_stalls(host, slave, seed)
    it = Machine(dut, host, slave, ram)
    for region in Region:
        await it.write(f"{region.name.lower()}_base", BASES[region])
        await it.write(f"{region.name.lower()}_size", SIZES[region])
    await it.write("interrupt_enable", 3)
    return it


def noise(seed: int, share: float) -> Iterator[bool]:
    chooser = random.Random(seed)
    while True:
        yield chooser.random() < share


def add_stalls(host: AxiLiteMaster, slave: AxiSlave, seed: int) -> None:
    channels = [slave.read_if.ar_channel, slave.read_if.r_channel, slave.write_if.aw_channel, slave.write_if.w_channel, slave.write_if.b_channel]
    channels += [host.write_if.aw_channel, host.write_if.w_channel, host.write_if.b_channel, host.read_if.ar_channel, host.read_if.r_channel]
    for number, channel in enumerate(channels):
        channel.set_pause_generator(noise(seed * 100 + number, random.Random(seed).choice([0.2, 0.5, 0.8])))


async def check_protocol(dut: SimHandleBase) -> None:
    """What AXI4 asks of a master: an offer stays as it is until it is taken; INCR bursts within 4 KiB, of whole bus words."""
    payloads = {"ar": ("addr", "len", "size", "burst"), "aw": ("addr", "len", "size", "burst"), "w": ("data", "strb", "last")}
    offered: dict[str, tuple[int, ...]] = {}
    while True:
        await RisingEdge(dut.clk)
        for channel, names in payloads.items():
            valid, ready = (int(getattr(dut, f"m_axi_{channel}{name}").value) for name in ("valid", "ready"))
            payload = tuple(int(getattr(dut, f"m_axi_{channel}{name}").value) for name in names) if valid else ()
            before = offered.get(channel)
            assert before in (None, payload), f"{channel}: offer changed from {before} to {payload}"
            offered.pop(channel, None)
            if valid and not ready:
                offered[channel] = payload
            if valid and channel != "w":
                address, length, size, burst = payload
                assert burst == 1 and 1 << size == BUS and address % BUS == 0 and length < 16
                assert address // 4096 == (address + (length + 1) * BUS - 1) // 4096, f"burst at {address:#x} crosses 4 KiB"


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


@cocotb.test()
async def registers(dut: SimHandleBase) -> None:
    it = await machine(dut, seed=1)
    assert await it.read("identity") == IDENTITY and await it.read("version") == VERSION
    assert await it.read("config_hash") == int(CONFIG.hash()[-8:], 16)
    known = {register.offset: register for register in REGISTERS}
    expected = {offset: await it.host.read_dword(offset) for offset in range(0, 256, 4)}
    assert all(value == 0 for offset, value in expected.items() if offset not in known)
    for offset in range(0, 256, 4):
        register = known.get(offset)
        if register is None or register.access is Access.READ_ONLY:
            await it.host.write_dword(offset, 0xFFFFFFFF)
        elif register.name != "control":
            strobes = random.Random(offset).sample(range(4), 2)
            for byte in strobes:
                await it.host.write(offset + byte, bytes([0xA0 + byte]))
                if register.access is Access.READ_WRITE:
                    expected[offset] = expected[offset] & ~(0xFF << 8 * byte) | (0xA0 + byte) << 8 * byte
            stored = 2 if register.name == "interrupt_enable" else CONFIG.address_bits - 32 if "high" in register.name else 32
            expected[offset] &= (1 << stored) - 1
    assert expected == {offset: await it.host.read_dword(offset) for offset in expected}


@cocotb.test()
async def interrupt_is_cleared_by_writing_one(dut: SimHandleBase) -> None:
    it = await machine(dut)
    await it.load_program(End())
    await it.write("control", START)
    await ClockCycles(dut.clk, 300)
    assert dut.irq.value == 1 and await it.read("interrupt_status") == 1
    await it.write("interrupt_status", 2)
    assert dut.irq.value == 1
    await it.write("interrupt_enable", 2)
    assert dut.irq.value == 0 and await it.read("interrupt_status") == 1
    await it.write("interrupt_status", 1)
    await it.write("interrupt_enable", 3)
    assert dut.irq.value == 0 and await it.read("interrupt_status") == 0


def random_transfers(seed: int) -> tuple[Command, ...]:
    """Loads of random rectangles into all buffers; now and then a store, with the tokens that keep the order."""
    chooser, program = random.Random(seed), []
    depth = {Buffer.ACTIVATION: CONFIG.activation_words, Buffer.WEIGHT: CONFIG.weight_words, Buffer.PARAMETER: CONFIG.parameter_words}
    for number in range(12):
        store = number % 3 == 2
        buffer = Buffer.ACTIVATION if store else chooser.choice(list(Buffer))
        words_bytes = {Buffer.ACTIVATION: WORD, Buffer.WEIGHT: CONFIG.weight_word_bytes, Buffer.PARAMETER: CONFIG.parameter_word_bytes}[buffer]
        rows = chooser.randint(1, 5)
        row_bytes = BUS * chooser.choice([1, 2, 3, chooser.randint(1, 40)])
        words = -(-row_bytes // words_bytes)
        stride = chooser.randint(words, max(words, depth[buffer] // rows - 1))
        first = chooser.randint(0, max(0, depth[buffer] - rows * stride))
        if first + (rows - 1) * stride + words > depth[buffer]:
            rows, first = 1, 0
        common = {
            "memory_offset": BUS * chooser.randint(0, 900), "buffer_address": first, "row_bytes": row_bytes, "rows": rows,
            "memory_row_stride": row_bytes + BUS * chooser.randint(0, 20), "buffer_row_stride": stride,
        }  # fmt: skip
        if store:
            program += [Store(wait_load=1, signal_load=1, region=chooser.choice([Region.OUTPUT, Region.ARENA]), **common)]
        else:
            order = {"wait_store": int(number % 3 == 0 and number > 0), "signal_store": int(number % 3 == 1)}
            program += [Load(region=chooser.choice([Region.INPUT, Region.WEIGHTS]), destination=buffer, **order, **common)]
    return *program, End()


@cocotb.test()
@cocotb.parametrize(seed=range(6))
async def transfers_agree_with_the_instruction_simulator(dut: SimHandleBase, seed: int) -> None:
    it = await machine(dut, seed)
    first, *others = random_transfers(seed)
    fill = Load(signal_store=1, region=Region.INPUT, row_bytes=CONFIG.activation_words * WORD)
    everything = (fill, Store(wait_load=1, signal_load=1, region=Region.ARENA, row_bytes=WORD), replace(first, wait_store=1), *others)
    memories = Memories(config=CONFIG)
    memories.regions = {region: np.frombuffer(it.memory(region, 0, SIZES[region]), np.uint8).copy() for region in Region}
    program = encode(everything)
    memories.regions[Region.PROGRAM][: len(program)] = np.frombuffer(program, np.uint8)
    before = bytes(it.ram.content)
    simulate(memories)
    assert await it.run(*everything) == DONE, await it.error()
    for region in Region:
        assert it.memory(region, 0, SIZES[region]) == memories.regions[region].tobytes(), region.name
    outside = [at for at in range(MEMORY_BYTES) if not any(BASES[r] <= at < BASES[r] + SIZES[r] for r in Region)]
    assert all(it.ram.content[at] == before[at] for at in outside)


@cocotb.test()
@cocotb.parametrize(seed=[0, 3])
async def tokens_order_load_compute_store(dut: SimHandleBase, seed: int) -> None:
    """The stub adds the first weight word to activation words, one command after the other; stores follow each."""
    it = await machine(dut, seed)
    count, program = 6, [Load(region=Region.WEIGHTS, destination=Buffer.WEIGHT, buffer_address=3, row_bytes=CONFIG.weight_word_bytes)]
    for k in range(count):
        program += [Load(signal_compute=1, region=Region.INPUT, memory_offset=k * WORD, buffer_address=k, row_bytes=WORD)]
        order = {"wait_load": 1, "wait_compute": int(k > 0), "signal_compute": 1, "signal_store": 1}
        conv = Conv(**order, input_address=k, output_address=100 + k, weight_address=3, pixels_per_tile=5 + 9 * k)
        program += [conv, Store(wait_compute=1, region=Region.OUTPUT, memory_offset=k * WORD, buffer_address=100 + k, row_bytes=WORD)]
    assert await it.run(*program, End()) == DONE, await it.error()
    weight = int.from_bytes(it.memory(Region.WEIGHTS, 0, CONFIG.weight_word_bytes), "little")
    for k in range(count):
        found, start = (int.from_bytes(it.memory(region, k * WORD, WORD), "little") for region in (Region.OUTPUT, Region.INPUT))
        assert found == (start + weight) % (1 << 8 * WORD), k
    assert await it.read("commands") == len(program) + 1 and await it.read("array_busy") > 100


def base(region: Region, offset: int = 0) -> int:
    return BASES[region] + offset


def illegal_commands() -> list[tuple[Command, ErrorCode, int]]:
    """Command, expected code and address."""
    size, words = SIZES[Region.INPUT], CONFIG.activation_words
    row = {"region": Region.INPUT, "row_bytes": BUS}
    store = {"region": Region.OUTPUT, "row_bytes": BUS}
    return [
        (Load(**row, memory_offset=size), ErrorCode.REGION, base(Region.INPUT, size)),
        (Load(region=Region.INPUT, row_bytes=size + BUS), ErrorCode.REGION, base(Region.INPUT)),
        (Load(**row, memory_offset=(1 << 32) - BUS), ErrorCode.REGION, (base(Region.INPUT) - BUS) % (1 << 32)),
        (Load(region=Region.INPUT, memory_offset=BUS, row_bytes=(1 << 32) - BUS), ErrorCode.REGION, base(Region.INPUT, BUS)),
        (Load(**row, memory_offset=BUS, rows=2, memory_row_stride=(1 << 32) - BUS), ErrorCode.REGION, base(Region.INPUT)),
        (Load(**row, rows=3, memory_row_stride=size // 2), ErrorCode.REGION, base(Region.INPUT, size)),
        (Load(region=7, row_bytes=BUS), ErrorCode.REGION, None),
        (Load(region=Region.INPUT, row_bytes=0), ErrorCode.ALIGNMENT, base(Region.INPUT)),
        (Load(**row, rows=0), ErrorCode.ALIGNMENT, base(Region.INPUT)),
        (Load(**row, memory_offset=1), ErrorCode.ALIGNMENT, base(Region.INPUT, 1)),
        (Load(region=Region.INPUT, row_bytes=BUS + 1), ErrorCode.ALIGNMENT, base(Region.INPUT)),
        (Load(**row, rows=2, memory_row_stride=BUS // 2), ErrorCode.ALIGNMENT, base(Region.INPUT)),
        (Load(**row, destination=3), ErrorCode.BUFFER, 0),
        (Load(**row, buffer_address=words), ErrorCode.BUFFER, words),
        (Load(**row, buffer_address=(1 << 24) - 1), ErrorCode.BUFFER, (1 << 24) - 1),
        (Load(region=Region.INPUT, row_bytes=2 * WORD, buffer_address=words - 1), ErrorCode.BUFFER, words - 1),
        (Load(**row, buffer_address=1, rows=2, buffer_row_stride=(1 << 24) - 1), ErrorCode.BUFFER, 1 << 24),
        (Load(**row, destination=Buffer.WEIGHT, buffer_address=CONFIG.weight_words), ErrorCode.BUFFER, CONFIG.weight_words),
        (Load(**row, destination=Buffer.PARAMETER, buffer_address=CONFIG.parameter_words), ErrorCode.BUFFER, CONFIG.parameter_words),
        (Store(**store, memory_offset=SIZES[Region.OUTPUT]), ErrorCode.REGION, base(Region.OUTPUT, SIZES[Region.OUTPUT])),
        (Store(**store, buffer_address=words), ErrorCode.BUFFER, words),
        (Store(region=Region.OUTPUT, row_bytes=1), ErrorCode.ALIGNMENT, base(Region.OUTPUT)),
    ]


@cocotb.test()
@cocotb.parametrize(seed=[0, 4])
async def illegal_transfers_stop_the_machine_and_touch_nothing(dut: SimHandleBase, seed: int) -> None:
    it = await machine(dut, seed)
    await it.write("input_size", SIZES[Region.INPUT] + BUS - 1)  # part of a bus word does not count
    for command, code, address in illegal_commands():
        program = (*copy(3), command, *copy(5), End())
        await it.load_program(*program)
        before = bytes(it.ram.content)
        assert await it.run(*program) == FAILED, command
        found = await it.error()
        assert found[:3] == (code, command.engine, 2), (command, found)
        assert address is None or found[3] == address % (1 << 32), (command, found)
        first = BASES[Region.OUTPUT]
        assert bytes(it.ram.content)[:first] == before[:first] and bytes(it.ram.content)[first + 5 * WORD :] == before[first + 5 * WORD :]
    await check_copy(it)


@cocotb.test()
async def region_at_the_end_of_the_address_space(dut: SimHandleBase) -> None:
    """The last word is reachable, and nothing wraps to address 0."""
    it = await machine(dut)
    top = (1 << CONFIG.address_bits) - 2 * BUS
    it.slave.write_if.target = it.slave.read_if.target = wrapped = WrappingMemory(it.ram)
    await it.write("output_base", top % (1 << 32))
    await it.write("output_base_high", top >> 32)
    program = (*copy(2)[:1], Store(wait_load=1, region=Region.OUTPUT, row_bytes=2 * BUS), End())
    assert await it.run(*program) == DONE, await it.error()
    assert wrapped.written == [top + k * BUS for k in range(2)]
    assert await it.run(Store(region=Region.OUTPUT, row_bytes=3 * BUS), End()) == FAILED
    assert await it.error() == (ErrorCode.REGION, Engine.STORE, 0, top % (1 << 32))


class WrappingMemory:
    """Notes where writes go; keeps none that do not exist in the memory beneath."""

    def __init__(self, beneath: Memory) -> None:
        self.beneath, self.written = beneath, []

    async def read(self, address: int, length: int, **_: object) -> bytes:
        return await self.beneath.read(address, length)

    async def write(self, address: int, content: bytes, **_: object) -> None:
        self.written.append(address)


@cocotb.test()
@cocotb.parametrize(seed=[0, 5])
async def bus_errors_stop_the_machine(dut: SimHandleBase, seed: int) -> None:
    it = await machine(dut, seed)
    for region, engine, code, command in (
        (Region.INPUT, Engine.LOAD, ErrorCode.BUS_READ, 0),
        (Region.OUTPUT, Engine.STORE, ErrorCode.BUS_WRITE, 1),
        (Region.PROGRAM, SEQUENCER, ErrorCode.BUS_READ, 1),
    ):
        at = base(region, COMMAND_BYTES if region is Region.PROGRAM else 7 * BUS)
        it.ram.refused = range(at, at + BUS)
        assert await it.run(*copy(20), *copy(20), End()) == FAILED
        found = await it.error()
        assert found[:3] == (code, engine, command), found
        assert found[3] == at if code is ErrorCode.BUS_READ else at - 16 * BUS < found[3] <= at, found
        it.ram.refused = range(0)
        await check_copy(it)


@cocotb.test()
async def unknown_commands_stop_the_machine(dut: SimHandleBase) -> None:
    it = await machine(dut)
    for opcode in (0x00, 0x04, 0x11, 0x81, 0xFF):
        await it.load_program(*copy(4), End(), End())
        it.ram.content[base(Region.PROGRAM, 2 * COMMAND_BYTES)] = opcode
        await it.write("control", START)
        assert await it.wait() == FAILED
        assert await it.error() == (ErrorCode.UNKNOWN_COMMAND, SEQUENCER, 2, base(Region.PROGRAM, 2 * COMMAND_BYTES))
    await check_copy(it)


@cocotb.test()
async def program_at_the_end_of_its_region(dut: SimHandleBase) -> None:
    """END may be the region's last record, though the fetch runs ahead; without END the program stops at the region's end."""
    it = await machine(dut)
    entry = SIZES[Region.PROGRAM] - 3 * COMMAND_BYTES
    it.ram.refused = range(base(Region.PROGRAM, SIZES[Region.PROGRAM]), base(Region.PROGRAM, SIZES[Region.PROGRAM]) + COMMAND_BYTES)
    for last, status in ((End(), DONE), (Load(region=Region.INPUT, row_bytes=BUS), FAILED)):
        await it.load_program(*copy(2), last, entry=entry)
        await it.write("control", START)
        assert await it.wait() == status
    assert await it.error() == (ErrorCode.REGION, SEQUENCER, 3, base(Region.PROGRAM, SIZES[Region.PROGRAM]))
    for bad, code in ((SIZES[Region.PROGRAM] - COMMAND_BYTES + BUS, ErrorCode.REGION), (1, ErrorCode.ALIGNMENT), ((1 << 32) - BUS, ErrorCode.REGION)):
        await it.write("program_entry", bad)
        await it.write("control", START)
        assert await it.wait() == FAILED
        assert await it.error() == (code, SEQUENCER, 0, (base(Region.PROGRAM) + bad) % (1 << 32))
    it.ram.refused = range(0)
    await check_copy(it)


@cocotb.test()
async def start_after_abort(dut: SimHandleBase) -> None:
    """failures.md: start after abort; the abort falls into every phase of a run under stalls."""
    it = await machine(dut, seed=6)
    slow = Conv(wait_load=1, signal_store=1, pixels_per_tile=60)
    start = Load(signal_compute=1, region=Region.INPUT, row_bytes=BUS)
    last = Store(wait_compute=1, region=Region.OUTPUT, row_bytes=BUS)
    program = (*copy(60), *copy(60)[:1], start, slow, *copy(60), last, End())
    for delay in (0, 7, 20, 45, 80, 130, 190, 260, 340, 430, 530):
        await it.load_program(*program)
        source, before = it.memory(Region.INPUT, 0, 60 * WORD), it.memory(Region.OUTPUT, 0, 60 * WORD)
        await it.write("control", START)
        await ClockCycles(dut.clk, delay)
        await it.write("control", ABORT)
        assert await it.wait() in (FAILED, DONE), delay
        after = it.memory(Region.OUTPUT, 0, 60 * WORD)
        assert all(found in expected for found, *expected in zip(after, before, source, strict=True)), "an unfinished store leaves old bytes, not wrong ones"
        code, engine, *_ = await it.error()
        assert (code, engine) in ((ErrorCode.ABORTED, SEQUENCER), (ErrorCode.NONE, 0)), delay
        await check_copy(it, 60)
        first = BASES[Region.INPUT]
        it.ram.content[first : first + 60 * WORD] = random.Random(delay).randbytes(60 * WORD)
    await it.write("control", ABORT)
    assert await it.read("status") == DONE, "abort while idle does nothing"


@cocotb.test()
async def two_runs_in_a_row(dut: SimHandleBase) -> None:
    """failures.md: without reset; tokens that the first run leaves behind do not reach the second, and equal runs take equal cycles."""
    it = await machine(dut)
    cycles = set()
    for _ in range(3):
        left_over = Load(signal_store=1, signal_compute=1, region=Region.INPUT, row_bytes=BUS)
        assert await it.run(left_over, End()) == DONE
        cycles.add(await it.read("cycles"))
    assert len(cycles) == 1
    await it.write("watchdog", 300)
    assert await it.run(Store(wait_load=1, region=Region.OUTPUT, row_bytes=BUS), End()) == FAILED
    assert (await it.error())[0] is ErrorCode.WATCHDOG


@cocotb.test()
async def watchdog_ends_a_deadlock(dut: SimHandleBase) -> None:
    it = await machine(dut)
    await it.write("watchdog", 500)
    assert await it.run(*copy(2), Conv(wait_store=1), End()) == FAILED
    assert await it.error() == (ErrorCode.WATCHDOG, SEQUENCER, 3, 0) and await it.read("cycles") == 501
    assert 350 < await it.read("compute_wait") < 500
    await check_copy(it)


@cocotb.test()
async def watchdog_reports_a_bus_that_never_answers(dut: SimHandleBase) -> None:
    it = await machine(dut)
    await it.write("watchdog", 400)
    read, write = it.slave.read_if, it.slave.write_if
    for channel in (read.ar_channel, read.r_channel, write.aw_channel, write.w_channel, write.b_channel):
        channel.set_pause_generator(noise(0, 1.0))
        await it.load_program(*copy(20), *copy(20), End())
        await it.write("control", START)
        assert await it.wait(500) == FAILED | BUSY
        await it.write("control", START)
        assert await it.read("status") == FAILED | BUSY, "no start while busy"
        channel.clear_pause_generator()
        channel.pause = False
        for _ in range(400):
            await RisingEdge(dut.clk)
        assert await it.read("status") == FAILED
        assert (await it.error())[0] is ErrorCode.WATCHDOG
        await check_copy(it)


@cocotb.test()
async def too_many_tokens_stop_the_machine(dut: SimHandleBase) -> None:
    it = await machine(dut)
    await it.write("program_size", 257 * COMMAND_BYTES)  # reaches into the weight region, which is not used here
    program = [Load(signal_store=1, region=Region.INPUT, row_bytes=BUS)] * 255
    assert await it.run(*program, End()) == DONE
    assert await it.run(*program, program[0], End()) == FAILED
    assert await it.error() == (ErrorCode.TOKENS, Engine.LOAD, 255, 0)
