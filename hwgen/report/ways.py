"""Ways to quantize as lines of a page's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hwgen.report.numbers import number, percent

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line as text; `refused` stands in place of the cells."""

    name: str
    cells: tuple[str, ...]
    refused: str
    best: bool


HEADINGS = ("accuracy", "agreement", "SQNR dB", "certified", "weight bytes", "cycles")


def rows_of(content: Sequence[Json], best: str = "") -> tuple[Row, ...]:
    """The rows of attempts as compare.json holds them; the one named `best` is marked."""
    return tuple(Row(name=row["name"], cells=_cells(row), refused=row["refused"] or "", best=row["name"] == best) for row in content)


def _cells(row: Json) -> tuple[str, ...]:
    sqnr = "exact" if row["sqnr_db"] is None and row["agreement"] is not None else number(row["sqnr_db"], 2)
    return percent(row["accuracy"]), percent(row["agreement"]), sqnr, percent(row["certified"]), number(row["weight_bytes"]), number(row["cycles"])
