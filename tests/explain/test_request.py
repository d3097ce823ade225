"""The verb `explain`: what it writes, prints and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hwgen.cli import main

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/digits"
MODEL, CALIBRATION, TEST = (str(EXAMPLE / name) for name in ("model.onnx", "calibration.npz", "test.npz"))
COMMAND = ["explain", MODEL, "--calibration", CALIBRATION]


def test_a_folder_gets_page_and_data_and_every_key_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "explanation"
    assert main([*COMMAND, "--inputs", TEST, "-o", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["explain.html", "explain.json"]
    content = json.loads((out / "explain.json").read_text())
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/report.md").read_text(encoding="utf-8").split("# explain.json")[1]))
    layers = content["layers"]
    weights = next(layer["weights"] for layer in layers if layer["weights"])
    for part in (content, layers[0], layers[0]["histogram"], weights, content["outputs"][0], content["first"][0]):
        assert set(part) <= described, set(part) - described
    text = capsys.readouterr().out
    assert all(layer["name"] in text for layer in layers) and "accuracy 97.7 % as float" in text
    assert content["first"][0]["sentence"] in text.replace("\n", " ")
    page = (out / "explain.html").read_text(encoding="utf-8")
    assert page.count("<figure>") >= len(layers) and "Look here first" in page and content["outputs"][0]["accuracy"] > 0.97


def test_one_file_of_either_kind_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*COMMAND, "--count", "4", "-o", str(tmp_path / "a.html")]) == 0
    assert main([*COMMAND, "--count", "4", "-o", str(tmp_path / "b.json")]) == 0
    assert main([*COMMAND, "--count", "4"]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.html", "b.json"]
    assert json.loads((tmp_path / "b.json").read_text())["layer_inputs"] == 4
    assert "accuracy" not in capsys.readouterr().out


def test_outputs_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder.html").mkdir()
    for name, text in (("file", "must be a folder, or end in .html or .json"), ("folder.html", "must be a file, is a folder")):
        assert main([*COMMAND, "-o", str(tmp_path / name)]) == 2
        assert text in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
    assert main(["explain", MODEL, "--calibration", TEST, "--inputs", str(tmp_path / "none.npz"), "-o", str(tmp_path / "new")]) == 2
    assert "none.npz" in capsys.readouterr().err and not (tmp_path / "new").exists()


def test_a_quantized_model_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", MODEL, "--calibration", CALIBRATION, "-o", str(tmp_path / "q.onnx")]) == 0
    assert main(["explain", str(tmp_path / "q.onnx"), "--calibration", CALIBRATION]) == 2
    assert "must be float to be explained, came quantized" in capsys.readouterr().err
