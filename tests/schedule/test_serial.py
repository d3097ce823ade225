"""The serial machine's cycles, counted one by one; that the hardware takes as many is shown by every co-simulation of it."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace

import pytest

from hwgen.config import PRESETS
from hwgen.isa import latency
from hwgen.isa.fields import Mode
from hwgen.isa.instructions import Conv, End, Load, Store
from hwgen.schedule.cost import command_cycles
from hwgen.schedule.serial import conv_cycles, stretch_cycles
from hwgen.schedule.timing import predict

UP5K = PRESETS["up5k"]


def counted(c: Conv) -> int:
    """Cycle by cycle: what the states of the machine take, and when requantization lets the next result pass."""
    now, free = latency.SERIAL_CONV_CYCLES, 0
    inner = {Mode.DENSE: c.input_blocks, Mode.DEPTHWISE: c.taps, Mode.PACKED: 1}[Mode(c.mode)]
    requantize = 0 if c.keep else latency.SERIAL_REQUANTIZE_CYCLES + c.residual * latency.SERIAL_ADD_CYCLES
    for _ in range(c.output_tiles):
        now += 5  # addresses of the tile, its first output
        for output in range(c.output_rows * c.output_columns):
            for _ in range(c.kernel_rows):
                now += c.kernel_steps * inner + (c.mode == Mode.PACKED)
            now = max(now, free) if output and requantize else now
            now += 2  # the result before is written, this one goes to requantization
            free = now + 1 + requantize
        now = free + 1  # the tile's last result is written
        now += 3  # to the next tile
    return now


@pytest.mark.parametrize("seed", range(30))
def test_cycles_of_a_conv(seed: int) -> None:
    r = random.Random(seed)
    mode = r.choice(list(Mode))
    c = Conv(
        mode=mode,
        input_blocks=r.randint(1, 20) if mode == Mode.DENSE else 1,
        taps=r.randint(1, 4) if mode == Mode.DEPTHWISE else 1,
        kernel_rows=r.randint(1, 5),
        kernel_steps=r.randint(1, 5),
        output_rows=r.randint(1, 4),
        output_columns=r.randint(1, 5),
        output_tiles=r.randint(1, 6),
        residual=r.randint(0, 1),
    )
    for command in (c, replace(c, keep=1, output_tiles=1)):
        assert conv_cycles(command) == command_cycles(command, UP5K) == counted(command)


@pytest.mark.parametrize("latency_cycles", [1, 7, 30, 31, 40])
@pytest.mark.parametrize("words", [1, 31, 32, 100])
def test_words_under_way_hide_the_memory_up_to_a_limit(words: int, latency_cycles: int) -> None:
    now, asked, answers, under_way = 0, 0, 0, deque[int]()
    while answers < words:
        now += 1
        if asked < words and len(under_way) < latency.SERIAL_UNDER_WAY:
            under_way.append(now + latency_cycles)
            asked += 1
        if under_way and under_way[0] == now:
            under_way.popleft()
            answers += 1
    assert stretch_cycles(words, latency_cycles, writes=False) == now + 1


def test_commands_follow_each_other() -> None:
    commands = (Load(row_bytes=64), Conv(), Store(row_bytes=4, rows=2, memory_row_stride=4), End())
    prediction = predict(commands, UP5K, latency_cycles=3)
    gaps = [later.start - earlier.end for earlier, later in zip(prediction.spans, prediction.spans[1:], strict=False)]
    assert set(gaps) == {1 + prediction.spans[0].start - latency.SERIAL_START_CYCLES} and prediction.total_cycles == prediction.spans[-1].end + 1
