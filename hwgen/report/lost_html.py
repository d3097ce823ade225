"""The page's table of cycles by use: one stacked bar per layer. Holds numbers, and names that the template escapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hwgen.report.lost import USES

LABELS = {use: use.replace("_", " ").replace("macs", "MACs") for use in USES}
_COLORS = {  # hue, saturation, lightness: work blue, lanes green, array yellow to red, commands violet, waits red, the program grey
    "useful": (212, 60, 48),
    "input_lanes": (150, 45, 42),
    "output_lanes": (165, 40, 55),
    "depthwise": (135, 40, 62),
    "recomputed": (150, 35, 72),
    "without_macs": (180, 35, 72),
    "short_pass": (48, 85, 55),
    "output": (36, 85, 55),
    "window": (24, 80, 52),
    "setup": (270, 45, 60),
    "drain": (290, 40, 70),
    "weight_wait": (355, 65, 52),
    "input_wait": (340, 60, 64),
    "store_wait": (325, 55, 74),
    "program": (215, 10, 60),
}


@dataclass(frozen=True, kw_only=True)
class Part:
    """One piece of a stacked bar; `width` in percent of the longest bar."""

    use: str
    label: str
    width: float
    cycles: str


@dataclass(frozen=True, kw_only=True)
class UseRow:
    """One line: `cells` are the cycles of the uses that the table shows."""

    number: str
    name: str
    cycles: str
    parts: tuple[Part, ...]
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class UseTable:
    """`uses`: key, label and meaning of each column; `style` sets the colours; `rows` end with what lies outside the layers, then the sum."""

    style: str
    uses: tuple[tuple[str, str, str], ...]
    rows: tuple[UseRow, ...]
    share: UseRow


def use_table(report: dict[str, Any]) -> UseTable | None:
    """None before the accelerator was simulated."""
    found = report.get("cycles_by_use")
    if found is None:
        return None
    layers = [(str(number), layer["name"], layer["cycles_by_use"]) for number, layer in enumerate(report["layers"], 1)]
    entries = [*layers, ("", "outside the layers", found["outside_layers"])]
    shown = [use for use in USES if found["total"][use]]
    longest = max(sum(uses.values()) for _, _, uses in entries)
    total = sum(found["total"].values())
    percent = {use: 100 * found["total"][use] / total for use in shown}
    share = _row("", "all", found["total"], shown, total)
    return UseTable(
        style="".join(f"i.{use} {{ background: hsl({h} {s}% {b}%); }}\n" for use, (h, s, b) in _COLORS.items()),
        uses=tuple((use, LABELS[use], USES[use]) for use in shown),
        rows=(*(_row(number, name, uses, shown, longest) for number, name, uses in entries), share),
        share=UseRow(number="", name="share", cycles="100 %", parts=(), cells=tuple(f"{value:.1f} %" for value in percent.values())),
    )


def _row(number: str, name: str, uses: Mapping[str, int], shown: list[str], longest: int) -> UseRow:
    parts = tuple(Part(use=use, label=LABELS[use], width=round(100 * uses[use] / longest, 2), cycles=f"{uses[use]:,}") for use in shown if uses[use])
    cells = tuple(f"{uses[use]:,}" if uses[use] else "" for use in shown)
    return UseRow(number=number, name=name, cycles=f"{sum(uses.values()):,}", parts=parts, cells=cells)
