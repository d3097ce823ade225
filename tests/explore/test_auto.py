"""The choice of how to quantize: by held-out inputs only, ties towards the simpler, within what the hardware can compute."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from float_graphs import RELU, FloatBuilder, data

from hwgen.cli import main
from hwgen.config import PRESETS, HardwareConfig
from hwgen.errors import ConfigError, DataError, QuantizationError
from hwgen.explore import workbench
from hwgen.explore.auto import TIE_DB, best_of, choose, split
from hwgen.explore.workbench import Attempt
from hwgen.ir.types import TensorType
from hwgen.ops.base import Window
from hwgen.progress import Silent
from hwgen.quantize import Effort, Granularity, QuantizeOptions, RangeMethod, Scheme
from hwgen.score import OutputScore

EXAMPLE = Path(__file__).parents[2] / "examples/digits"
MODEL, CALIBRATION, TEST = (str(EXAMPLE / name) for name in ("model.onnx", "calibration.npz", "test.npz"))
SHIFTS_ONLY = HardwareConfig(name="shifts", out_lanes=4, in_lanes=4, multiplier_bits=0)
SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))


def network(factor=1.0):
    """A chain whose first layer has one channel `factor` times larger and the second makes up for it."""
    b = FloatBuilder(TensorType(6, 6, 3))
    first = b.conv("x", 8, SAME, clamp=RELU)
    graph = b.graph(b.conv(first, 5, Window(kernel=(6, 6))))
    graph.nodes[0].op.weight[2] *= np.float32(factor)
    graph.nodes[0].op.bias[2] *= np.float32(factor)
    graph.nodes[1].op.weight[..., 2] /= np.float32(factor)
    return graph


def chosen(graph, arrays=None, labels=None, hardware=PRESETS["4x4"]):
    return choose(graph, arrays or data(graph, 40), labels, hardware, QuantizeOptions(), Silent())


def attempt(name, sqnr_db, refused=""):
    score = OutputScore(name="y", float_accuracy=None, accuracy=None, agreement=1.0, sqnr_db=sqnr_db)
    return Attempt(name=name, options=QuantizeOptions(), refused=refused, score=None if refused else score)


def test_every_fourth_input_is_held_out():
    fit, held, places = split({"x": np.arange(10), "z": np.arange(10) * 2})
    assert held["x"].tolist() == places.tolist() == [3, 7] and fit["x"].tolist() == [0, 1, 2, 4, 5, 6, 8, 9]
    assert (held["z"] == 2 * held["x"]).all()
    fit, held, places = split({"x": np.arange(100_000)})
    assert len(fit["x"]) == 384 and len(held["x"]) == 128 and not set(fit["x"]) & set(held["x"]) and held["x"].max() > 99_000


def test_too_few_inputs_to_hold_some_out():
    with pytest.raises(DataError, match=r"^calibration data: to choose by them, at least 8 inputs are needed, of which some are held out; found 7$"):
        split({"x": np.zeros(7)})


def test_ties_go_to_the_simpler():
    simple, better, best = attempt("a", 30.0), attempt("b", 30.0 + TIE_DB * 0.6), attempt("c", 30.0 + TIE_DB * 1.2)
    assert best_of([simple, better]) is simple
    assert best_of([simple, better, best]) is better
    assert best_of([attempt("x", None, "no"), simple]) is simple
    assert best_of([attempt("exact", float("inf")), attempt("exact too", float("inf"))]).name == "exact"
    with pytest.raises(QuantizationError, match=r"^network: no way to quantize it was possible; the first one: x: no$"):
        best_of([attempt("x", None, "no")])


def test_unequal_channels_get_scales_of_their_own():
    choice = chosen(network(20.0))
    assert choice.best.options.granularity is Granularity.CHANNEL
    per_tensor = max(each.sqnr_db for each in choice.attempts if each.options.granularity is Granularity.TENSOR)
    assert choice.best.sqnr_db > per_tensor + 3


def test_fitted_and_judged_on_different_inputs(monkeypatch):
    graph, seen = network(), []
    quantize = workbench.quantize_with_report
    monkeypatch.setattr(workbench, "quantize_with_report", lambda g, c, o: (seen.append(c["image"]), quantize(g, c, o))[1])
    x = data(graph, 40)
    choice = chosen(graph, x)
    fitted = {array.tobytes() for arrays in seen for array in arrays}
    assert len(fitted) == 30 and choice.held_out == 10
    assert not fitted & {array.tobytes() for array in x["image"][3::4]}


def test_hardware_without_multiplier_has_power_of_two_scales_only():
    choice = chosen(network(), hardware=SHIFTS_ONLY)
    assert {each.options.scheme for each in choice.attempts} == {Scheme.POWER_OF_TWO}
    assert choice.best.graph is not None and choice.best.graph.arithmetic.multiplier_bits == 0


def test_repairs_are_tried_last_unless_unwanted():
    graph = network(4.0)
    plain = chosen(graph)
    choice = choose(graph, data(graph, 40), None, PRESETS["4x4"], QuantizeOptions(effort=Effort.BEST), Silent())
    *others, fast, best = choice.attempts
    assert [each.name for each in others] == [each.name for each in plain.attempts] and all(each.options.effort is Effort.NONE for each in others)
    assert (fast.options.effort, best.options.effort) == (Effort.FAST, Effort.BEST) and fast.name.endswith("fast repairs")
    assert choice.best.sqnr_db >= plain.best.sqnr_db
    fast_only = choose(graph, data(graph, 40), None, PRESETS["4x4"], QuantizeOptions(effort=Effort.FAST), Silent())
    assert [each.name for each in fast_only.attempts] == [each.name for each in (*others, fast)]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (QuantizeOptions(scheme=Scheme.SYMMETRIC), "scheme"),
        (QuantizeOptions(granularity=Granularity.TENSOR, ranges=RangeMethod.MSE), "granularity, ranges"),
    ],
)
def test_what_is_chosen_must_be_open(options, names):
    with pytest.raises(ConfigError, match=f"^options {names}: must be left open where the way to quantize is chosen by trial; leave them out$"):
        choose(network(), data(network(), 40), None, PRESETS["4x4"], options, Silent())


def test_labels_show_accuracy():
    graph = network()
    choice = chosen(graph, labels=np.zeros(40, np.int64))
    assert all(row["accuracy"] is not None for row in choice.tried())


def test_quantize_auto_writes_what_the_chosen_options_give(tmp_path, capsys):
    plain = ["--repair", "none", "--calibration", CALIBRATION, "-o"]
    assert main(["quantize", MODEL, "--auto", *plain, str(tmp_path / "auto.onnx")]) == 0
    text = capsys.readouterr().out
    (line,) = (line for line in text.splitlines() if line.startswith("chosen (*) on"))
    (row,) = (line for line in text.splitlines() if line.startswith("*"))
    name = line.split(": ")[1]
    assert row[1:].strip().startswith(name) and "power-of-two, per tensor" in text
    words = []
    scheme, *rest = name.split(", ")
    words += ["--scheme", scheme, "--granularity", "tensor" if "per tensor" in rest else "channel"]
    words += ["--range", next((part for part in rest if part in {method.value for method in RangeMethod}), "minmax")]
    assert main(["quantize", MODEL, *words, *plain, str(tmp_path / "same.onnx")]) == 0
    assert (tmp_path / "auto.onnx").read_bytes() == (tmp_path / "same.onnx").read_bytes()
    assert main(["quantize", str(tmp_path / "auto.onnx"), "--auto", "--calibration", CALIBRATION, "-o", str(tmp_path / "no.onnx")]) == 2
    assert "must be float for a choice of how to quantize it, came quantized" in capsys.readouterr().err
    assert not (tmp_path / "no.onnx").exists()


def test_build_reports_what_was_tried_and_where_accuracy_goes(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["build", MODEL, "--auto", "--explain", "--repair", "none", "--calibration", CALIBRATION, "--array", "4x4", "-o", str(out)]) == 0
    content = json.loads((out / "report/report.json").read_text())
    report, explanation = content["quantization"], json.loads((out / "report/explain.json").read_text())
    assert report["chosen"] in {row["name"] for row in report["tried"]} and len(report["tried"]) >= 8
    assert f"chosen: {report['chosen']}" in capsys.readouterr().out
    assert content["explanation"]["first"] == explanation["first"] and explanation["scheme"] == report["scheme"]
    page = (out / "report/report.html").read_text(encoding="utf-8")
    assert "Where accuracy goes" in page and explanation["first"][0]["layer"] in page and "</svg>" in (out / "report/explain.html").read_text()
    assert not re.search(r"\b(src|href|@import|url)\s*[=(]", page)
    assert "Ways to quantize that were tried" in page and f'<tr class="chosen"><td class="text">{report["chosen"]}</td>' in page
