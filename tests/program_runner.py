"""Run a compiled network on the instruction-level simulator and compare every layer with the golden model."""

from __future__ import annotations

import numpy as np

from hwgen.isa.fields import Region
from hwgen.isa.machine import Memories
from hwgen.isa.simulate import simulate
from hwgen.layout import BlockedLayout
from hwgen.ops.golden import golden_codes
from hwgen.schedule.compile import CompiledNetwork, Layer


def random_codes(network: CompiledNetwork, seed: int, count: int = 1) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {t.value: rng.integers(-128, 128, (count, *network.graph.values[t.value].type.shape)).astype(np.int8) for t in network.inputs}


def layer_words(layer: Layer, network: CompiledNetwork) -> np.ndarray:
    """Buffer words of a layer's value, (blocks, height, width)."""
    kind, view = network.graph.values[layer.value].type, layer.view
    b, y, x = np.ogrid[: view.blocks, : kind.height, : kind.width]
    return view.address + b * view.block_stride + y * view.row_stride + x


def run_program(network: CompiledNetwork, codes: dict[str, np.ndarray], *, queue_depth: int = 1, seed: int | None = None) -> list[str]:
    """Names of everything that differs from golden: layers (checked as soon as they are done) and outputs."""
    memories = Memories(config=network.config)
    memories.fill_randomly(7)
    sizes = network.region_bytes()
    memories.regions = {region: np.full(sizes[region], 0xAA, np.uint8) for region in Region}
    memories.regions[Region.PROGRAM][:] = np.frombuffer(network.program, np.uint8)
    memories.regions[Region.WEIGHTS][:] = np.frombuffer(network.weights, np.uint8)
    for tensor in network.inputs:
        memories.regions[Region.INPUT][tensor.offset : tensor.offset + tensor.size_bytes] = tensor.layout.pack(codes[tensor.value]).view(np.uint8)[0]
    expected = golden_codes(network.graph, codes, keep=network.graph.values)
    last = {layer.commands[-1]: layer for layer in network.layers}
    wrong = []

    def check(index: int, command: object) -> None:
        if index in last:
            layer = last[index]
            kind = network.graph.values[layer.value].type
            shape = {"height": kind.height, "width": kind.width, "lanes": network.config.in_lanes, "blocks": layer.view.blocks}
            layout = BlockedLayout(positions=network.positions[layer.value], fill=0, **shape)
            found = layout.unpack(memories.activation[layer_words(layer, network)].reshape(1, -1))
            if not np.array_equal(found[0], expected[layer.value][0]):
                wrong.append(layer.name)

    simulate(memories, queue_depth=queue_depth, seed=seed, after=check)
    for tensor in network.outputs:
        image = memories.regions[Region.OUTPUT][tensor.offset : tensor.offset + tensor.size_bytes].view(np.int8)[None]
        if not np.array_equal(tensor.layout.unpack(image)[0], expected[tensor.value][0]):
            wrong.append(f"output {tensor.name}")
    return wrong
