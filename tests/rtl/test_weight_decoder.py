"""The decoder before the weight buffer: every format, rows at any place, gaps, and the cycles that isa.latency promises."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from hwgen.config import HardwareConfig
from hwgen.isa.fields import Buffer
from hwgen.isa.latency import decode_cycles, decoder_slots
from hwgen.packing import WeightFormat, unpack
from hwgen.rtl.weight_decoder import WeightDecoder

CONFIGS = [  # 1, 2 and 4 bus words at once; of the last, a word holds two groups
    HardwareConfig(out_lanes=4, in_lanes=4, weight_words=64, weight_decoder=True),
    HardwareConfig(out_lanes=8, in_lanes=8, weight_words=64, weight_decoder=True),
    HardwareConfig(out_lanes=16, in_lanes=8, bus_bits=32, weight_words=64, weight_decoder=True),
]


def rows(config: HardwareConfig, rng: random.Random, count: int) -> list[tuple[WeightFormat, int, np.ndarray[Any, Any]]]:
    """Format, first word of the buffer, bytes in memory."""
    found = []
    while len(found) < count:
        kind, words = WeightFormat(rng.randrange(len(WeightFormat))), rng.choice([1, 2, 3, 4, 5, 9, 16])
        needed = -(-words * kind.digits * config.bus_bytes // config.weight_word_bytes)
        if needed <= config.weight_words:
            first = rng.randint(0, config.weight_words - needed)
            found.append((kind, first, np.frombuffer(rng.randbytes(words * config.bus_bytes), np.uint8)))
    return found


@pytest.mark.parametrize("gaps", [0.0, 0.4])
@pytest.mark.parametrize("config", CONFIGS, ids=["1 slot", "2 slots", "4 slots"])
def test_rows_of_every_format_are_written_once_in_order_and_in_the_promised_cycles(config: HardwareConfig, gaps: float) -> None:
    dut, rng = WeightDecoder(config), random.Random(5)
    wanted, bus = rows(config, rng, 25), config.bus_bytes
    slots, chunks = decoder_slots(config), config.weight_word_bytes // bus

    async def bench(context: Any) -> None:
        payload = dut.load.payload
        for kind, first, image in wanted:
            written: dict[int, bytes] = {}
            cycles = 0
            for number, word in enumerate(image.reshape(-1, bus)):
                context.set(dut.load.valid, 0)
                while rng.random() < gaps:
                    assert not context.get(dut.write_valid)
                    await context.tick()
                position = first * chunks + number if number == 0 else rng.randrange(64)  # of a row's other words nothing is read off it
                context.set(payload.buffer, Buffer.WEIGHT)
                context.set(payload.address, position // chunks)
                context.set(payload.chunk, position % chunks)
                context.set(payload.data, int.from_bytes(word.tobytes(), "little"))
                context.set(payload.format, kind)
                context.set(payload.first, number == 0)
                context.set(dut.load.valid, 1)
                taken = False
                while not taken:
                    assert context.get(dut.write_valid)
                    taken, mask = bool(context.get(dut.load.ready)), context.get(dut.write.mask)
                    base = (context.get(dut.write.address) * (chunks // slots) + context.get(dut.write.group)) * slots
                    data = int(context.get(dut.write.data)).to_bytes(slots * bus, "little")
                    assert mask
                    for slot in range(slots):
                        if mask >> slot & 1:
                            assert base + slot not in written
                            written[base + slot] = data[slot * bus : (slot + 1) * bus]
                    cycles += 1
                    await context.tick()
            right = unpack(image, kind, bus).tobytes()
            assert list(written) == [first * chunks + k for k in range(len(written))]
            assert b"".join(written.values()) == right
            assert cycles == decode_cycles(config, kind, 0, len(image) // bus)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_cycles_of_a_part_of_a_row_are_those_of_its_words() -> None:
    for config in CONFIGS:
        for kind in WeightFormat:
            each = [decode_cycles(config, kind, k, k + 1) for k in range(40)]
            assert all(decode_cycles(config, kind, a, b) == sum(each[a:b]) for a in range(0, 40, 3) for b in range(a, 41, 7))
            assert min(each) >= 1 and sum(each) >= 40 * kind.digits // decoder_slots(config)
