"""Every float network of the open set means to hwgen what it means to ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from openset_support import FLOAT_MODELS, calibration, model_path, run_in_batches

from hwgen.frontend.onnx import load_float_graph
from hwgen.ir.evaluate import evaluate
from hwgen.ops import Clamp, Pad


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_equals_onnxruntime(name: str) -> None:
    graph = load_float_graph(model_path(name))
    x = calibration(name, 4)
    (expected,) = run_in_batches(model_path(name), x)
    (found,) = evaluate(graph, {graph.inputs[0].name: x}).values()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", FLOAT_MODELS)
def test_nothing_stays_unfused(name: str) -> None:
    graph = load_float_graph(model_path(name))
    assert not [node for node in graph.nodes if isinstance(node.op, Clamp | Pad)]


def test_channels_last_network_needs_no_transposition() -> None:
    graph = load_float_graph(model_path("resnet8_cifar10_nhwc"))
    assert graph.inputs[0].steps == ()
    assert len(graph.nodes) == 9 + 1 + 3 + 1  # convolutions, the fully connected layer, residual additions, pooling
