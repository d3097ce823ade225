"""Remove nodes whose results no output depends on."""

from __future__ import annotations

from hwgen.ir.graph import Graph, Node


def remove_dead(graph: Graph) -> Graph:
    """Keep the graph's inputs, and the nodes that its outputs depend on."""
    wanted = {output.value for output in graph.outputs}
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.output in wanted:
            wanted.update(node.inputs)
            kept.append(node)
    alive = {node.output for node in kept} | {graph_input.value for graph_input in graph.inputs}
    return graph.with_nodes(tuple(reversed(kept)), {name: value for name, value in graph.values.items() if name in alive})
