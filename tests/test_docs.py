"""Generated documentation is current; documents name what exists."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from hwgen.cli import parser
from hwgen.report.collect import FORMAT
from tools import accuracy
from tools.measure import END, README, START, readme_with
from tools.measure_table import markdown

ROOT = Path(__file__).parents[1]


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "tools/generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    for path, text in generator().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run python tools/generate_docs.py"


def test_accuracy_in_the_readme_is_what_the_tool_writes() -> None:
    """Its form and tasks only: numbers are measured, by `python tools/accuracy.py --readme`."""
    text = README.read_text(encoding="utf-8")
    head, rule, *rows = text.split(accuracy.START)[1].split(accuracy.END)[0].strip().splitlines()
    assert [head, rule] == accuracy.markdown([]).splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {task.name}" for task in accuracy.TASKS]


def test_results_in_the_readme_are_what_the_tool_writes() -> None:
    """Its form only: numbers are measured, by `python tools/measure.py --readme`."""
    text = README.read_text(encoding="utf-8")
    head, rule, *rows = text.split(START)[1].split(END)[0].strip().splitlines()
    assert [head, rule] == markdown([]).splitlines()
    assert len(rows) >= 8
    assert all(row.count("|") == head.count("|") and "| 0 / " in row for row in rows)
    assert readme_with("\n".join([head, rule, *rows, ""]), text) == text


def test_every_operator_has_a_note() -> None:
    for line in generator().operators_markdown().splitlines():
        assert re.fullmatch(r"\| \S+.* \| \S.* \|", line) or set(line) <= set("|-"), line


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in target or (page.parent / target).exists(), f"{page.name}: {target}"


def keys(value: object, prefix: str = "") -> set[str]:
    return set(value) if isinstance(value, dict) else set()


def test_report_md_describes_every_key(tmp_path: Path) -> None:
    from hwgen.cli import main

    example = ROOT / "examples/digits"
    out = tmp_path / "out"
    assert main(["build", str(example / "model.onnx"), "--calibration", str(example / "calibration.npz"), "--array", "4x4", "-o", str(out)]) == 0
    report = json.loads((out / "report/report.json").read_text())
    described = set(re.findall(r"`(\w+)`", (ROOT / "docs/report.md").read_text(encoding="utf-8")))
    assert report["format"] == FORMAT
    assert keys(report) | keys(report["layers"][0]) | keys(report["quantization"]) | keys(report["region_bytes"]) <= described


def commands_of(text: str) -> list[list[str]]:
    blocks = re.findall(r"```\n(.*?)```", text, re.DOTALL)
    return [line.split("#")[0].split()[1:] for block in blocks for line in block.splitlines() if line.startswith("hwgen ")]


@pytest.mark.parametrize("words", commands_of((ROOT / "README.md").read_text(encoding="utf-8")), ids=" ".join)
def test_commands_of_the_readme_parse(words: list[str]) -> None:
    parser().parse_args(words)
    for word in words:
        assert not word.startswith("examples/") or (ROOT / word).exists(), word
