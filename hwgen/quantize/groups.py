"""Values that must share one quantization, because an operator copies codes from one to the other."""

from __future__ import annotations

from hwgen.ir.graph import Graph
from hwgen.ops.check import COPYING


def groups(graph: Graph) -> dict[str, str]:
    """Value name -> name of its group's representative."""
    parent = {name: name for name in graph.values}

    def root(name: str) -> str:
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for node in graph.nodes:
        if isinstance(node.op, COPYING):
            for name in node.inputs:
                parent[root(name)] = root(node.output)
    return {name: root(name) for name in graph.values}
