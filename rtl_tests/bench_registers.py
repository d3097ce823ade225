"""cocotb bench of the registers: every access that a host can make."""

from __future__ import annotations

import random
from typing import Any

import cocotb
from cocotb.handle import SimHandleBase
from cocotb.triggers import ClockCycles

from hwgen.config import Bus
from hwgen.isa.instructions import End
from hwgen.isa.registers import IDENTITY, REGISTERS, VERSION, Access, offset_of
from rtl_tests.bench_machine import CONFIG, START, Machine, machine


@cocotb.test()
async def registers(dut: SimHandleBase) -> None:
    it = await machine(dut, seed=1)
    assert await it.read("identity") == IDENTITY and await it.read("version") == VERSION
    assert await it.read("config_hash") == int(CONFIG.hash()[-8:], 16)
    known = {register.offset: register for register in REGISTERS}
    expected = {offset: await it.side.host.read_dword(offset) for offset in range(0, 256, 4)}
    assert all(value == 0 for offset, value in expected.items() if offset not in known)
    for offset in range(0, 256, 4):
        register = known.get(offset)
        if register is None or register.access is Access.READ_ONLY:
            await it.side.host.write_dword(offset, 0xFFFFFFFF)
        elif register.name != "control":
            strobes = random.Random(offset).sample(range(4), 2)
            for byte in strobes:
                await it.side.host.write(offset + byte, bytes([0xA0 + byte]))
                if register.access is Access.READ_WRITE:
                    expected[offset] = expected[offset] & ~(0xFF << 8 * byte) | (0xA0 + byte) << 8 * byte
            stored = 2 if register.name == "interrupt_enable" else CONFIG.address_bits - 32 if "high" in register.name else 32
            expected[offset] &= (1 << stored) - 1
    assert expected == {offset: await it.side.host.read_dword(offset) for offset in expected}


def held_channels(it: Machine) -> dict[str, Any]:
    write = it.side.host.write_if
    return {"aw": write.aw_channel, "w": write.w_channel, "b": write.b_channel}


@cocotb.test(skip=CONFIG.bus is not Bus.AXI4)
@cocotb.parametrize(held=[("aw",), ("w",), ("aw", "w"), ("b",)])
async def parts_of_a_write_that_come_apart(dut: SimHandleBase, held: tuple[str, ...]) -> None:
    """Address first, data first, both late: a write happens once both are there, and reads go on meanwhile. A late B holds up later writes."""
    it = await machine(dut)
    await it.write("watchdog", 0x51)
    for name in held:
        held_channels(it)[name].pause = True
    writes = [cocotb.start_soon(it.write("watchdog", value)) for value in (0x52, 0x53)]
    await ClockCycles(dut.clk, 20)
    seen = await it.read("watchdog")
    assert seen == (0x52 if held == ("b",) else 0x51)
    assert await it.read("identity") == IDENTITY
    for name in held:
        held_channels(it)[name].pause = False
        await ClockCycles(dut.clk, 10)
    for write in writes:
        await write
    assert await it.read("watchdog") == 0x53


@cocotb.test()
@cocotb.parametrize(seed=range(3))
async def accesses_back_to_back(dut: SimHandleBase, seed: int) -> None:
    """Random writes of whole words and single bytes, known and unknown offsets, and reads, against a model."""
    it, chooser = await machine(dut, seed), random.Random(seed)
    names = [register.name for register in REGISTERS if register.access is Access.READ_WRITE and not register.name.endswith("_base_high")]
    model = {offset_of(name): await it.read(name) for name in names if name != "interrupt_enable"}
    for _ in range(60):
        offset, value = chooser.choice([*model, 0x3C, 0xFC]), chooser.getrandbits(32)
        kind = chooser.randrange(3)
        if kind == 0:
            assert await it.side.host.read_dword(offset) == model.get(offset, 0)
        elif kind == 1:
            await it.side.host.write_dword(offset, value)
            if offset in model:
                model[offset] = value
        else:
            lane = chooser.randrange(4)
            await it.side.host.write(offset + lane, bytes([value & 255]))
            if offset in model:
                model[offset] = model[offset] & ~(255 << 8 * lane) | (value & 255) << 8 * lane
    assert {offset: await it.side.host.read_dword(offset) for offset in model} == model


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
