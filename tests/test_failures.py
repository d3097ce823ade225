"""tests/FAILURES.md names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LINES = re.findall(r"^\| (.+) \| (tests/\S+\.py)::(\w+)(?:\[(\w+)\])? \|$", (ROOT / "tests/FAILURES.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_every_line_is_read() -> None:
    table = [line for line in (ROOT / "tests/FAILURES.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ") and "| failure |" not in line]
    assert len(LINES) == len(table) > 0


@pytest.mark.parametrize(("failure", "path", "function", "case"), LINES, ids=[line[0] for line in LINES])
def test_the_failure_has_its_test(failure: str, path: str, function: str, case: str) -> None:
    source = (ROOT / path).read_text(encoding="utf-8")
    assert f"def {function}(" in source
    assert not case or f'"{case}":' in source
