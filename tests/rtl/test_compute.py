"""The compute engine in Verilator against the instruction simulator: every word of every command, and every cycle."""

from __future__ import annotations

import copy
import os
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from compute_support import Run, clear_unused_lanes, expected_cycles, keeping, load_payloads, random_conv, random_memories, resuming, run, tiny

from hwgen.arith import Rounding
from hwgen.config import HardwareConfig
from hwgen.errors import QuantizationError
from hwgen.isa.execute import result_addresses, run_conv
from hwgen.isa.fields import Buffer, Mode, Reduce
from hwgen.isa.instructions import Conv
from hwgen.isa.machine import Memories

SMALL = {
    "4x4": tiny(4, 4),
    "4x8, two slices per pixel, 24-bit multipliers": tiny(4, 8, requantize_lanes=2, multiplier_bits=24, bus_bits=32),
    "8x4, one requantizer, powers of two, half up": tiny(8, 4, requantize_lanes=1, multiplier_bits=0, rounding=Rounding.HALF_UP, accumulator_bits=24),
    "2x16, 8-bit multipliers, windows of 16 taps": tiny(2, 16, multiplier_bits=8),
    "4x8, windows of 4 taps, tables, gaps": tiny(4, 8, window_taps=4, activation_tables=4, output_gaps=True),
}
LARGE = {f"{m}x{n}": tiny(m, n) for m, n in ((1, 4), (8, 8), (8, 16), (16, 8), (16, 16), (4, 32), (32, 32))}
large = pytest.mark.skipif("HWGEN_TEST_LARGE" not in os.environ, reason="set HWGEN_TEST_LARGE: half a minute of compiling each; networks cover these shapes")
SHAPES = [*SMALL.items(), *(pytest.param(name, config, marks=large) for name, config in LARGE.items())]


def program(config: HardwareConfig, memories: Memories, rng: random.Random, count: int) -> tuple[list[Conv], list[np.ndarray], Memories]:
    """Random commands, the activation buffer after each, and the memories before the first; changes `memories` to those behind the last."""
    candidates = sequence(config, memories, rng, 2 * count)
    before, commands, contents, skip = copy.deepcopy(memories), [], [], False
    for command in candidates:
        skip = skip and bool(command.resume)  # it would go on from sums that were never kept
        if skip or len(commands) == count:
            continue
        trial = copy.deepcopy(memories)
        try:
            run_conv(command, trial)
        except QuantizationError:  # random constants beyond the golden model's types
            skip = True
            continue
        memories.activation[...], memories.accumulator[...], memories.kept_pixels = trial.activation, trial.accumulator, trial.kept_pixels
        commands.append(command)
        contents.append(trial.activation.copy())
    assert len(commands) == count
    return commands, contents, before


def sequence(config: HardwareConfig, memories: Memories, rng: random.Random, count: int) -> list[Conv]:
    """Random commands that read one half of the activation buffer and write to the other, by turns; weights of windows, one behind the
    other, get the zeros that they need."""
    half, shift = config.activation_words // 2, rng.choice([0, config.activation_words // 4])  # with a shift tensors lie on both sides
    commands: list[Conv] = []
    address = config.weight_words - 32
    while len(commands) < count:
        command = random_conv(config, rng, (shift, half + shift) if len(commands) % 2 else (half + shift, shift))
        if commands and commands[-1].keep:
            command = resuming(command, commands[-1], config) or command
        if rng.random() < 0.3:
            command = keeping(command, config) or command
        if command.mode == Mode.DEPTHWISE and command.reduce == Reduce.SUM:
            command = replace(command, weight_address=address)
            address += (1 if command.weights_held else command.output_tiles * command.passes) * config.weight_load_cycles
            clear_unused_lanes(config, memories, command)
        commands.append(command)
    assert address < 2 * config.weight_words, "weights of windows overlap"
    return commands


def replay(config: HardwareConfig, before: Memories, found: Run, contents: Sequence[np.ndarray], commands: Sequence[Conv]) -> None:
    """Apply the traced writes and compare the buffer after every command."""
    image = before.activation.view(np.uint8).copy()
    writes = iter(found.writes)
    pending = next(writes, None)
    assert len(found.done) == len(commands)
    for number, (done, content) in enumerate(zip(found.done, contents, strict=True)):
        while pending is not None and pending[0] <= done:
            _, address, mask, value = pending
            lanes = [j for j in range(config.in_lanes) if mask >> j & 1]
            image[address, lanes] = [value >> 8 * j & 0xFF for j in lanes]
            pending = next(writes, None)
        wrong = np.argwhere(image != content.view(np.uint8))
        assert not len(wrong), f"command {number}: {len(wrong)} bytes differ, first (word, lane) {wrong[0]}; {commands[number]}"
    assert pending is None
    last = np.array([[found.activation[a] >> 8 * j & 0xFF for j in range(config.in_lanes)] for a in range(config.activation_words)], np.uint8)
    np.testing.assert_array_equal(last, contents[-1].view(np.uint8))


@pytest.mark.parametrize(("name", "config"), SHAPES, ids=[*SMALL, *LARGE])
def test_random_commands_give_the_simulators_words_in_the_documented_cycles(name: str, config: HardwareConfig) -> None:
    rng = random.Random(name)
    commands, contents, before = program(config, random_memories(config, rng), rng, 80)
    found = run(config, before, commands, [rng.choice([0, 0, 0, 5, 40]) for _ in commands])
    replay(config, before, found, contents, commands)
    assert found.done == expected_cycles(commands, config, found.accepted)
    assert found.idle and not found.unexplained


@pytest.mark.parametrize("config", SMALL.values(), ids=SMALL)
def test_random_commands_cover_every_mode(config: HardwareConfig) -> None:
    """The generator behind the test above reaches what it must reach."""
    rng = random.Random(1)
    commands = [random_conv(config, rng, (0, config.activation_words // 2)) for _ in range(300)]
    assert {c.mode for c in commands} == set(Mode)
    for feature in ("residual", "weights_held", "parameters_held", "reduce"):
        assert {int(getattr(c, feature)) for c in commands} == {0, 1}, feature
    assert any(c.output_rows * c.output_columns % c.pixels_per_tile for c in commands)
    assert any(c.kernel_steps * c.taps > c.input_columns for c in commands), "kernels larger than the image"
    chained, _, _ = program(config, random_memories(config, rng), rng, 80)
    assert sum(c.resume for c in chained) >= 5 and any(c.resume and c.keep for c in chained)


def test_dma_traffic_changes_neither_results_nor_cycles() -> None:
    """Loads and reads fill the gaps: bus stalls at every beat, and words that no command uses arrive unharmed."""
    config = tiny(4, 4)
    rng = random.Random(5)
    commands, _, before = program(config, random_memories(config, rng), rng, 12)
    free = sorted(set(range(config.activation_words)) - touched(config, commands))[:200]
    patch = np.array([[rng.randrange(256) for _ in range(config.in_lanes)] for _ in free], np.uint8)
    side = [payload for word, address in zip(patch, free, strict=True) for payload in load_payloads(config, Buffer.ACTIVATION, address, word[None])]
    assert len(free) > 20
    pauses = [rng.choice([0, 10]) for _ in commands]
    quiet = run(config, before, commands, pauses)
    loud = run(config, before, commands, pauses, side)
    assert (loud.writes, loud.done, loud.busy) == (quiet.writes, quiet.done, quiet.busy)
    assert [loud.activation[a] for a in free] == [int.from_bytes(word.tobytes(), "little") for word in patch]


def touched(config: HardwareConfig, commands: Sequence[Conv]) -> set[int]:
    """Words that a command may read or write."""
    words: set[int] = set()
    for c in commands:
        for block in range(c.output_blocks):
            words |= {int(a) for a in result_addresses(c, config, block)}
            words |= {
                (c.residual_address + block * c.residual_block_stride + y * c.residual_row_stride + x) % config.activation_words
                for y in range(c.output_rows)
                for x in range(c.output_columns)
            }
        first = (c.input_address - c.origin_row * (c.kernel_row_step // c.dilation_rows)) % (1 << 24)
        words |= {(first + k) % config.activation_words for k in range(4 * c.input_block_stride)}
    return words


def conv(**changes: int) -> Conv:
    """A 1x1 convolution of 4x4 pixels, one block to one tile."""
    base = Conv(
        input_rows=4, input_columns=4, input_row_step=4, kernel_row_step=4, input_block_stride=16, output_address=512, output_rows=4, output_columns=4,
        output_row_stride=4, output_block_stride=16, pixels_per_tile=16, residual_row_stride=4, residual_block_stride=16, residual_address=64,
    )  # fmt: skip
    return replace(base, **changes)


def window(**changes: int) -> Conv:
    """Depthwise, 3 columns of one kernel row at once."""
    return conv(mode=Mode.DEPTHWISE, taps=3, **changes)


CYCLES = {  # hand-counted on the 4x4 array: first pixel 12 cycles after the handshake, results 14 (residual: 20) after the last slice
    "16 pixels, one pass": (conv(), 12 + 16 - 1 + 14),
    "one pixel": (conv(output_rows=1, output_columns=1), 12 + 1 - 1 + 14),
    "two passes of one pixel: 4 + 1": (conv(output_rows=1, output_columns=1, input_blocks=2), 12 + 5 - 1 + 14),
    "nine passes": (conv(kernel_rows=3, kernel_steps=3), 12 + 9 * 16 - 1 + 14),
    "three tiles": (conv(output_tiles=3, output_blocks=3), 12 + 3 * 16 - 1 + 14),
    "pixel tiles of 5: 5 + 5 + 5 + 4 (of 1, the last: 1)": (conv(pixels_per_tile=5), 12 + 16 - 1 + 14),
    "residual in the same bank: two cycles per pixel": (conv(residual=1), 12 + 32 - 1 + 20),
    "residual in the same bank of the other side": (conv(residual=1, residual_address=512 + 64), 12 + 16 - 1 + 20),
    "sums that stay": (conv(keep=1, residual=1), 12 + 16 - 1 + 20),
    "window of 3 columns: 2 in front of a row's first pixel, then 1 each": (window(origin_column=-1), 12 + 4 * 5 - 1 + 14),
    "without padding: 3, 1": (window(output_columns=2), 12 + 4 * 4 - 1 + 14),
    "stride 2: 2, 2": (window(origin_column=-1, stride_columns=2, output_columns=2), 12 + 4 * 4 - 1 + 14),
    "stride 4: 2, 3": (window(origin_column=-1, stride_columns=4, output_columns=2), 12 + 4 * 5 - 1 + 14),
    "dilation 2: 3, 3": (window(origin_column=-1, dilation_columns=2, output_columns=2), 12 + 4 * 6 - 1 + 14),
    "pixel tiles of 6, in mid-row 3 columns: 2 passes of 8 + 9 + 5": (window(origin_column=-1, kernel_rows=2, pixels_per_tile=6), 12 + 44 - 1 + 14),
    "one pixel, 2 passes of 3 columns: 2 + 4 + 1": (window(kernel_rows=2, output_rows=1, output_columns=1), 12 + 7 - 1 + 14),
    "residual in another bank": (conv(residual=1, residual_address=65), 12 + 16 - 1 + 20),
}


def test_cycles_of_small_commands() -> None:
    config = tiny(4, 4)
    memories = random_memories(config, random.Random(3))
    commands = [command for command, _ in CYCLES.values()]
    found = run(config, memories, commands, [200] * len(commands))
    cycles = [done - accepted for done, accepted in zip(found.done, found.accepted, strict=True)]
    assert dict(zip(CYCLES, cycles, strict=True)) == {name: count for name, (_, count) in CYCLES.items()}


def test_commands_follow_each_other_within_the_drain() -> None:
    """The next command's first pixel enters in the cycle after the last write."""
    config = tiny(4, 4)
    commands = [conv(), conv(output_address=600), conv(residual=1), conv()]
    found = run(config, random_memories(config, random.Random(3)), commands, [0] * 4)
    first, second, third, fourth = found.done
    assert second - first == 1 + 16 - 1 + 14
    assert third - second == 1 + 32 - 1 + 20
    assert fourth - third == 1 + 16 - 1 + 14


LOST = {  # cycles without a pixel; 11 between the cycle of the handshake and the first column
    "16 pixels, one pass": ([conv()], {"setup": 11}),
    "two passes of one pixel": ([conv(output_rows=1, output_columns=1, input_blocks=2)], {"setup": 11, "short_pass": 3}),
    "residual in the same bank": ([conv(residual=1)], {"setup": 11, "output": 16}),
    "window of 3 columns": ([window(origin_column=-1)], {"setup": 11, "window": 4}),
    "one pixel, 2 passes of 3 columns": ([window(kernel_rows=2, output_rows=1, output_columns=1)], {"setup": 11, "short_pass": 1, "window": 4}),
    "21 cycles of drain, 12 of them setup": ([conv(residual=1, residual_address=65), conv()], {"setup": 22, "drain": 8}),
}


@pytest.mark.parametrize("name", LOST)
def test_every_cycle_without_a_pixel_has_one_cause(name: str) -> None:
    commands, lost = LOST[name]
    found = run(tiny(4, 4), random_memories(tiny(4, 4), random.Random(3)), commands, [0] * len(commands))
    assert found.unexplained == 0
    assert {cause: count for cause, count in found.lost.items() if count} == lost


def test_nothing_is_written_beyond_output_blocks() -> None:
    config = tiny(4, 4)
    found = run(config, random_memories(config, random.Random(3)), [conv(output_tiles=3, output_blocks=2)], [0])
    assert {address for _, address, _, _ in found.writes} == set(range(512, 512 + 32))
    assert len(found.done) == 1


def test_maximum_loads_no_weights() -> None:
    """With reduce = max whatever lies in the weight buffer is without influence."""
    config = tiny(4, 4)
    memories = random_memories(config, random.Random(3))
    other = copy.deepcopy(memories)
    other.weight[...] = 77
    command = conv(mode=Mode.DEPTHWISE, reduce=Reduce.MAX, kernel_steps=2, output_columns=3)
    assert run(config, memories, [command], [0]).writes == run(config, other, [command], [0]).writes


@pytest.mark.parametrize("taps", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [2, 3])
def test_a_pixel_comes_again_no_sooner_than_its_sums(rows: int, taps: int) -> None:
    """Rows of one pixel, and passes that meet one column of the image: the sums that a pass adds to are those of the pass before."""
    config = tiny(2, 16, multiplier_bits=8)
    memories = random_memories(config, random.Random(3))
    command = window(kernel_rows=4, tap_rows=2, kernel_steps=2, output_rows=rows, output_columns=1, input_rows=9, input_row_step=9, kernel_row_step=9)
    command = replace(command, taps=taps, origin_column=1 - taps)
    clear_unused_lanes(config, memories, command)
    before = copy.deepcopy(memories)
    commands = [replace(command, parameter_address=k) for k in range(12)]  # some multipliers and shifts would hide a wrong sum
    contents = []
    for command in commands:
        run_conv(command, memories)
        contents.append(memories.activation.copy())
    found = run(config, before, commands, [0] * len(commands))
    replay(config, before, found, contents, commands)
    assert found.done == expected_cycles(commands, config, found.accepted)


@pytest.mark.parametrize("cycles", [1, 2, 9, 13, 17, 24, 31, 45])
def test_start_after_abort(cycles: int) -> None:
    """Whatever was under way when abort came, the engine is idle in the next cycle, and the next command is right to the cycle."""
    config = tiny(4, 4)
    rng = random.Random(8)
    memories = random_memories(config, rng)
    before = copy.deepcopy(memories)
    commands = [conv(residual=1, kernel_rows=2), conv(input_address=512, output_address=0)]
    contents = []
    for command in commands:
        run_conv(command, memories)
        contents.append(memories.activation.copy())
    found = run(config, before, commands, [0, 0], abort_after=cycles)
    assert found.idle_after_abort
    replay(config, before, found, contents, commands)
    assert found.done == expected_cycles(commands, config, found.accepted)
