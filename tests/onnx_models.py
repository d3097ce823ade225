"""Small ONNX models for tests, and ONNX Runtime as the witness of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from openset_support import session

from hwgen.frontend.onnx import check_model, import_model
from hwgen.ir.evaluate import evaluate
from hwgen.ir.graph import Graph
from hwgen.optimize import optimize

Array = Any


def node(operator: str, inputs: Sequence[str], output: str | Sequence[str], name: str = "", **attributes: Any) -> onnx.NodeProto:
    outputs = [output] if isinstance(output, str) else list(output)
    return helper.make_node(operator, list(inputs), outputs, name=name, **attributes)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str | None]],
    constants: Mapping[str, Array] | None = None,
    outputs: Sequence[str] = ("y",),
    opset: int = 13,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model whose inputs have the given shapes, batch first."""
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


def shape_of(*numbers: int) -> Array:
    return np.asarray(numbers, np.int64)


def imported(proto: onnx.ModelProto) -> Graph:
    """Checked, imported and optimized."""
    check_model(proto, "test")
    return optimize(import_model(proto, "test"))


def feeds_of(proto: onnx.ModelProto, batch: int = 2, seed: int = 0) -> dict[str, Array]:
    constants = {initializer.name for initializer in proto.graph.initializer}
    feeds = {}
    for info in proto.graph.input:
        if info.name not in constants:
            sizes = [dimension.dim_value for dimension in info.type.tensor_type.shape.dim]
            dtype = helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
            values = normal(sizes[0] or batch, *sizes[1:], seed=seed + len(feeds)) * (1 if dtype.kind == "f" else 50)
            feeds[info.name] = values.astype(dtype)
    return feeds


def assert_equal_to_onnxruntime(proto: onnx.ModelProto, batch: int = 2, tolerance: float = 1e-5) -> Graph:
    """The imported graph, before and after optimization, gives ONNX Runtime's outputs and shapes. Returns the optimized graph."""
    check_model(proto, "test")
    raw = import_model(proto, "test")
    optimized = optimize(raw)
    feeds = feeds_of(proto, batch)
    expected = session(proto.SerializeToString()).run(None, feeds)
    for graph in (raw, optimized):
        found = evaluate(graph, feeds)
        assert list(found) == [output.name for output in proto.graph.output]
        for y, wanted, output in zip(found.values(), expected, graph.outputs, strict=True):
            assert y.shape == wanted.shape
            assert output.shape == (-1, *wanted.shape[1:])
            scale = max(float(np.abs(wanted).max()), 1e-3)
            np.testing.assert_allclose(y / scale, wanted / scale, atol=tolerance, rtol=0)
    return optimized


def operators(graph: Graph) -> list[str]:
    return [type(node.op).__name__ for node in graph.nodes]
