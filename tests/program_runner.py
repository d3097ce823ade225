"""Run a compiled network on the instruction-level simulator and compare every layer with the golden model."""

from __future__ import annotations

import numpy as np

from hwgen.isa.fields import Region
from hwgen.isa.machine import Memories
from hwgen.isa.simulate import simulate
from hwgen.ops.golden import golden_codes, golden_node
from hwgen.schedule.compile import CompiledNetwork, Part, Routine


def random_codes(network: CompiledNetwork, seed: int, count: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {t.value: rng.integers(-128, 128, (count, *network.graph.values[t.value].type.shape)).astype(np.int8) for t in network.inputs}


def part_words(part: Part) -> np.ndarray:
    """Buffer words that a command writes, (blocks, rows, columns), before they wrap."""
    b, y, x = np.ogrid[part.box.first_block : part.box.end_block, part.box.top : part.box.bottom, part.box.left : part.box.right]
    return part.view.address + b * part.view.block_stride + y * part.view.row_stride + x * part.view.column_stride


def blocked(value: np.ndarray, positions: tuple[int, ...], blocks: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """(height, width, channels) -> (blocks, height, width, lanes), and which lanes (blocks, lanes) hold a channel."""
    physical = np.zeros((*value.shape[:2], blocks * lanes), np.int8)
    physical[..., list(positions)] = value
    holds = np.zeros(blocks * lanes, bool)
    holds[list(positions)] = True
    return physical.reshape(*value.shape[:2], blocks, lanes).transpose(2, 0, 1, 3), holds.reshape(blocks, lanes)


class Checker:
    """Compares what every command leaves with the golden model, as soon as the command is done."""

    def __init__(self, network: CompiledNetwork, routine: Routine, expected: dict[str, np.ndarray], memories: Memories) -> None:
        self.network, self.expected, self.memories = network, expected, memories
        self.parts = {part.command: (layer, part) for layer in routine.layers for part in layer.parts}
        self.commands, self.wrong = len(routine.commands), []
        covered = {layer.name: sum(p.box.pixels * p.box.blocks for p in layer.parts) for layer in routine.layers}
        for layer in routine.layers:
            kind = network.graph.values[layer.value].type
            blocks = max(network.positions[layer.value]) // network.config.in_lanes + 1
            if covered[layer.name] < kind.height * kind.width * blocks:
                self.wrong.append(f"{layer.name}: not all is written")

    def __call__(self, index: int, command: object) -> None:
        if index not in self.parts:
            return
        layer, part = self.parts[index]
        positions, config = self.network.positions[layer.value], self.network.config
        golden, holds = blocked(self.expected[layer.value][0], positions, max(positions) // config.in_lanes + 1, config.in_lanes)
        box = part.box
        want = golden[box.first_block : box.end_block, box.top : box.bottom, box.left : box.right]
        found = self.memories.activation[part_words(part) % config.activation_words]
        if ((found != want) & holds[box.first_block : box.end_block, None, None]).any():
            self.wrong.append(layer.name)


def run_kernels(network: CompiledNetwork, number: int, memories: Memories) -> None:
    """What the processor computes before a program, from memory to memory."""
    for kernel in network.kernels[number] if network.kernels else ():
        operands = []
        for tensor in kernel.inputs:
            image = memories.regions[tensor.region][tensor.offset : tensor.offset + tensor.size_bytes].view(np.int8)[None]
            operands.append(tensor.layout.unpack(image))
        result = golden_node(kernel.node, network.graph, *operands)
        for tensor in kernel.outputs:
            memories.regions[tensor.region][tensor.offset : tensor.offset + tensor.size_bytes] = tensor.layout.pack(result).view(np.uint8)[0]


def run_program(network: CompiledNetwork, codes: dict[str, np.ndarray], *, queue_depth: int = 1, seed: int | None = None) -> list[str]:
    """Names of everything that differs from golden: layers (checked as soon as they are done) and outputs. The resident program, if there
    is one, runs behind the other one."""
    memories = Memories(config=network.config)
    memories.fill_randomly(7)
    sizes = network.region_bytes()
    memories.regions = {region: np.full(sizes[region], 0xAA, np.uint8) for region in Region}
    memories.regions[Region.PROGRAM][:] = np.frombuffer(network.program, np.uint8)
    memories.regions[Region.WEIGHTS][:] = np.frombuffer(network.weights, np.uint8)
    for tensor in network.inputs:
        memories.regions[Region.INPUT][tensor.offset : tensor.offset + tensor.size_bytes] = tensor.layout.pack(codes[tensor.value]).view(np.uint8)[0]
    expected = golden_codes(network.graph, codes, keep=network.graph.values)
    wrong = []
    resident = ((network.resident_entry, network.resident),) if network.resident else ()
    runs = [((entry, routine),) for entry, routine in zip(network.entries, network.phases, strict=True)]
    for phases in (sum(runs, ()), *([resident] if resident else [])):
        memories.regions[Region.OUTPUT][:] = 0x55
        memories.activation[:] = 0x33
        for number, (entry, routine) in enumerate(phases):
            run_kernels(network, number, memories)
            check = Checker(network, routine, expected, memories)
            simulate(memories, entry, queue_depth=queue_depth, seed=seed, after=check)
            wrong += check.wrong
        for number in range(len(phases), len(network.kernels)):
            run_kernels(network, number, memories)
        for tensor in network.outputs:
            image = memories.regions[Region.OUTPUT][tensor.offset : tensor.offset + tensor.size_bytes].view(np.int8)[None]
            if not np.array_equal(tensor.layout.unpack(image)[0], expected[tensor.value][0]):
                wrong.append(f"output {tensor.name}")
    return wrong
