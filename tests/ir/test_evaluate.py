"""The float evaluator's contract: shapes, batches, blocks, errors. Its numbers are tested beside the front end."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from onnx_models import imported, model, node, normal

from hwgen.errors import DataError
from hwgen.ir import evaluate as module
from hwgen.ir.evaluate import blocks, evaluate
from hwgen.ir.graph import Graph


def network() -> Graph:
    nodes = [node("Conv", ["x", "w"], "a"), node("Conv", ["z", "w"], "b"), node("Add", ["a", "b"], "c"), node("Softmax", ["c"], "y", axis=1)]
    shape = ["N", 4, 6, 5]
    return imported(model(nodes, {"x": shape, "z": shape}, {"w": normal(3, 4, 3, 3)}))


def arrays(count: int = 5) -> dict[str, Any]:
    return {"x": normal(count, 4, 6, 5), "z": normal(count, 4, 6, 5, seed=1)}


def test_outside_gives_outputs_and_inside_gives_every_value() -> None:
    outputs = evaluate(network(), arrays())
    assert {name: y.shape for name, y in outputs.items()} == {"y": (5, 3, 4, 3)}
    values = evaluate(network(), arrays(), outside=False)
    assert {name: y.shape for name, y in values.items()} == {"x": (5, 6, 5, 4), "z": (5, 6, 5, 4), **{name: (5, 4, 3, 3) for name in "abc"}}


def test_logits_without_softmax() -> None:
    logits = evaluate(network(), arrays(), softmax=False)["y"]
    np.testing.assert_array_equal(logits, evaluate(network(), arrays(), outside=False)["c"].transpose(0, 3, 1, 2))
    probabilities = evaluate(network(), arrays())["y"]
    np.testing.assert_allclose(probabilities, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-5)


def test_results_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate(network(), arrays())["y"]
    monkeypatch.setattr(module, "BLOCK_BYTES", 1)
    assert [block.stop - block.start for block in blocks(network(), 5)] == [1] * 5
    np.testing.assert_allclose(evaluate(network(), arrays())["y"], whole, rtol=1e-5)


def test_blocks_cover_a_ragged_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK_BYTES", 4 * (6 * 5 * 4 + 4 * 3 * 3 + 4 * 3 * 36) * 2)
    assert [(block.start, block.stop) for block in blocks(network(), 5)] == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": None}, "input 'x': needs an array of shape [N, 4, 6, 5]; given are z"),
        ({"x": normal(5, 6, 5, 4)}, "input 'x': must have shape [N, 4, 6, 5], not [5, 6, 5, 4]"),
        ({"x": normal(4, 6, 5)}, "input 'x': must have shape [N, 4, 6, 5], not [4, 6, 5]"),
        ({"x": np.full((5, 4, 6, 5), "a")}, "input 'x': must hold numbers, not <U1"),
        ({"x": normal(0, 4, 6, 5)}, "input 'x': must hold at least one input, but the batch is empty"),
        ({"x": normal(3, 4, 6, 5)}, "inputs: must hold equally many inputs each, not {'x': 3, 'z': 5}"),
    ],
)
def test_arrays_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    feeds = {name: array for name, array in {**arrays(), **change}.items() if array is not None}
    with pytest.raises(DataError, match=re.escape(message)):
        evaluate(network(), feeds)


def test_no_arrays() -> None:
    with pytest.raises(DataError, match="given are none"):
        evaluate(network(), {})


def test_integer_and_double_arrays_are_taken_as_real_numbers() -> None:
    integers = {name: np.round(array * 20).astype(np.int8) for name, array in arrays().items()}
    expected = evaluate(network(), {name: array.astype(np.float32) for name, array in integers.items()})["y"]
    np.testing.assert_array_equal(evaluate(network(), integers)["y"], expected)
    np.testing.assert_array_equal(evaluate(network(), {name: array.astype(np.float64) for name, array in integers.items()})["y"], expected)
