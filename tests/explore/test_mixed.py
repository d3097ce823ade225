"""Mixed precision: sensitivities against whole executions, the search on real quantizations, the command line."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from float_graphs import RELU, FloatBuilder, data

from hwgen.cli import main
from hwgen.config import PRESETS
from hwgen.errors import QuantizationError
from hwgen.explain.partial import with_real_weights
from hwgen.explore import mixed, workbench
from hwgen.explore.budget import parse_budget
from hwgen.explore.mixed import FORMATS, mix, mixture_json
from hwgen.frontend.qdq import load_quantized_graph
from hwgen.ir.evaluate import evaluate
from hwgen.ir.types import TensorType
from hwgen.isa.fields import Region
from hwgen.ops.base import Window
from hwgen.ops.conv import Conv
from hwgen.packing import WeightFormat
from hwgen.progress import Silent
from hwgen.quantize import Effort, QuantizeOptions, quantize
from hwgen.quantize.metrics import sqnr_db
from hwgen.report.pareto import mixed_view, pareto_picture
from hwgen.schedule.compile import compile_network

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/digits"
MODEL, CALIBRATION = str(EXAMPLE / "model.onnx"), str(EXAMPLE / "calibration.npz")
PLAIN = ["--repair", "none", "--calibration", CALIBRATION]
SAME = Window(kernel=(3, 3), pads=(1, 1, 1, 1))
OPTIONS = QuantizeOptions(multiplier_bits=16)


def chain():
    """The second layer hardly matters: what it adds is small."""
    b = FloatBuilder(TensorType(6, 6, 3))
    first = b.conv("x", 8, SAME, clamp=RELU)
    from hwgen.ops.add import Add

    joined = b.node(Add(), first, b.conv(first, 8, SAME, gain=0.01))
    return b.graph(b.conv(joined, 5, Window(kernel=(6, 6))))


@pytest.fixture
def packed(monkeypatch):
    """Weights cost what they take when they are packed, whatever the hardware."""
    compiled = workbench.Workbench.cost

    def cost(self, graph):
        size = sum(node.op.weight.size / node.op.weight_format.digits for node in graph.nodes if isinstance(node.op, Conv))
        return replace(compiled(self, graph), weight_bytes=int(size))

    monkeypatch.setattr(workbench.Workbench, "cost", cost)


def mixed_by(graph, budget):
    return mix(graph, data(graph, 40), PRESETS["4x4"], OPTIONS, parse_budget(budget), Silent())


def test_sensitivities_are_those_of_the_whole_network_with_one_layer_changed():
    graph, x = chain(), data(chain(), 24)
    noise = mixed._noise(graph, x, OPTIONS, Silent())
    reference = evaluate(graph, x)["y0"]
    for kind in (WeightFormat.INT8, WeightFormat.TERNARY):
        narrow = {node.output: node for node in quantize(graph, x, replace(OPTIONS, weights=kind)).nodes}
        quantized = quantize(graph, x, replace(OPTIONS, weights=kind))
        for layer, name in enumerate(("conv0", "conv1", "conv3")):
            nodes = tuple(replace(node, op=with_real_weights(narrow[name], quantized)) if node.output == name else node for node in graph.nodes)
            found = evaluate(replace(graph, nodes=nodes), x)["y0"]
            assert -10 * np.log10(noise[layer][FORMATS.index(kind)]) == pytest.approx(sqnr_db(reference, found), abs=0.01)


def test_a_budget_of_bytes_narrows_what_hardly_matters(packed):
    graph = chain()
    sizes = [node.op.weight.size for node in graph.nodes if isinstance(node.op, Conv)]
    found = mixed_by(graph, f"weights={sizes[0] + sizes[2] + sizes[1] // 2}")
    chosen = dict(found.layer_weights(found.found.best))
    assert chosen["conv0"] is chosen["conv3"] is WeightFormat.INT8 and chosen["conv1"] is not WeightFormat.INT8
    assert found.best.weight_bytes <= found.budget.value and found.best.sqnr_db > 20
    all_narrow = found.found.evaluated[(len(FORMATS) - 1,) * 3]
    assert found.best.sqnr_db > all_narrow.sqnr_db + 10


def test_a_budget_of_quality_saves_bytes(packed):
    loose, strict = mixed_by(chain(), "sqnr=15dB"), mixed_by(chain(), "sqnr=25dB")
    assert loose.best.sqnr_db >= 15 and strict.best.sqnr_db >= 25
    assert loose.best.weight_bytes <= strict.best.weight_bytes < sum(node.op.weight.size for node in chain().nodes if isinstance(node.op, Conv))


def test_repairs_are_part_of_what_is_evaluated(packed):
    """Sensitivities are measured without them, assignments with them."""
    graph, budget = chain(), "weights=500"
    plain = mixed_by(graph, budget)
    repaired = mix(graph, data(graph, 40), PRESETS["4x4"], replace(OPTIONS, effort=Effort.FAST), parse_budget(budget), Silent())
    assert repaired.sensitivities == plain.sensitivities and repaired.budget.met(repaired.best)
    narrow = (2, 2, 2)
    both = [found.found.evaluated[narrow].sqnr_db for found in (plain, repaired) if narrow in found.found.evaluated]
    assert len(both) < 2 or both[1] != both[0]
    assert repaired.best.sqnr_db > plain.best.sqnr_db - 1


def test_a_budget_out_of_reach_says_what_is_reachable(packed):
    with pytest.raises(QuantizationError, match=r"^budget weights: at most 10 bytes cannot be met; the least that is reachable is 279 bytes, with all layers"):
        mixed_by(chain(), "weights=10")


def test_hardware_on_which_fewer_bits_save_nothing_says_so(monkeypatch):
    monkeypatch.setattr(workbench.Workbench, "cost", lambda self, graph: workbench.Cost(weight_bytes=5000, cycles=10))
    found = r"reachable is 5,000 bytes, .*; weights of fewer bits save nothing on this hardware, which stores them as int8 without --set weight_decoder=true$"
    with pytest.raises(QuantizationError, match=found):
        mixed_by(chain(), "weights=1KiB")


def test_a_budget_of_cycles_is_measured_by_the_compiler():
    found = mixed_by(chain(), "cycles=1M")
    assert found.budget.met(found.best) and found.best.cycles > 1000
    with pytest.raises(QuantizationError, match=r"^budget cycles: at most 1 cycles cannot be met"):
        mixed_by(chain(), "cycles=1")


def test_hardware_with_a_weight_decoder_keeps_a_budget_of_bytes():
    """Bytes are the compiler's own."""
    graph, hardware = chain(), replace(PRESETS["4x4"], name="packed", weight_decoder=True)
    wide = mix(graph, data(graph, 40), hardware, OPTIONS, parse_budget("weights=1MiB"), Silent()).best
    budget = parse_budget(f"weights={int(0.8 * wide.weight_bytes)}")
    found = mix(graph, data(graph, 40), hardware, OPTIONS, budget, Silent())
    compiled = compile_network(quantize(graph, data(graph, 40), replace(OPTIONS, layer_weights=found.layer_weights(found.found.best))), hardware)
    assert compiled.region_bytes()[Region.WEIGHTS] == found.best.weight_bytes <= budget.value


def test_a_network_without_weights():
    b = FloatBuilder(TensorType(4, 4, 3))
    from hwgen.ops.max_pool import MaxPool

    graph = b.graph(b.node(MaxPool(window=Window(kernel=(2, 2))), "x"))
    with pytest.raises(QuantizationError, match=r"^network 'net': mixed precision needs layers with weights, there are none$"):
        mixed_by(graph, "sqnr=1")


def test_bits_auto_on_the_command_line(packed, tmp_path, capsys):
    words = ["quantize", MODEL, *PLAIN, "-o", str(tmp_path / "q.onnx"), "--page", str(tmp_path / "p.html")]
    assert main([*words, "--bits", "auto", "--budget", "weights=6KiB", "--auto"]) == 0
    text = capsys.readouterr().out
    assert "budget at most 6,144 bytes" in text and "chosen (*)" in text
    graph = load_quantized_graph(tmp_path / "q.onnx")
    formats = {node.op.weight_format for node in graph.nodes if isinstance(node.op, Conv)}
    assert len(formats) > 1 or WeightFormat.INT8 not in formats
    assert sum(node.op.weight.size / node.op.weight_format.digits for node in graph.nodes if isinstance(node.op, Conv)) <= 6144
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "<svg" in page and "Budget: at most 6,144 bytes" in page and not re.search(r"\b(src|href|@import|url)\s*[=(]", page)
    onnx.checker.check_model(str(tmp_path / "q.onnx"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bits", "auto"], "--bits auto: needs a --budget"),
        (["--budget", "weights=4KiB"], "--budget needs --bits auto"),
        (["--bits", "auto", "--budget", "weights=1"], "budget weights: at most 1 bytes cannot be met"),
        (["--bits", "auto", "--budget", "size=1"], "budget 'size=1': must be weights="),
    ],
)
def test_budgets_that_are_refused_leave_nothing(words, message, packed, tmp_path, capsys):
    assert main(["quantize", MODEL, *PLAIN, *words, "-o", str(tmp_path / "q.onnx"), "--page", str(tmp_path / "p.html")]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_build_reports_the_search(packed, tmp_path):
    words = ["--array", "4x4", "--bits", "auto", "--budget", "sqnr=20dB", "-o", str(tmp_path / "out")]
    assert main(["build", MODEL, *PLAIN, *words]) == 0
    content = json.loads((tmp_path / "out/report/report.json").read_text())["quantization"]["mixed"]
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/report.md").read_text(encoding="utf-8").split("## mixed")[1]))
    assert set(content) | set(content["budget"]) | set(content["layers"][0]) | set(content["points"][0]) <= described
    assert sum(point["chosen"] for point in content["points"]) == 1 and sum(point["front"] for point in content["points"]) > 1
    page = (tmp_path / "out/report/report.html").read_text(encoding="utf-8")
    assert "<h2>Mixed precision</h2>" in page and "Budget: at least 20.00 dB" in page


def test_the_same_search_gives_the_same_numbers(packed):
    first, second = (mixture_json(mixed_by(chain(), "sqnr=20dB"), chain()) for _ in range(2))
    assert first == second
    view = mixed_view(first)
    assert view is not None and view.chart == pareto_picture(first) and len(view.layers) == 3
    assert mixed_view(None) is None
