"""The node tests of ONNX: a part of them runs here, and comes out as the published table says."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tools import node_tests
from tools.node_tests import OPERATORS, TABLE, Outcome, Verdict, cases, outcome, page

EVERY = 6


@functools.cache
def collected() -> dict[str, Any]:
    return {case.name: case for case in cases()}


@functools.cache
def outcomes() -> tuple[Outcome, ...]:
    return tuple(outcome(case) for case in list(collected().values())[::EVERY])


def refused() -> set[str]:
    text = TABLE.read_text(encoding="utf-8").split("## Refused")[1].split("## Wrong")[0]
    return {f"test_{name}" for name in re.findall(r"^\| (\w+) \| (?!reason)", text, re.MULTILINE)}


def test_no_case_is_wrong_and_refusals_are_those_of_the_table() -> None:
    assert len(outcomes()) > 60
    assert [entry for entry in outcomes() if entry.verdict is Verdict.WRONG] == []
    assert {entry.name for entry in outcomes() if entry.verdict is Verdict.REFUSED} <= refused()
    assert not refused() & {entry.name for entry in outcomes() if entry.verdict is not Verdict.REFUSED}


def test_a_function_written_out_of_an_input_that_is_seen_in_another_shape() -> None:
    """Its first factor stands behind the input's quantizer, which reads another tensor than the input."""
    assert outcome(collected()["test_gelu_default_1"]).verdict is Verdict.CLOSE


def test_enough_of_the_published_cases_pass() -> None:
    passed, total = map(int, re.search(r"\*\*(\d+) of (\d+) pass\*\*", TABLE.read_text(encoding="utf-8")).groups())  # type: ignore[union-attr]
    assert passed > 207 / 293 * total
    assert "\nNone.\n" in TABLE.read_text(encoding="utf-8").split("## Wrong")[1]


def test_every_refusal_has_a_reason() -> None:
    assert all(entry.reason for entry in outcomes() if entry.verdict is Verdict.REFUSED)
    rows = [line.split(" | ") for line in page(outcomes()).split("## Refused")[1].splitlines() if line.startswith("| ")][1:]
    assert rows
    assert all(len(row) == 2 and len(row[1]) > 10 for row in rows)


class Case:
    """A case of one Relu, whose expected result may be wrong."""

    def __init__(self, offset: float) -> None:
        x = np.linspace(-1, 1, 12, dtype=np.float32).reshape(1, 3, 2, 2)
        entry, result = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, x.shape) for name in ("x", "y"))
        self.name, self.rtol = "test_relu", 1e-3
        self.model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [entry], [result]))
        self.data_sets = [([x], [np.maximum(x, 0) + np.float32(offset)])]


def test_a_wrong_result_is_seen() -> None:
    assert "Relu" in OPERATORS
    assert outcome(Case(0.0)).verdict is Verdict.EXACT
    assert outcome(Case(0.1)).reason == "float meaning off by 0.1"


def test_a_wrong_integer_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = node_tests.golden

    def spoiled(graph: Any, arrays: Any) -> Any:
        return {name: np.where(codes > 0, codes - 3, codes) for name, codes in right(graph, arrays).items()}

    monkeypatch.setattr(node_tests, "golden", spoiled)
    assert outcome(Case(0.0)).verdict is Verdict.WRONG
