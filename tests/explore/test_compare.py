"""The table of methods: what it holds, that it is the same twice, and that impossible methods are rows with a reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.dom import minidom

import pytest

from hwgen.cli import main
from hwgen.config import HardwareConfig
from hwgen.evaluate import evaluate
from hwgen.explore.compare import CompareRequest, compare
from hwgen.explore.methods import METHODS
from hwgen.explore.table import HEADINGS, markdown, refusals, render_comparison, terminal_table
from hwgen.frontend.onnx import load_float_graph
from hwgen.isa.fields import Region
from hwgen.network import for_hardware
from hwgen.quantize import Scheme, quantize
from hwgen.schedule.compile import compile_network

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/digits"
MODEL, CALIBRATION, TEST = (EXAMPLE / name for name in ("model.onnx", "calibration.npz", "test.npz"))
COMMAND = ["compare", str(MODEL), "--calibration", str(CALIBRATION), "--inputs", str(TEST)]


@pytest.fixture(scope="module")
def comparison():
    return compare(CompareRequest(model=MODEL, calibration=CALIBRATION, inputs=TEST))


def test_every_method_is_a_row_and_every_key_is_described(comparison):
    content = comparison.content
    assert [row["name"] for row in content["methods"]] == list(METHODS)
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/report.md").read_text(encoding="utf-8").split("# compare.json")[1]))
    assert set(content) | set(content["methods"][0]) <= described
    for row in content["methods"]:
        assert row["refused"] is None and row["accuracy"] is not None and row["cycles"] > 0
        if "int2" not in row["name"] and "ary" not in row["name"]:
            least = (0.9, 10) if "int4" in row["name"] else (0.95, 20)
            if row["name"].endswith(("moving-average", "kl")):  # these clip much of what single inputs reach
                least = (0.95, 10)
            assert row["accuracy"] > least[0] and row["agreement"] > least[0] and row["sqnr_db"] > least[1]
    assert all(attempt.seconds > 0 for attempt in comparison.attempts)


def test_a_row_is_what_quantize_and_evaluate_say(comparison, tmp_path):
    out = tmp_path / "q.onnx"
    words = ["--scheme", "symmetric", "--granularity", "tensor", "--repair", "none"]
    assert main(["quantize", str(MODEL), "--calibration", str(CALIBRATION), *words, "-o", str(out)]) == 0
    score = evaluate(out, TEST, float_model=MODEL).scores[0]
    row = next(row for row in comparison.content["methods"] if row["name"] == "symmetric, per tensor")
    assert (row["accuracy"], row["agreement"], row["sqnr_db"]) == (score.accuracy, score.agreement, pytest.approx(score.sqnr_db, abs=0.001))
    assert row["float_accuracy"] == score.float_accuracy


def test_cycles_and_bytes_are_those_of_the_compiler(comparison):
    """They are computed once for all methods of one structure: also for those that came later they are right."""
    from hwgen.arrays import read_network_arrays
    from hwgen.explore.workbench import Workbench

    graph = load_float_graph(MODEL)
    config = CompareRequest(model=MODEL, calibration=CALIBRATION, inputs=TEST).hardware
    calibration, _ = read_network_arrays(CALIBRATION, graph.inputs)
    bench = Workbench(graph, calibration, calibration, None, config)
    for name in ("power-of-two, per tensor", "asymmetric, mse"):
        compiled = compile_network(for_hardware(quantize(graph, calibration, bench.options(METHODS[name])), config), config)
        row = next(row for row in comparison.content["methods"] if row["name"] == name)
        assert row["cycles"] == compiled.steady.prediction.total_cycles
        assert row["weight_bytes"] == compiled.region_bytes()[Region.WEIGHTS]


def test_what_is_written_is_the_same_twice(comparison, tmp_path):
    names = ("asymmetric", "asymmetric, fast repairs")
    chosen = [word for name in names for word in ("--method", name)]
    for name in ("a", "b"):
        assert main([*COMMAND, *chosen, "-o", str(tmp_path / name)]) == 0
    written = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert sorted(written) == ["compare.html", "compare.json", "compare.md", "compare.svg"]
    assert written == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    rows = json.loads(written["compare.json"])["methods"]
    assert rows == [row for row in comparison.content["methods"] if row["name"] in names]
    assert written["compare.md"].decode() == markdown(rows)
    picture = minidom.parseString(written["compare.svg"])
    assert {node.firstChild.data for node in picture.getElementsByTagName("text")} >= set(names)


def test_markdown_and_chosen_methods(capsys, tmp_path):
    assert main([*COMMAND, "--method", "symmetric", "--method", "asymmetric, mse", "--markdown"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["method", "---", "symmetric", "asymmetric, mse"]
    assert {line.count("|") for line in lines} == {len(HEADINGS) + 2}
    assert main([*COMMAND, "--method", "magic", "-o", str(tmp_path / "none")]) == 2
    assert "method 'magic': must be one of asymmetric, per tensor; asymmetric;" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_the_terminal_shows_every_column(capsys):
    assert main([*COMMAND, "--method", "power-of-two, per tensor"]) == 0
    text = capsys.readouterr().out
    assert "power-of-two, per tensor" in text and all(heading in text for heading in (*HEADINGS, "seconds")) and "…" not in text


@pytest.mark.parametrize(("words", "said"), [([], True), (["--set", "weight_decoder=true"], False)])
def test_that_few_bits_are_stored_as_int8_is_said(words, said, capsys):
    assert main([*COMMAND, "--method", "asymmetric, int4", *words]) == 0
    hint = "weights of fewer than 8 bits count as the int8 codes that this hardware stores; --set weight_decoder=true packs them"
    assert (hint in " ".join(capsys.readouterr().out.split())) is said


def test_a_method_that_is_impossible_is_a_row_that_says_why():
    shifts_only = HardwareConfig(name="<shifts>", multiplier_bits=0)
    found = compare(CompareRequest(model=MODEL, calibration=CALIBRATION, inputs=TEST, hardware=shifts_only, methods=("asymmetric", "power-of-two")))
    first, second = found.content["methods"]
    assert first["refused"] == "hardware '<shifts>' has no multiplier" and first["sqnr_db"] is None
    assert second["refused"] is None and METHODS[second["name"]].scheme is Scheme.POWER_OF_TWO
    assert refusals(found.content["methods"]) == ["asymmetric: hardware '<shifts>' has no multiplier"]
    assert "hardware _" in markdown(found.content["methods"])
    page = render_comparison(found.content).decode()
    assert "&lt;shifts&gt;" in page and "<shifts>" not in page
    assert terminal_table(found.content["methods"], [0.0, 0.1]).row_count == 2


def test_a_network_that_does_not_fit_the_hardware_says_so():
    tiny = HardwareConfig(name="tiny", activation_words=64, weight_words=16, parameter_words=8)
    content = compare(CompareRequest(model=MODEL, calibration=CALIBRATION, inputs=TEST, hardware=tiny, methods=("asymmetric",))).content
    (row,) = content["methods"]
    assert row["unfit"] and row["cycles"] is None and row["refused"] is None and row["accuracy"] > 0.95
    assert refusals([row]) == [f"all methods: {row['unfit']}"] and "unfit" not in markdown([row])
    assert row["unfit"].split(";")[0] in render_comparison({**content, "methods": [row]}).decode().replace("&#39;", "'")
