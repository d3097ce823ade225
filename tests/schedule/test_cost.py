"""The compiler's cycles of a CONV command against those that the compute engine's tests count pixel by pixel, and that the RTL takes."""

import itertools
import random
from dataclasses import replace

import pytest
from compute_support import passes_cycles, random_conv, tiny
from random_graphs import Builder

from hwgen.config import PRESETS, with_array
from hwgen.ir.types import TensorType
from hwgen.isa.fields import Mode
from hwgen.ops.base import Window
from hwgen.schedule.compile import compile_network
from hwgen.schedule.cost import command_cycles

SHAPES = {"4x4": tiny(4, 4), "8x4": tiny(8, 4, requantize_lanes=1), "4x8": tiny(4, 8, requantize_lanes=2), "8x16": tiny(8, 16, requantize_lanes=2)}


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_cycles_of_random_commands(config):
    rng, half = random.Random(3), config.activation_words // 2
    commands = [random_conv(config, rng, (0, half)) for _ in range(300)]
    # Pixels that lie on words need one word only, and keep the other bank free for the residual.
    commands += [replace(c, stride_columns=config.in_lanes, origin_column=config.in_lanes, residual=1) for c in commands if c.mode == Mode.PACKED]
    assert [command_cycles(c, config) for c in commands] == [passes_cycles(c, config) for c in commands]


def test_larger_arrays_are_faster():
    """Hardware: larger arrays that are hardly faster. Four times the multipliers: at least 3.4 times as fast where channels fill the array."""
    cycles = []
    for array in ("4x4", "8x8", "16x16", "32x32"):
        config = with_array(PRESETS["16x16"], array)
        builder = Builder(1)
        builder.values.clear()
        x = builder.input = builder.value(TensorType(24, 24, 32), builder.quantization())
        for _ in range(3):
            x = builder.conv(x, Window(kernel=(3, 3), pads=(1, 1, 1, 1)), 32, dense=True)
        cycles.append(compile_network(builder.finish(x), config).prediction.total_cycles)
    assert all(small > 3.4 * large for small, large in itertools.pairwise(cycles)), cycles
