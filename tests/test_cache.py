"""Cached results are the results; a cache that cannot be used is no error."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwgen.cache import cached_text, source_hash


def test_the_second_call_does_not_compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path))
    made: list[str] = []

    def make() -> str:
        made.append("x")
        return "text äö\n"

    assert [cached_text("kind", "key", make) for _ in range(3)] == ["text äö\n"] * 3
    assert made == ["x"]
    cached_text("kind", "other key", make)
    cached_text("other kind", "key", make)
    assert len(made) == 3


def test_a_cache_that_cannot_be_used_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HWGEN_CACHE", str(tmp_path / "file"))
    assert cached_text("kind", "key", lambda: "a") == "a"
    assert cached_text("kind", "key", lambda: "b") == "b"


def test_the_source_hash_follows_every_template(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "memory.v").write_text(name)
    assert len({source_hash(tmp_path / "one"), source_hash(tmp_path / "two")}) == 2
