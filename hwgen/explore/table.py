"""Attempts as a table: plain data, for the terminal, as Markdown, as a picture, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from hwgen.emit.names import plain
from hwgen.emit.render import render
from hwgen.explore.workbench import Attempt
from hwgen.report.collect import finite
from hwgen.report.numbers import number, percent
from hwgen.report.svg import LETTERS, Frame, ticks
from hwgen.report.ways import HEADINGS, Row, rows_of

Json = dict[str, Any]
NAME_WIDTH, ROW_HEIGHT = 250.0, 24.0  # of the picture, in pixels


def attempt_json(attempt: Attempt) -> Json:
    """One row; keys are described in docs/report.md. Without seconds: those differ from run to run."""
    score, cost = attempt.score, attempt.cost
    return {
        "name": attempt.name,
        "scheme": attempt.options.scheme.value,
        "granularity": attempt.options.granularity.value,
        "range": attempt.options.ranges.value,
        "weights": attempt.options.weights.name.lower(),
        "repairs": attempt.options.effort.value,
        "float_accuracy": score.float_accuracy if score else None,
        "accuracy": score.accuracy if score else None,
        "agreement": score.agreement if score else None,
        "sqnr_db": finite(score.sqnr_db) if score else None,
        "certified": round(attempt.certified, 4) if attempt.certified is not None else None,
        "weight_bytes": cost.weight_bytes if cost else None,
        "cycles": cost.cycles if cost else None,
        "refused": attempt.refused or None,
        "unfit": attempt.unfit or None,
    }


def terminal_table(content: Sequence[Json], seconds: Sequence[float], best: str = "") -> Table:
    """With the seconds that each attempt took; the best one is marked."""
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    table.add_column("method", no_wrap=True)
    for heading in (*HEADINGS, "seconds"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, time in zip(rows_of(content, best), seconds, strict=True):
        cells = ("–",) * len(HEADINGS) if row.refused else row.cells
        table.add_row("*" if row.best else "", escape(row.name), *cells, f"{time:.2f}" if time else "–")
    return table


def refusals(content: Sequence[Json]) -> list[str]:
    """What was refused or does not run on the hardware, and why, as markup; a reason that several methods share once."""
    reasons: dict[str, list[str]] = {}
    for row in content:
        for reason in (row["refused"], row["unfit"]):
            if reason:
                reasons.setdefault(reason, []).append(row["name"])
    return [f"{escape('; '.join(names) if len(names) < len(content) else 'all methods')}: {escape(reason)}" for reason, names in reasons.items()]


def float_accuracy(content: Sequence[Json]) -> str:
    """The float network's accuracy in words, to be followed by others; empty without labels."""
    known = [row["float_accuracy"] for row in content if row["float_accuracy"] is not None]
    return f"float accuracy {percent(known[0])}; " if known else ""


def markdown(content: Sequence[Json]) -> str:
    """A Markdown table, the same for the same network."""
    lines = ["| method | " + " | ".join(HEADINGS) + " |", "|---|" + "---:|" * len(HEADINGS)]
    for row in rows_of(content):
        cells = (*("–",) * (len(HEADINGS) - 1), plain(row.refused)) if row.refused else row.cells
        lines.append(f"| {plain(row.name)} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(content: Sequence[Json]) -> str:
    """One bar per method: SQNR of the outputs, agreement in words. Names must be hwgen's own."""
    found = [row for row in content if not row["refused"]]
    most = max((row["sqnr_db"] or 0.0 for row in found), default=1.0) or 1.0
    height = ROW_HEIGHT * len(content) + 30
    frame = Frame(width=1000, height=height, low=0, high=1, left=NAME_WIDTH, right=150, top=4)
    parts = []
    bottom = height - frame.bottom
    scale = [(frame.x(value / most), label) for value, label in ticks(0, most, 10)]
    parts += [f'<line x1="{x}" x2="{x}" y1="0" y2="{bottom}" stroke="var(--line)"/>' for x, _ in scale]
    for index, row in enumerate(content):
        y = 4 + index * ROW_HEIGHT
        parts.append(f'<text x="{NAME_WIDTH - 8}" y="{y + 15}" text-anchor="end">{plain(row["name"])}</text>')
        sqnr = most if row["sqnr_db"] is None else max(0.0, row["sqnr_db"])
        width = 0.0 if row["refused"] else round(frame.x(sqnr / most) - NAME_WIDTH, 1)
        parts.append(f'<rect x="{NAME_WIDTH}" y="{y + 3}" width="{width}" height="{ROW_HEIGHT - 8}" fill="var(--bar)"/>')
        cells = rows_of([row])[0].cells
        label = "refused" if row["refused"] else f"{cells[2]} dB, {cells[1]}"
        parts.append(f'<text x="{NAME_WIDTH + width + LETTERS}" y="{y + 15}">{label}</text>')
    parts.append(frame.below(scale))
    return frame.picture("SQNR of the outputs by method", parts)


@dataclass(frozen=True, kw_only=True)
class ComparisonPage:
    """The template's variables."""

    network: str
    version: str
    hardware: str
    inputs: str
    float_accuracy: str
    headings: tuple[str, ...]
    rows: tuple[Row, ...]
    reasons: tuple[str, ...]
    chart: str


def render_comparison(content: Json) -> bytes:
    """The page of a comparison."""
    attempts = content["methods"]
    page = ComparisonPage(
        network=content["network"],
        version=content["hwgen"],
        hardware=content["hardware"],
        inputs=number(content["inputs"]),
        float_accuracy=float_accuracy(attempts).removesuffix("; "),
        headings=HEADINGS,
        rows=rows_of(attempts),
        reasons=tuple(dict.fromkeys(row["unfit"] for row in attempts if row["unfit"])),
        chart=picture(attempts),
    )
    return render("report/compare.html", page).encode()
