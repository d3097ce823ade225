"""Hardware: the shapes that other accelerators cannot do, each a small network whose every word is golden's on the Verilog."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from random_graphs import Builder
from system_support import CONFIGS, check_on_rtl, job_of, render

from hwgen.config import HardwareConfig
from hwgen.cosim.compare import compare
from hwgen.cosim.job import MemoryModel
from hwgen.cosim.runner import simulate
from hwgen.ir.graph import Graph, GraphInput, GraphOutput
from hwgen.ir.types import Quantization, TensorType
from hwgen.ir.verify import verify
from hwgen.isa.fields import Buffer
from hwgen.isa.instructions import Load
from hwgen.ops.add import Add
from hwgen.ops.base import UNLIMITED, Window
from hwgen.ops.concat import Concat
from hwgen.ops.conv import Conv
from hwgen.ops.max_pool import MaxPool
from hwgen.ops.pad import Pad
from hwgen.schedule.compile import compile_network
from hwgen.verify import expectations

ONE = Window(kernel=(1, 1))
SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


class Shapes(Builder):
    """Builds networks by hand out of the random networks' parts; the first input is `input`."""

    def __init__(self, config: HardwareConfig, height: int, width: int, channels: int) -> None:
        super().__init__(height * 64 + width * 8 + channels, multiplier_bits=config.multiplier_bits, rounding=config.rounding)
        self.values.clear()
        self.input = self.value(TensorType(height, width, channels), self.quantization())
        self.inputs = [self.input]

    def other_input(self, height: int, width: int, channels: int) -> str:
        self.inputs.append(self.value(TensorType(height, width, channels), self.quantization()))
        return self.inputs[-1]

    def alike(self, x: str, channels: int, like: str) -> str:
        """A 1x1 convolution of x in the quantization of `like`."""
        y = self.conv(x, ONE, channels)
        self.values[y] = replace(self.values[y], quantization=self.values[like].quantized)
        self.refit(y)
        return y

    def joined(self, axis: int, *names: str) -> str:
        return self.node(Concat(axis=axis), names, self.values[names[0]].quantized)

    def graph(self, *outputs: str) -> Graph:
        found = Graph(
            name="shapes",
            inputs=tuple(GraphInput(name=name, shape=(-1, *self.values[name].type.shape), dtype="float32", value=name) for name in self.inputs),
            outputs=tuple(GraphOutput(name=f"out{k}", shape=(-1, *self.values[name].type.shape), value=name) for k, name in enumerate(outputs)),
            nodes=tuple(self.nodes),
            values=self.values,
            arithmetic=self.arithmetic,
        )
        verify(found)
        return found


def kernels(config: HardwareConfig) -> Graph:
    """shapes: 1x1 and 3x3 only"""
    b = Shapes(config, 9, 11, 6)
    x = b.conv(b.input, Window(kernel=(2, 2)), 9)
    x = b.conv(x, Window(kernel=(5, 1), pads=(2, 0, 2, 0)), 7)
    x = b.conv(x, Window(kernel=(1, 7), pads=(0, 3, 0, 3)), 5)
    return b.graph(b.conv(x, Window(kernel=(4, 3), dilations=(1, 2), pads=(0, 2, 1, 2)), 10))


def strides(config: HardwareConfig) -> Graph:
    """stride 1 only; and strides beyond the kernel"""
    b = Shapes(config, 17, 19, 5)
    x = b.conv(b.input, Window(kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)), 8)
    x = b.conv(x, Window(kernel=(1, 2), strides=(1, 3)), 6)
    return b.graph(b.conv(x, Window(kernel=(2, 1), strides=(4, 2)), 12))


def channels(config: HardwareConfig) -> Graph:
    """channels not a multiple of the array"""
    b = Shapes(config, 5, 6, 13)
    x = b.conv(b.conv(b.input, SAME, 19), ONE, 37)
    return b.graph(b.conv(x, SAME, 3))


def one_input_channel(config: HardwareConfig) -> Graph:
    b = Shapes(config, 12, 13, 1)
    return b.graph(b.conv(b.input, Window(kernel=(5, 5), strides=(2, 2), pads=(2, 2, 2, 2)), 11))


def three_input_channels(config: HardwareConfig) -> Graph:
    b = Shapes(config, 11, 10, 3)
    return b.graph(b.conv(b.conv(b.input, Window(kernel=(3, 3), strides=(2, 2), pads=(1, 1, 1, 1)), 10), SAME, 8))


def one_output_channel(config: HardwareConfig) -> Graph:
    b = Shapes(config, 6, 7, 20)
    return b.graph(b.conv(b.conv(b.input, SAME, 1), Window(kernel=(2, 2)), 1))


def one_pixel(config: HardwareConfig) -> Graph:
    """1x1 images"""
    b = Shapes(config, 1, 1, 24)
    x = b.conv(b.conv(b.input, SAME, 17), ONE, 33)
    pooled = b.node(MaxPool(window=Window(kernel=(1, 1))), (x,), b.values[x].quantized)
    return b.graph(b.conv(pooled, ONE, 10))


def large_kernels(config: HardwareConfig) -> Graph:
    """kernels larger than the image"""
    b = Shapes(config, 4, 3, 9)
    x = b.conv(b.input, Window(kernel=(7, 7), pads=(3, 3, 3, 3)), 12)
    return b.graph(b.conv(x, Window(kernel=(9, 5), pads=(5, 4, 4, 3), dilations=(1, 2)), 6))


def fully_connected(config: HardwareConfig, *, more: int) -> Graph:
    """Weights that fill the weight buffer, and `more` output channels."""
    sets = config.weight_words // config.weight_load_cycles
    blocks = 1 << (sets.bit_length() - 1) // 2
    b = Shapes(config, 1, 1, blocks * config.in_lanes)
    return b.graph(b.conv(b.input, ONE, sets // blocks * config.out_lanes + more, dense=True))


def concatenations(config: HardwareConfig) -> Graph:
    """Concatenations of concatenations, along every axis; a part that is read by others and is an output too."""
    b = Shapes(config, 4, 6, 5)
    x = b.conv(b.input, SAME, 7)
    p, q = b.alike(x, 9, x), b.alike(x, 3, x)
    inner = b.joined(2, x, p)
    outer = b.joined(2, q, inner)
    tall = b.joined(0, outer, b.alike(outer, 19, outer))
    wide = b.joined(1, tall, b.alike(tall, 19, tall))
    return b.graph(b.conv(wide, SAME, 6), wide, inner, p)


def padding(config: HardwareConfig) -> Graph:
    """Paddings and crops that no window takes, in a row."""
    b = Shapes(config, 5, 5, 6)
    q = b.values[b.input].quantized
    x = b.node(Pad(pads=(1, 2, 0, 3), value=float(q.scale) * 7), (b.input,), q)
    x = b.node(Pad(pads=(-2, 1, 3, -1)), (x,), q)
    return b.graph(x, b.conv(x, Window(kernel=(2, 3), strides=(2, 1)), 9))


def several_inputs(config: HardwareConfig) -> Graph:
    """Three inputs of other shapes, outputs that other layers read, one value that is two outputs."""
    b = Shapes(config, 6, 5, 8)
    second, third = b.other_input(6, 5, 3), b.other_input(12, 10, 4)
    x, y = b.conv(b.input, SAME, 9), b.conv(second, SAME, 9)
    q = Quantization(scale=np.float32(max(b.values[x].quantized.scale, b.values[y].quantized.scale)), zero_point=0)
    total = b.node(Add(), (x, y), q)
    z = b.conv(third, Window(kernel=(2, 2), strides=(2, 2)), 9)
    return b.graph(b.joined(2, total, b.alike(z, 9, total)), total, z, total)


def doubled(config: HardwareConfig) -> Graph:
    """x + x, and a value that three layers read"""
    b = Shapes(config, 5, 4, 10)
    x = b.conv(b.input, SAME, 10)
    q = Quantization(scale=np.float32(2 * b.values[x].quantized.scale), zero_point=0)
    twice = b.node(Add(), (x, x), q)
    return b.graph(twice, b.conv(x, ONE, 4), b.conv(twice, ONE, 5))


def one_row(config: HardwareConfig) -> Graph:
    """1-D signals: one row, long kernels"""
    b = Shapes(config, 1, 61, 2)
    x = b.conv(b.input, Window(kernel=(1, 21), strides=(1, 3), pads=(0, 10, 0, 10)), 12)
    return b.graph(b.conv(x, Window(kernel=(1, 3), dilations=(1, 4)), 5))


def large_sums(config: HardwareConfig) -> Graph:
    """Accumulators that need every bit: all inputs of the second layer are extreme, all weights, and biases near the ends of int32."""
    b = Shapes(config, 5, 4, 6)
    q, top = Quantization(scale=np.float32(0.5), zero_point=0), 1 << 30
    scale = np.full(40, float(q.scale) / float(b.values[b.input].quantized.scale) / 4, np.float32)
    weight, bias = np.zeros((40, 1, 1, 6), np.int8), np.where(np.arange(40) % 3, 100_000, -100_000).astype(np.int32)
    x = b.node(Conv(weight=weight, bias=bias, window=ONE, group=1, clamp=UNLIMITED, weight_scale=scale), (b.input,), q)
    signs = np.where(np.arange(40) % 3, 127, -128).astype(np.int8)
    rows = np.where(np.arange(24) % 2, 1, -1).reshape(24, 1, 1, 1)
    weight = np.clip(rows * signs.astype(int), -128, 127).astype(np.int8) * np.ones((24, 3, 3, 40), np.int8)
    bias = np.array([top, -top, 3 * top // 2, -3 * top // 2, 0, 12345])[np.arange(24) % 6].astype(np.int32)
    scale = (2.0 ** np.array([-25, -25, -25, -25, -17, -17])[np.arange(24) % 6]).astype(np.float32)
    y = b.node(Conv(weight=weight, bias=bias, window=SAME, group=1, clamp=UNLIMITED, weight_scale=scale), (x,), q)
    return b.graph(y, x)


NETWORKS: dict[str, Callable[[HardwareConfig], Graph]] = {
    "kernels": kernels,
    "strides": strides,
    "channels": channels,
    "one_input_channel": one_input_channel,
    "three_input_channels": three_input_channels,
    "one_output_channel": one_output_channel,
    "one_pixel": one_pixel,
    "large_kernels": large_kernels,
    "weights_that_fill_the_buffer": lambda config: fully_connected(config, more=0),
    "weights_beyond_the_buffer": lambda config: fully_connected(config, more=config.out_lanes + 1),
    "concatenations": concatenations,
    "padding": padding,
    "several_inputs": several_inputs,
    "doubled": doubled,
    "one_row": one_row,
    "large_sums": large_sums,
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", CONFIGS)
def test_golden_equals_rtl(name: str, network: str) -> None:
    config = CONFIGS[name]
    compiled = compile_network(NETWORKS[network](config), config)
    for memory in (MemoryModel(), MemoryModel(latency_cycles=13, stall_probability=0.3, seed=7, aligned=False)):
        check_on_rtl(compiled, memory)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_weights_fill_the_buffer(name: str) -> None:
    """What the networks above promise."""
    config = CONFIGS[name]
    for network, more in (("weights_that_fill_the_buffer", 0), ("weights_beyond_the_buffer", 1)):
        commands = compile_network(NETWORKS[network](config), config).commands
        words = sum(c.row_bytes * c.rows for c in commands if isinstance(c, Load) and c.destination == Buffer.WEIGHT) // config.weight_word_bytes
        assert words > config.weight_words if more else words == config.weight_words


@pytest.mark.skipif("HWGEN_REGRESS" not in os.environ, reason="set HWGEN_REGRESS: compiles for some seconds")
def test_large_sums_show_an_accumulator_that_lacks_one_bit() -> None:
    """Arithmetic: accumulators beyond 2^24."""
    config = CONFIGS["4x4"]
    network = compile_network(large_sums(config), config)
    job, codes = job_of(network, 1)
    result = simulate(replace(job, verilog=render(replace(config, accumulator_bits=31)), optimized=False))
    result.check()
    assert result.trace is not None
    first, second = compare(expectations(network, codes), result.trace, config.activation_words)
    assert first.equal and second.mismatches >= second.elements // 4
