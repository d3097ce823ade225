import pytest
from random_graphs import random_graph

from hwgen.emit.firmware_reference import build_reference, plan_memory


@pytest.mark.parametrize("seed", range(20))
def test_values_that_live_at_the_same_time_do_not_overlap(seed: int) -> None:
    graph = random_graph(seed, nodes=10)
    offsets, total = plan_memory(graph)
    steps = {node.output: index for index, node in enumerate(graph.nodes)}
    last = {name: max([steps[name], *(k for k, node in enumerate(graph.nodes) if name in node.inputs)]) for name in steps}
    last |= {output.value: len(graph.nodes) for output in graph.outputs if output.value in steps}
    spans = {name: (offset, offset + graph.values[name].type.elements) for name, offset in offsets.items()}
    assert max(end for _, end in spans.values()) <= total
    for a in steps:
        for b in steps:
            if steps[a] < steps[b] <= last[a]:
                assert spans[a][1] <= spans[b][0] or spans[b][1] <= spans[a][0], (a, b)


def test_memory_is_reused() -> None:
    graph = next(graph for graph in map(random_graph, range(100)) if len(graph.nodes) >= 5 and len(graph.outputs) == 1)
    _, total = plan_memory(graph)
    assert total < sum(graph.values[node.output].type.elements for node in graph.nodes)


def test_only_kernels_that_are_used_are_emitted() -> None:
    """An unused static function is a warning, and warnings are errors."""
    for seed in range(30):
        view = build_reference(random_graph(seed), "p").view
        called = {call.split("(")[0] for layer in view.layers for call in layer.calls}
        names = {
            "conv": "conv",
            "depthwise": "depthwise",
            "max_pool": "max_pool",
            "average_pool": "average_pool",
            "add": "add",
            "clamp": "limit",
            "copy": "copy_rows",
            "lookup": "look_up",
            "slice": "slice",
            "spread": "spread",
        }
        assert {names[use] for use in view.uses & names.keys()} == called - {"memset"}
