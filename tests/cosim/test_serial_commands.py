"""The serial machine executes any legal CONV as the instruction set means it: random commands on random memories, word by word."""

from __future__ import annotations

import copy
import random
from dataclasses import replace

import numpy as np
import pytest
from compute_support import clear_unused_lanes, keeping, random_conv, random_memories, resuming
from float_graphs import FloatBuilder
from system_support import CONFIGS, check_on_rtl, render

from hwgen.cosim.job import MemoryModel, SimulationJob
from hwgen.cosim.runner import simulate
from hwgen.ir.types import TensorType
from hwgen.isa import simulate as instructions
from hwgen.isa.fields import Buffer, Mode, Region
from hwgen.isa.instructions import Command, Conv, End, Load, Store
from hwgen.isa.machine import Memories
from hwgen.isa.program import encode
from hwgen.ops.base import Window
from hwgen.quantize import quantize
from hwgen.schedule.compile import compile_network
from hwgen.schedule.timing import predict

CONFIG = CONFIGS["serial"]
SIZES = {Buffer.WEIGHT: CONFIG.weight_word_bytes, Buffer.PARAMETER: CONFIG.parameter_word_bytes}


def random_commands(rng: random.Random) -> list[Conv]:
    """Some keep their sums, for the one behind them."""
    commands, halves = [], (0, CONFIG.activation_words // 2)
    for _ in range(12):
        command = random_conv(CONFIG, rng, rng.choice([halves, halves[::-1]]))
        kept = keeping(command, CONFIG) if rng.random() < 0.3 else None
        following = resuming(random_conv(CONFIG, rng, halves), kept, CONFIG) if kept else None
        commands += [kept, following] if kept and following else [command]
    return commands


def program_of(memories: Memories, commands: list[Conv]) -> tuple[Command, ...]:
    """Fills the buffers, executes the commands, and stores all activations."""
    loads = []
    for buffer, content, region in (
        (Buffer.WEIGHT, memories.weight, Region.WEIGHTS),
        (Buffer.PARAMETER, memories.parameter, Region.WEIGHTS),
        (Buffer.ACTIVATION, memories.activation, Region.INPUT),
    ):
        offset = memories.weight.nbytes if buffer is Buffer.PARAMETER else 0
        loads.append(Load(destination=buffer, region=region, memory_offset=offset, row_bytes=content.nbytes))
    return (*loads, *commands, Store(region=Region.OUTPUT, row_bytes=memories.activation.nbytes), End())


@pytest.mark.parametrize("seed", range(12))
def test_random_commands(seed: int) -> None:
    rng = random.Random(seed)
    memories, commands = random_memories(CONFIG, rng), random_commands(rng)
    for command in (command for command in commands if command.mode == Mode.DEPTHWISE):
        clear_unused_lanes(CONFIG, memories, command)
    program = program_of(memories, commands)
    weights, image = memories.weight.tobytes() + memories.parameter.tobytes(), memories.activation.tobytes()
    job = SimulationJob(
        verilog=render(CONFIG),
        config=CONFIG,
        program=encode(program),
        weights=weights,
        arena_bytes=0,
        inputs=(image,),
        output_bytes=len(image),
        memory=MemoryModel(latency_cycles=1 + seed % 3),
        cycle_limit=1_000_000,
    )
    found = simulate(job)
    found.check()
    expected = copy.deepcopy(memories)
    expected.regions = {
        Region.PROGRAM: np.frombuffer(job.program, np.uint8),
        Region.WEIGHTS: np.frombuffer(weights, np.uint8),
        Region.INPUT: np.frombuffer(image, np.uint8),
        Region.OUTPUT: np.zeros(len(image), np.uint8),
    }
    instructions.simulate(expected)
    output = np.frombuffer(found.inferences[0].output, np.uint8)
    assert np.array_equal(output, expected.regions[Region.OUTPUT])
    assert found.inferences[0].cycles == predict(program, CONFIG, job.memory.latency_cycles).total_cycles


def test_other_buffers_may_be_larger_than_that_of_activations() -> None:
    """Weights and parameters up to their last words, which have larger numbers than any word of activations."""
    config = replace(CONFIG, activation_words=1024, weight_words=4096, parameter_words=512)
    b = FloatBuilder(TensorType(2, 2, 24), 1)
    graph = b.graph(b.conv(b.conv("x", 400, Window(kernel=(1, 1))), 16, Window(kernel=(1, 1))))
    x = np.random.default_rng(3).normal(size=(8, *graph.inputs[0].shape[1:])).astype(np.float32)
    network = compile_network(quantize(graph, {graph.inputs[0].name: x}), config)
    loads = [command for command in network.commands if isinstance(command, Load)]
    ends = {buffer: max(load.buffer_address + load.row_bytes // size for load in loads if load.destination is buffer) for buffer, size in SIZES.items()}
    assert ends[Buffer.WEIGHT] > 2 * config.activation_words and 4 * ends[Buffer.PARAMETER] > config.activation_words
    check_on_rtl(network, MemoryModel())
