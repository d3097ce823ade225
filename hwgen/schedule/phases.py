"""A network cut where the processor works: accelerator, processor, accelerator, ... A network without such operators is one phase."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hwgen.config import HardwareConfig
from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node
from hwgen.ops.base import Operator
from hwgen.ops.depth_to_space import DepthToSpace
from hwgen.ops.lookup import Lookup
from hwgen.ops.processor import PROCESSOR_OPERATORS
from hwgen.ops.resize import Resize
from hwgen.schedule.storage import Span


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What the accelerator computes without a break (`nodes`), and what the processor computes before it (`kernels`), each in order."""

    kernels: tuple[Node, ...]
    nodes: tuple[Node, ...]


def on_processor(op: Operator, config: HardwareConfig) -> bool:
    """Whether the processor computes this operator, because hardware of this configuration has no command for it."""
    if isinstance(op, Lookup):
        return not config.activation_tables
    if isinstance(op, Resize | DepthToSpace):
        return not config.output_gaps
    return isinstance(op, PROCESSOR_OPERATORS)


def divide(graph: Graph, config: HardwareConfig) -> tuple[Phase, ...]:
    """As few phases as the operators' order allows; each node as early as its operands are there. The last phase has no nodes where the
    processor works at the end; the first one always is a program, empty where the processor begins."""
    level = {entry.value: (0, False) for entry in graph.inputs}  # phase, computed by the accelerator
    for node in graph.nodes:
        processor = on_processor(node.op, config)
        number = max(phase + (accelerator and processor) for phase, accelerator in (level[name] for name in node.inputs))
        level[node.output] = (number, not processor)
    count = 1 + max(number for number, _ in level.values())
    phases = []
    for number in range(count):
        own = [node for node in graph.nodes if level[node.output][0] == number]
        kernels = tuple(node for node in own if on_processor(node.op, config))
        phases.append(Phase(kernels=kernels, nodes=tuple(node for node in own if not on_processor(node.op, config))))
    return tuple(phases)


def in_order(phases: Sequence[Phase]) -> tuple[Node, ...]:
    """All nodes as they run."""
    return tuple(node for phase in phases for node in (*phase.kernels, *phase.nodes))


def program_graph(graph: Graph, phases: tuple[Phase, ...], index: int) -> Graph:
    """The accelerator's part of a phase as a network: what it reads of others are its inputs, what others read its outputs besides those
    of the network. `values` are still those of the whole graph, so that new names are new everywhere."""
    nodes = phases[index].nodes
    computed = {node.output for node in nodes}
    own = {entry.value: entry for entry in graph.inputs}
    reads = dict.fromkeys(name for node in nodes for name in node.inputs if name not in computed)
    outputs = [output for output in graph.outputs if output.value in computed or (index == 0 and output.value in own)]
    reads |= dict.fromkeys(output.value for output in outputs if output.value in own)
    others = [node for node in graph.nodes if node.output not in computed]
    handed = dict.fromkeys(name for node in others for name in node.inputs if name in computed)
    return replace(
        graph,
        inputs=tuple(own.get(name) or GraphInput(name=name, shape=(-1, *graph.values[name].type.shape), dtype="float32", value=name) for name in reads),
        outputs=(*outputs, *(GraphOutput(name=name, shape=(-1, *graph.values[name].type.shape), value=name) for name in handed)),
        nodes=nodes,
    )


def crossing_spans(graph: Graph, phases: tuple[Phase, ...]) -> dict[str, Span]:
    """When each value that passes between accelerator and processor, or between phases, must lie in memory: the kernels of phase k are step
    2 k, its program step 2 k + 1. Network inputs have their own place."""
    step: dict[str, int] = {}
    for k, phase in enumerate(phases):
        step |= {node.output: 2 * k for node in phase.kernels} | {node.output: 2 * k + 1 for node in phase.nodes}
    kernels = {node.output for phase in phases for node in phase.kernels}
    spans: dict[str, Span] = {}
    for node in graph.nodes:
        for name in node.inputs:
            if name in step and (name in kernels or step[name] != step[node.output]):
                spans[name] = (step[name], max(step[node.output], spans.get(name, (0, 0))[1]))
    return spans


def trimmed(graph: Graph) -> Graph:
    """`graph` with the values of its inputs and nodes alone."""
    kept = {entry.value for entry in graph.inputs} | {node.output for node in graph.nodes}
    return replace(graph, values={name: value for name, value in graph.values.items() if name in kept})
