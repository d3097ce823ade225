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
from hwgen.ir.graph import Graph, GraphInput, GraphOutput, Node, Value
from hwgen.ir.types import Quantization, TensorType
from hwgen.ops.base import Operator
from hwgen.ops.elementwise import Div, Mul
from hwgen.ops.golden import golden, golden_codes
from hwgen.ops.local_response import LocalResponse
from hwgen.ops.move import Move
from hwgen.ops.normalize import Normalize
from hwgen.ops.softmax import ArgExtremum, LogSoftmax, Softmax


def graphs(count: int) -> list[tuple[int, Graph]]:
    """Mixed networks that ONNX can say, with more than one operator."""
    found = []
    for seed in range(200):
        graph = mixed_graph(seed)
        if len({type(node.op) for node in graph.nodes}) > 1 and not _ends_outside(graph):
            found.append((seed, graph))
        if len(found) == count:
            break
    return found


def _ends_outside(graph: Graph) -> bool:
    """An output is read as what the processor computes behind the last operator, on real numbers."""
    ends = {output.value for output in graph.outputs}
    for node in reversed(graph.nodes):
        if node.output in ends and isinstance(node.op, Move):
            ends |= set(node.inputs)
    return any(isinstance(node.op, Softmax | LogSoftmax | ArgExtremum) and node.output in ends for node in graph.nodes)


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


def runtime(proto: onnx.ModelProto, feeds: dict[str, np.ndarray], *, fuse: bool = True) -> list[np.ndarray]:
    """`fuse`: operators between DequantizeLinear and QuantizeLinear may become integer ones."""
    options = onnxruntime.SessionOptions()
    if not fuse:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, feeds)


CODES = np.arange(-128, 128, dtype=np.int8)
ONE = np.ones((1, 1, 1), np.float32)


@pytest.mark.parametrize(
    "op",
    [
        *(Mul(), Div(), Softmax(axis=3), LogSoftmax(axis=3), LocalResponse(size=3, alpha=0.01)),
        Normalize(axes=(3,), epsilon=1e-3, scale=ONE, offset=ONE),
        Normalize(axes=(3,), epsilon=1e-3, scale=ONE, offset=ONE, centered=False),
        Normalize(axes=(3,), epsilon=0.0, scale=0.7 * ONE, offset=0 * ONE, centered=False, least=0.5),
    ],
    ids=lambda op: type(op).__name__,
)
def test_all_pairs_of_codes_in_onnx_runtime(op: Operator) -> None:
    """Operands of all 65,536 pairs: ours is ONNX Runtime's code or one beside it, and one beside it for few. Its integer softmax is coarser."""
    pairs = [array.reshape(256, 256, 1) for array in np.meshgrid(CODES, CODES, indexing="ij")]
    operands = [array[None] for array in pairs] if isinstance(op, Mul | Div) else [np.concatenate(pairs, axis=-1)[None]]
    for x_scale, zero_points in ((0.021, (3, -90)), (0.3, (-128, 12))):
        y = Quantization(scale=np.float32(0.0173), zero_point=-20)
        kinds = [TensorType(*array.shape[1:]) for array in operands]
        names = [f"x{k}" for k in range(len(operands))]
        quantizations = [Quantization(scale=np.float32(x_scale), zero_point=zero) for zero in zero_points]
        values = {name: Value(name=name, type=kind, quantization=q) for name, kind, q in zip(names, kinds, quantizations, strict=False)}
        values["y"] = Value(name="y", type=op.infer(*kinds), quantization=y)
        graph = Graph(
            name="pairs",
            inputs=tuple(GraphInput(name=name, shape=(-1, *values[name].type.shape), dtype="float32", value=name) for name in names),
            outputs=(GraphOutput(name="z", shape=(-1, *values["y"].type.shape), value="y"),),
            nodes=(Node(name="n", op=op, inputs=tuple(names), output="y"),),
            values=values,
        )
        feeds = {name: values[name].quantized.dequantize(array) for name, array in zip(names, operands, strict=True)}
        difference = np.abs(runtime(to_qdq(graph), feeds, fuse=False)[0] - y.dequantize(golden(graph, feeds)["y"])) / y.scale
        if isinstance(op, Div):
            difference = difference[operands[1] != zero_points[1]]  # 0 / 0 has no meaning in ONNX
        assert difference.max() < 1.01
        assert (difference > 0.5).mean() < 1e-3


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
