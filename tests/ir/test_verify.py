"""Each invariant of a graph, broken."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from onnx_models import imported, model, node, normal

from hwgen.errors import ModelError
from hwgen.ir.graph import Graph, Value
from hwgen.ir.types import TensorType
from hwgen.ir.verify import verify


def network() -> Graph:
    nodes = [node("Conv", ["x", "w"], "a"), node("MaxPool", ["a"], "y", kernel_shape=[2, 2])]
    return imported(model(nodes, {"x": ["N", 4, 6, 5]}, {"w": normal(3, 4, 3, 3)}))


def broken(**changes: object) -> str:
    with pytest.raises(ModelError) as caught:
        verify(replace(network(), **changes))
    return str(caught.value)


def test_sound_graph() -> None:
    verify(network())


def test_order() -> None:
    assert broken(nodes=network().nodes[::-1]) == "MaxPool 'y': input 'a' must be computed before it is read"


def test_single_assignment() -> None:
    graph = network()
    assert broken(nodes=(*graph.nodes, graph.nodes[0])) == "Conv 'a': value 'a' must be assigned once"
    assert broken(inputs=graph.inputs * 2) == "input 'x': value 'x' must be assigned once"


def test_outputs_exist() -> None:
    assert broken(outputs=(replace(network().outputs[0], value="none"),)) == "output 'y': value 'none' must be computed"


def test_values_are_those_of_the_nodes() -> None:
    values = network().values
    assert "differ in ['stray']" in broken(values={**values, "stray": Value(name="stray", type=TensorType(1, 1, 1))})
    assert "value 'other' must be stored under its own name, not 'a'" in broken(values={**values, "a": replace(values["a"], name="other")})


def test_types() -> None:
    values = network().values
    assert (
        broken(values={**values, "a": replace(values["a"], type=TensorType(4, 3, 2))})
        == "Conv 'a': value 'a' must be of shape (4, 3, 3), not (4, 3, 2)"
    )
    wrong = {**values, "x": replace(values["x"], type=TensorType(6, 5, 3))}
    assert broken(values=wrong) == "Conv 'a': Conv: input channels must be 4 (weights x group), not 3"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bias": np.array([0, np.nan, 0], np.float32)}, "Conv 'a': bias must be finite, but holds NaN or infinity"),
        ({"clamp": (1.0, 0.0)}, "Conv 'a': clamp must be an interval, not (1.0, 0.0)"),
        ({"clamp": (np.nan, 0.0)}, "Conv 'a': clamp must be an interval, not (nan, 0.0)"),
    ],
)
def test_parameters(change: dict[str, object], message: str) -> None:
    first, *rest = network().nodes
    with pytest.raises(ModelError, match=re.escape(message)):
        verify(network().with_nodes((replace(first, op=replace(first.op, **change)), *rest)))
