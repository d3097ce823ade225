"""Functions of one value that follow each other become one table."""

from __future__ import annotations

from collections.abc import Iterable

from hwgen.ir.graph import Graph, Node
from hwgen.ops.add import Add
from hwgen.ops.base import UNLIMITED
from hwgen.ops.clamp import Clamp
from hwgen.ops.conv import Conv
from hwgen.ops.lookup import Function, Lookup, Step, after, shifted
from hwgen.optimize.fold_batch_norm import is_affine
from hwgen.optimize.rewrite import merge, only_reader


def fuse_lookup(graph: Graph) -> Graph:
    """A Lookup takes in the Lookups, Clamps and uniform scales and offsets before and behind it that have no quantization of their own
    between, and no other reader."""
    is_float = all(value.quantization is None for value in graph.values.values())  # else weights are codes
    for node in graph.nodes:
        current = graph.producer(node.output)
        if current is not None:
            graph = _fuse(graph, current, is_float)
    return graph


def _fuse(graph: Graph, node: Node, is_float: bool) -> Graph:
    before = graph.producer(node.inputs[0])
    if before is None or not isinstance(node.op, Lookup) and not isinstance(before.op, Lookup):
        return graph
    if graph.values[before.output].quantization is not None or only_reader(graph, before) is None:
        return graph
    steps = [unary_steps(one, is_float) for one in (before, node)]
    if steps[0] is None or steps[1] is None:
        return graph
    return merge(graph, before, node, Lookup(steps=after(steps[0], steps[1])))


def unary_steps(node: Node, is_float: bool) -> tuple[Step, ...] | None:
    """What the node does to each element of its one operand; None where that depends on more than the element. Convolutions say so only
    where they are float."""
    if isinstance(node.op, Lookup):
        return node.op.steps
    if isinstance(node.op, Clamp):
        return _clip(node.op.clamp, 0)
    if isinstance(node.op, Conv) and is_float and is_affine(node):
        scale, offset = node.op.weight.reshape(-1), node.op.bias
        low, high = node.op.clamp
        if (scale == scale[0]).all() and (offset == offset[0]).all() and not isinstance(low, tuple) and not isinstance(high, tuple):
            steps = affine_steps(float(scale[0]), float(offset[0]))
            return (*steps, *_clip((low, high), len(steps)))
    return None


def affine_steps(scale: float, offset: float) -> tuple[Step, ...]:
    """x * scale + offset, without what changes nothing."""
    first = () if scale == 1 else (Step(function=Function.SCALE, parameters=(scale,)),)
    return first if offset == 0 else (*first, Step(function=Function.OFFSET, operands=(len(first),), parameters=(offset,)))


def _clip(clamp: tuple[float, float], operand: int) -> tuple[Step, ...]:
    return () if clamp == UNLIMITED else (Step(function=Function.CLIP, operands=(operand,), parameters=clamp),)


def function_of_one(nodes: Iterable[Node], values: tuple[str, ...], rounding: dict[str, Step], is_float: bool) -> tuple[str, Region] | None:
    """The latest value of which all `values` are functions element by element, and the functions; None where there is none.

    `rounding`: values (by name) that are quantized where they are computed, and the step that does so.
    """
    producers = {node.output: (index, node) for index, node in enumerate(nodes)}
    leaves, region = set(values), []
    while len(leaves) > 1:
        latest = max(leaves, key=lambda name: producers[name][0] if name in producers else -1)
        if latest not in producers:
            return None
        node = producers[latest][1]
        if unary_steps(node, is_float) is None and not (isinstance(node.op, Add) and node.op.clamp == UNLIMITED):
            return None
        leaves = (leaves - {latest}) | set(node.inputs)
        region.append(node)
    (root,) = leaves
    found = Region(root)
    for node in reversed(region):
        found.append(node, rounding.get(node.output), is_float)
    return root, found


class Region:
    """Steps that compute values from one `root`: `results` says which result holds which value."""

    def __init__(self, root: str) -> None:
        self.results = {root: 0}
        self.steps: list[Step] = []
        self.sources: list[str] = []

    def append(self, node: Node, rounding: Step | None, is_float: bool) -> None:
        """One more node, and the rounding of its value."""
        operands = tuple(self.results[name] for name in node.inputs)
        steps = unary_steps(node, is_float)
        if steps is None:
            self.steps.append(Step(function=Function.ADD, operands=operands))
        else:
            self.steps += shifted(steps, operands[0], len(self.steps))
        self.results[node.output] = len(self.steps) if steps != () else operands[0]
        if rounding is not None:
            self.steps += shifted((rounding,), self.results[node.output], len(self.steps))
            self.results[node.output] = len(self.steps)
        self.sources += node.source
