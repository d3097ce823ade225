"""Where values lie that pass between accelerator and processor, and what the processor computes with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph, Node
from hwgen.isa.fields import Region
from hwgen.layout import Layout
from hwgen.schedule.homes import Ends, HostTensor, granule
from hwgen.schedule.storage import Span, allocate

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A node that the processor computes, and where its operands and its result lie; the result twice where it is a network output that
    others read as well. `shapes` (height, width, channels) of the operands, then of the result."""

    node: Node
    inputs: tuple[HostTensor, ...]
    outputs: tuple[HostTensor, ...]
    shapes: tuple[Shape, ...]

    @property
    def scratch_bytes(self) -> int:
        """Of operands and result in (height, width, channels) order, one after the other."""
        return sum(math.prod(shape) for shape in self.shapes)


def crossing_tensors(spans: Mapping[str, Span], layouts: Mapping[str, Layout], config: HardwareConfig) -> tuple[HostTensor, ...]:
    """The values with these lifetimes, in the arena from its beginning; bytes are used again."""
    unit = granule(config)
    placed = allocate({name: (-(-layouts[name].size_bytes // unit), span) for name, span in spans.items()})
    return tuple(
        HostTensor(name=name, value=name, region=Region.ARENA, offset=address * unit, layout=layouts[name]) for name, address in sorted(placed.items())
    )


@dataclass(frozen=True, kw_only=True)
class Places:
    """Every value in memory: network inputs by value, network outputs by name, values that cross by value."""

    inputs: Mapping[str, HostTensor]
    outputs: Mapping[str, HostTensor]
    crossing: Mapping[str, HostTensor]

    @staticmethod
    def of(network: Ends, crossing: tuple[HostTensor, ...]) -> Places:
        return Places(inputs={t.value: t for t in network[0]}, outputs={t.name: t for t in network[1]}, crossing={t.value: t for t in crossing})

    def source(self, value: str) -> HostTensor:
        return self.inputs.get(value) or self.crossing[value]

    def ends(self, program: Graph, network: Graph) -> Ends:
        """What a program reads and writes."""
        names = {id(output) for output in network.outputs}
        outputs = tuple(self.outputs[output.name] if id(output) in names else self.crossing[output.value] for output in program.outputs)
        return tuple(self.source(entry.value) for entry in program.inputs), outputs

    def kernel(self, node: Node, network: Graph) -> Kernel:
        results = [self.outputs[output.name] for output in network.outputs if output.value == node.output]
        handed = [self.crossing[node.output]] if node.output in self.crossing else []
        return Kernel(
            node=node,
            inputs=tuple(self.source(name) for name in node.inputs),
            outputs=(*handed, *results),
            shapes=tuple(network.values[name].type.shape for name in (*node.inputs, node.output)),
        )
