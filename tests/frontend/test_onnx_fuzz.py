"""Damaged and hostile models end in an HwgenError or in a graph that runs; in nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_models import model, node, normal, shape_of

from hwgen.errors import HwgenError
from hwgen.frontend.onnx import HANDLERS, load_float_graph
from hwgen.ir.evaluate import evaluate

NUMBERS = st.sampled_from([-1, 0, 1, 2, 3, 7, 100, 1 << 31, 1 << 62, -(1 << 62)])


def sound() -> onnx.ModelProto:
    norm = {"s": normal(3), "o": normal(3), "m": normal(3), "v": np.abs(normal(3))}
    nodes = [
        node("Pad", ["x", "p"], "a"),
        node("Conv", ["a", "w", "o"], "b", strides=[1, 1], dilations=[1, 1], pads=[1, 1, 1, 1], group=1),
        node("BatchNormalization", ["b", *norm], "c", epsilon=1e-5),
        node("Clip", ["c", "low", "high"], "d"),
        node("MaxPool", ["d"], "e", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        node("AveragePool", ["e"], "f", kernel_shape=[2, 1], pads=[1, 0, 0, 0], count_include_pad=1),
        node("Add", ["f", "e"], "g"),
        node("Concat", ["g", "e"], "h", axis=1),
        node("Transpose", ["h"], "i", perm=[0, 2, 3, 1]),
        node("Reshape", ["i", "shape"], "j"),
        node("Gemm", ["j", "q", "r"], "k", alpha=0.5, transB=0),
        node("Softmax", ["k"], "y", axis=1),
    ]
    constants = {"p": shape_of(0, 0, 1, 0, 0, 0, 0, 1), "w": normal(3, 2, 3, 3), **norm, "low": np.float32(0), "high": np.float32(6)}
    constants |= {"shape": shape_of(0, -1), "q": normal(54, 5), "r": normal(5)}
    return model(nodes, {"x": ["N", 2, 5, 4]}, constants)


def survive(path: Path, content: bytes) -> bool:
    """True where the model was accepted and ran."""
    path.write_bytes(content)
    try:
        graph = load_float_graph(path)
    except HwgenError as error:
        assert str(error)
        return False
    if sum(value.type.elements for value in graph.values.values()) < 1 << 20:
        evaluate(graph, {graph_input.name: np.zeros((1, *graph_input.shape[1:]), np.float32) for graph_input in graph.inputs})
    return True


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "net.onnx"


def test_the_sound_model_is_accepted(path: Path) -> None:
    assert survive(path, sound().SerializeToString())


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_changed_bytes(path: Path, data: Any) -> None:
    content = bytearray(sound().SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    survive(path, bytes(content))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_changed_nodes(path: Path, data: Any) -> None:
    proto = sound()
    graph = proto.graph
    for _ in range(data.draw(st.integers(1, 3))):
        changed = data.draw(st.sampled_from(list(graph.node)))
        tensor = data.draw(st.sampled_from(list(graph.initializer)))
        match data.draw(st.integers(0, 6)):
            case 0 if changed.attribute:
                attribute = data.draw(st.sampled_from(list(changed.attribute)))
                if attribute.ints:
                    attribute.ints[data.draw(st.integers(0, len(attribute.ints) - 1))] = data.draw(NUMBERS)
                else:
                    attribute.i = data.draw(NUMBERS)
            case 1 if changed.attribute:
                del changed.attribute[data.draw(st.integers(0, len(changed.attribute) - 1))]
            case 2:
                changed.op_type = data.draw(st.sampled_from(sorted(HANDLERS)))
            case 3 if tensor.dims:
                tensor.dims[data.draw(st.integers(0, len(tensor.dims) - 1))] = data.draw(NUMBERS)
            case 4:
                sizes = graph.input[0].type.tensor_type.shape.dim
                sizes[data.draw(st.integers(0, len(sizes) - 1))].dim_value = data.draw(NUMBERS)
            case 5 if changed.input:
                names = [name for other in graph.node for name in other.output] + [tensor.name]
                changed.input[data.draw(st.integers(0, len(changed.input) - 1))] = data.draw(st.sampled_from(names))
            case 6:
                changed.input.append(tensor.name)
    survive(path, proto.SerializeToString())
