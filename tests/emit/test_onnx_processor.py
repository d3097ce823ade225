"""Networks with the processor's operators as ONNX: what is read back means the same, and ONNX Runtime computes it within one step."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from mixed_graphs import mixed_graph

from hwgen.emit.onnx import to_qdq, to_qoperator
from hwgen.frontend.onnx_file import check_model
from hwgen.frontend.qdq import import_quantized_model
from hwgen.inputs import random_codes
from hwgen.ir.evaluate import from_canonical
from hwgen.ir.graph import Graph
from hwgen.ops.elementwise import Div
from hwgen.ops.golden import golden, golden_codes
from hwgen.ops.softmax import Softmax


def graphs(count: int) -> list[tuple[int, Graph]]:
    """Mixed networks that ONNX can say: no softmax at the end, whose last rounding is left to the outside, and with an operator of the processor."""
    found = []
    for seed in range(200):
        graph = mixed_graph(seed)
        kinds = [type(node.op) for node in graph.nodes]
        ends = {output.value for output in graph.outputs}
        if len(set(kinds)) > 1 and not any(isinstance(node.op, Softmax) and node.output in ends for node in graph.nodes) and _readable(graph):
            found.append((seed, graph))
        if len(found) == count:
            break
    return found


def _readable(graph: Graph) -> bool:
    """No pooling of a single pixel whose limits are written behind it: it is read as a change of scale."""
    return not any(type(node.op).__name__ in ("AveragePool", "MaxPool") and node.op.window.area == 1 for node in graph.nodes)


def outputs(graph: Graph, codes: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [from_canonical(output, graph.values[output.value].quantized.dequantize(codes[output.value])) for output in graph.outputs]


def test_what_is_read_back_computes_the_same() -> None:
    for seed, graph in graphs(24):
        proto = to_qdq(graph)
        check_model(proto, "again")
        again = import_quantized_model(proto, "again")
        codes = random_codes(graph, 2)
        real = {entry.name: graph.values[entry.value].quantized.dequantize(codes[entry.value]) for entry in graph.inputs}
        for wanted, found in zip(outputs(graph, golden_codes(graph, codes)), outputs(again, golden(again, real)), strict=True):
            assert (wanted == found).all(), seed


def runtime(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    return onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)


@pytest.mark.parametrize("form", [to_qdq, to_qoperator])
def test_onnx_runtime_agrees_within_one_step(form: object) -> None:
    """Layer by layer, so that steps do not add up. A division by 0 is left out: 0 / 0 has no meaning in ONNX."""
    worst, checked = 0.0, 0
    for _, graph in graphs(30):
        if any(isinstance(node.op, Div) for node in graph.nodes) or len(graph.nodes) > 8:
            continue
        codes = random_codes(graph, 2)
        real = {entry.name: graph.values[entry.value].quantized.dequantize(codes[entry.value]) for entry in graph.inputs}
        wanted = outputs(graph, golden_codes(graph, codes))
        for output, right, found in zip(graph.outputs, wanted, runtime(form(graph), real), strict=True):  # type: ignore[operator]
            worst = max(worst, float(np.abs(right - found).max()) / float(graph.values[output.value].quantized.scale))
            checked += 1
    assert checked > 15
    assert worst <= 1.01
