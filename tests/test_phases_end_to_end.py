"""A network with squeeze and excitation and attention, from the file to verified Verilog and firmware."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from firmware_support import make
from onnx_models import model, node, normal, shape_of
from system_support import CONFIGS

from hwgen.build import BuildRequest, build
from hwgen.cli import main
from hwgen.cosim.job import MemoryModel
from hwgen.verify import VerifyRequest, verify

NODES = [
    node("Conv", ["x", "w"], "h0", pads=[1, 1, 1, 1]),
    node("LRN", ["h0"], "h1", size=3, alpha=0.1),
    node("InstanceNormalization", ["h1", "is", "io"], "h"),
    node("Relu", ["h"], "r"),
    node("GlobalAveragePool", ["r"], "p"),
    node("Conv", ["p", "s"], "q"),
    node("Sigmoid", ["q"], "g"),
    node("Mul", ["r", "g"], "m"),
    node("Reshape", ["m", "flat"], "f"),
    node("Transpose", ["f"], "t", perm=[0, 2, 1]),
    node("MatMul", ["t", "f"], "scores"),
    node("Softmax", ["scores"], "a", axis=-1),
    node("MatMul", ["a", "t"], "v"),
    node("LayerNormalization", ["v", "ls"], "n0"),
    node("Mul", ["n0", "n0"], "sq"),
    node("ReduceMean", ["sq"], "ms", axes=[-1]),
    node("Add", ["ms", "eps"], "me"),
    node("Sqrt", ["me"], "root"),
    node("Div", ["n0", "root"], "n1"),
    node("ReduceMean", ["n1"], "mean", axes=[1, 2]),
    node("Sub", ["n1", "mean"], "c"),
    node("Pow", ["c", "two"], "cc"),
    node("ReduceMean", ["cc"], "var", axes=[1, 2]),
    node("Add", ["var", "eps"], "ve"),
    node("Sqrt", ["ve"], "dev"),
    node("Div", ["c", "dev"], "n2"),
    node("LpNormalization", ["n2"], "n3", axis=-1),
    node("Sum", ["n3", "n0", "n2"], "n"),
    node("MatMul", ["n", "d"], "y"),
    node("LogSoftmax", ["y"], "l", axis=-1),
    node("ArgMax", ["n"], "i", axis=-1),
    node("Cast", ["i"], "f32", to=onnx.TensorProto.FLOAT),
    node("Add", ["l", "f32"], "z"),
]
CONSTANTS = {
    **{"is": normal(6), "io": normal(6, seed=1), "ls": normal(6, seed=2), "eps": np.float32(1e-4), "two": np.float32(2)},
    **{"w": normal(6, 3, 3, 3), "s": normal(6, 6, 1, 1), "flat": shape_of(0, 6, -1), "d": normal(6, 4)},
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phases")
    onnx.save(model(NODES, {"x": ["N", 3, 5, 4]}, CONSTANTS, outputs=["y", "z"], opset=17), folder / "mixed.onnx")
    np.savez(folder / "calibration.npz", x=normal(16, 3, 5, 4))
    build(BuildRequest(model=folder / "mixed.onnx", out=folder / "out", calibration=folder / "calibration.npz", hardware=CONFIGS["4x4"]))
    return folder / "out"


def test_report_says_what_runs_on_the_processor(built: Path) -> None:
    report = json.loads((built / "report/report.json").read_text())
    kinds = [layer["op"] for layer in report["processor_layers"]]
    assert sorted(kind for kind in kinds if kind != "Move") == [
        *("ArgExtremum", "LocalResponse", "LogSoftmax", "Lookup", "MatMul", "MatMul", "Mul", *["Normalize"] * 5, "Softmax")
    ]
    assert report["phases"] >= 2
    assert report["predicted_cycles"] == sum(layer["predicted_cycles"] for layer in report["layers"]) or report["predicted_cycles"] > 0
    assert all((layer["error_codes"] > 0) == (layer["op"] not in ("Move", "Lookup", "ArgExtremum")) for layer in report["processor_layers"])
    assert all(layer["error_codes"] < 0.01 for layer in report["processor_layers"])
    page = (built / "report/report.html").read_text()
    assert f"{len(kinds)} of {len(kinds) + len(report['layers'])} layers run on the processor" in page
    assert min(layer["sqnr_db"] for layer in report["processor_layers"] if layer["sqnr_db"] is not None) > 15


def test_verilog_runs_every_phase(built: Path) -> None:
    for memory in (MemoryModel(), MemoryModel(latency_cycles=7, stall_probability=0.3, seed=5)):
        verification = verify(VerifyRequest(out=built, memory=memory))
        assert verification.equal
    report = verify(VerifyRequest(out=built)).report
    assert report["measured_cycles"] == report["predicted_cycles"]
    assert sum(report["cycles_by_use"]["total"].values()) == report["measured_cycles"]


def test_firmware_passes_its_known_answers(built: Path) -> None:
    result = make(built, "test")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "ok" in result.stdout.splitlines()[-1]


def test_command_line_says_it(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwgen.build.verilog", lambda _: "")  # of hardware that no other test has
    source = built.parent
    code = main(["build", str(source / "mixed.onnx"), "--calibration", str(source / "calibration.npz"), "-o", str(tmp_path / "out"), "--array", "4x4"])
    assert code == 0
    assert "layers run on the processor" in " ".join(capsys.readouterr().out.split())
