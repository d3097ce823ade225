"""cocotb bench of all that stops the machine: illegal commands, errors of the bus, aborts, the watchdog. Afterwards it works again."""

from __future__ import annotations

import random

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles, RisingEdge

from hwgen.isa.fields import COMMAND_BYTES, Buffer, Engine, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.registers import ErrorCode
from rtl_tests.bench_machine import (
    ABORT,
    BASES,
    BUS,
    BUSY,
    CONFIG,
    DONE,
    FAILED,
    SEQUENCER,
    SERIAL,
    SIZES,
    START,
    THOROUGH,
    WORD,
    Memory,
    base,
    check_copy,
    copy,
    machine,
)


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
@cocotb.parametrize(seed=[4, 0] if THOROUGH else [4])
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
    wrapped = WrappingMemory(it.ram)
    it.side.set_memory(wrapped)
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


def positions(first: int, words: int) -> list[int]:
    """Addresses of bus words in a transfer from `first`: its first and last, those at the ends of a burst and in the middle of one."""
    boundary = next(k for k in range(1, 17) if (first // BUS + k) % 16 == 0)
    return [first + BUS * k for k in sorted({0, boundary - 1, boundary, boundary + 8, boundary + 15, words - 1})]


def error_cases(words: int) -> list[tuple[int, Engine | int, ErrorCode, int, int | None]]:
    """Address that answers an error, and what follows: engine, code, command, address (None: of the burst)."""
    cases: list[tuple[int, Engine | int, ErrorCode, int, int | None]] = []
    for command, region in enumerate((Region.WEIGHTS, Region.INPUT)):
        cases += [(at, Engine.LOAD, ErrorCode.BUS_READ, command, at) for at in positions(base(region), words)]
    cases += [(at, Engine.STORE, ErrorCode.BUS_WRITE, 2, None) for at in positions(base(Region.OUTPUT), words)]
    for record in (0, 1, 3):
        for at in (0, COMMAND_BYTES - BUS):
            place = base(Region.PROGRAM, record * COMMAND_BYTES)
            cases.append((place + at, SEQUENCER, ErrorCode.BUS_READ, record, place))
    return cases


@cocotb.test()
@cocotb.parametrize(seed=[5, 0] if THOROUGH else [5])
async def bus_errors_stop_the_machine(dut: SimHandleBase, seed: int) -> None:
    """At every place: program, weights, input, output; first, middle and last word of first, middle and last burst."""
    it, words = await machine(dut, seed), 44
    program = (Load(region=Region.WEIGHTS, destination=Buffer.WEIGHT, row_bytes=words * BUS), *copy(words * BUS // WORD), End())
    for at, engine, code, command, address in error_cases(words):
        it.ram.refused = range(at, at + BUS)
        assert await it.run(*program) == FAILED, hex(at)
        found = await it.error()
        assert found[:3] == (code, engine, command), (hex(at), found)
        assert found[3] == address if address is not None else at - 16 * BUS < found[3] <= at, (hex(at), found)
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
    for delay in range(0, 600, 10) if THOROUGH else (0, 20, 80, 190, 340):
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
    endless = Conv(output_rows=60) if SERIAL else Store(wait_load=1, region=Region.OUTPUT, row_bytes=BUS)
    assert await it.run(endless, End()) == FAILED
    assert await it.error() == (ErrorCode.WATCHDOG, SEQUENCER, 0 if SERIAL else 1, 0)
    assert await it.read("cycles") == 301


@cocotb.test(skip=SERIAL)
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
    for way in it.side.ways:
        it.side.block(way)
        await it.load_program(*copy(20), *copy(20), End())
        await it.write("control", START)
        assert await it.wait(500) == FAILED | BUSY
        await it.write("control", START)
        assert await it.read("status") == FAILED | BUSY, "no start while busy"
        it.side.release(way)
        for _ in range(400):
            await RisingEdge(dut.clk)
        assert await it.read("status") == FAILED
        assert (await it.error())[0] is ErrorCode.WATCHDOG
        await check_copy(it)


@cocotb.test(skip=SERIAL or (BUS < 8 and not THOROUGH))
async def too_many_tokens_stop_the_machine(dut: SimHandleBase) -> None:
    it = await machine(dut)
    await it.write("program_size", 257 * COMMAND_BYTES)  # reaches into the weight region, which is not used here
    program = [Load(signal_store=1, region=Region.INPUT, row_bytes=BUS)] * 255
    assert await it.run(*program, End()) == DONE
    assert await it.run(*program, program[0], End()) == FAILED
    assert await it.error() == (ErrorCode.TOKENS, Engine.LOAD, 255, 0)
    for giving in (Conv(signal_store=1, pixels_per_tile=1), Store(signal_load=1, region=Region.OUTPUT, row_bytes=BUS)):
        assert await it.run(*[giving] * 256, End()) == FAILED
        assert await it.error() == (ErrorCode.TOKENS, giving.engine, 255, 0)
