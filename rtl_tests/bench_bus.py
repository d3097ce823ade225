"""cocotb bench of transfers, on an independent memory with random back-pressure; a stub stands in place of the compute engine."""

from __future__ import annotations

import random
from dataclasses import replace

import cocotb
import numpy as np
from cocotb.handle import SimHandleBase

from hwgen.isa.fields import Buffer, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.machine import Memories
from hwgen.isa.program import encode
from hwgen.isa.simulate import simulate
from rtl_tests.bench_machine import BASES, BUS, CONFIG, DONE, MEMORY_BYTES, SERIAL, SIZES, THOROUGH, WORD, machine


def random_transfers(seed: int) -> tuple[Command, ...]:
    """Loads of random rectangles into all buffers; now and then a store, with the tokens that keep the order."""
    chooser, program = random.Random(seed), []
    depth = {Buffer.ACTIVATION: CONFIG.activation_words, Buffer.WEIGHT: CONFIG.weight_words, Buffer.PARAMETER: CONFIG.parameter_words}
    for number in range(12):
        store = number % 3 == 2
        buffer = Buffer.ACTIVATION if store else chooser.choice(list(depth))
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
@cocotb.parametrize(seed=range(12 if THOROUGH else 4))
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


@cocotb.test(skip=SERIAL)
@cocotb.parametrize(seed=[3, 0] if THOROUGH else [3])
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
