"""The layers to look at first, as cards of a page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hwgen.report.pictures import sqnr_picture

Json = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class First:
    """One of the layers to look at first."""

    place: int
    layer: int
    name: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The section of the report that `build --explain` adds."""

    inputs: int
    first: tuple[First, ...]
    chart: str


def first_views(content: Json) -> tuple[First, ...]:
    """Of explain.json, or what report.json holds of it."""
    numbers = {layer["name"]: index for index, layer in enumerate(content["layers"], 1)}
    return tuple(
        First(place=place, layer=numbers[entry["layer"]], name=entry["layer"], sentence=entry["sentence"]) for place, entry in enumerate(content["first"], 1)
    )


def losses_of(report: Json) -> Losses | None:
    """None for a report without."""
    content = report.get("explanation")
    return Losses(inputs=content["layer_inputs"], first=first_views(content), chart=sqnr_picture(content["layers"])) if content else None
