"""The section about mixed precision: the Pareto front as a picture, and what each layer got. Holds numbers, and names that the template escapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwgen.report.numbers import number
from hwgen.report.svg import Frame, ticks

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class LayerFormat:
    """One layer's line: its format, and the outputs' SQNR with each format in this layer alone."""

    name: str
    weights: str
    chosen: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Mixed:
    """The template's variables."""

    budget: str
    summary: str
    cost: str
    chart: str
    formats: tuple[str, ...]
    layers: tuple[LayerFormat, ...]


def mixed_view(content: Json | None) -> Mixed | None:
    """Of what a mixed-precision search found; None where there was none."""
    if content is None:
        return None
    best = next(point for point in content["points"] if point["chosen"])
    summary = f"{number(best['weight_bytes'])} bytes of weights, {number(best['cycles'])} cycles, {best['sqnr_db']:.2f} dB, agreement {best['agreement']:.1%}"
    return Mixed(
        budget=content["budget"]["text"],
        cost="cycles of an inference" if content["budget"]["limit"] == "cycles" else "bytes of weights",
        summary=f"{summary} on {content['held_out']} calibration inputs that were held out",
        chart=pareto_picture(content),
        formats=tuple(content["formats"]),
        layers=tuple(
            LayerFormat(name=layer["name"], weights=number(layer["weights"]), chosen=layer["chosen"], cells=tuple(number(db, 1) for db in layer["alone_db"]))
            for layer in content["layers"]
        ),
    )


def pareto_picture(content: Json) -> str:
    """Every evaluated assignment by cost and SQNR, the front joined by a line, the chosen one and the budget in red."""
    limit, value = content["budget"]["limit"], content["budget"]["value"]
    key = "cycles" if limit == "cycles" else "weight_bytes"
    points = [point for point in content["points"] if point["sqnr_db"] is not None]
    costs, qualities = [float(point[key]) for point in points], [point["sqnr_db"] for point in points]
    if limit == "sqnr":
        qualities.append(value)
    left, right = min(costs), max(costs)
    spare = 0.04 * (right - left) or 1.0
    left, right = left - spare, right + spare
    low, high = min(0.0, min(qualities)), max(qualities) + 2
    frame = Frame(width=1000, height=320, low=low, high=high, top=20)

    def place(cost: float) -> float:
        return frame.x((cost - left) / (right - left))

    parts = [frame.axis(ticks(low, high)), f'<text x="{frame.left - 6}" y="9" text-anchor="end">dB</text>']
    bottom = frame.height - frame.bottom
    if limit == "sqnr":
        y = frame.y(value)
        parts.append(f'<path d="M{frame.left} {y}H{frame.width - frame.right}" stroke="var(--bad)" stroke-dasharray="5 4"/>')
    elif limit != "agreement" and left <= value <= right:
        parts.append(f'<path d="M{place(value)} {frame.top}V{bottom}" stroke="var(--bad)" stroke-dasharray="5 4"/>')
    front = sorted((place(point[key]), frame.y(point["sqnr_db"])) for point in points if point["front"])
    steps = "".join(f"H{x}V{y}" for x, y in front[1:])
    parts.append(f'<path d="M{front[0][0]} {front[0][1]}{steps}" fill="none" stroke="var(--bar)" stroke-width="2"/>' if front else "")
    for point in sorted(points, key=lambda each: (each["chosen"], each["front"])):
        colour = "var(--bad)" if point["chosen"] else "var(--bar)" if point["front"] else "var(--soft)"
        parts.append(f'<circle cx="{place(point[key])}" cy="{frame.y(point["sqnr_db"])}" r="{6 if point["chosen"] else 4}" fill="{colour}"/>')
    parts.append(frame.below([(place(cost), f"{cost:,.0f}") for cost, _ in ticks(left, right, 8)]))
    return frame.picture(f"SQNR over {key.replace('_', ' ')}", parts)
