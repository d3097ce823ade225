"""Repairs that were tried, as lines of the page's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwgen.report.numbers import number, percent


@dataclass(frozen=True, kw_only=True)
class RepairRow:
    """One repair, and what it did on held-out inputs."""

    repair: str
    detail: str
    before: str
    after: str
    agreement: str
    verdict: str
    kept: bool


def repair_rows(content: Sequence[dict[str, Any]]) -> tuple[RepairRow, ...]:
    """The rows of `repairs` in report.json."""
    return tuple(
        RepairRow(
            repair=entry["repair"],
            detail=entry["detail"],
            before=number(entry["sqnr_db_before"], 2),
            after=number(entry["sqnr_db_after"], 2),
            agreement=f"{percent(entry['agreement_before'])} to {percent(entry['agreement_after'])}",
            verdict="kept" if entry["kept"] else f"left: {entry['reason']}",
            kept=entry["kept"],
        )
        for entry in content
    )
